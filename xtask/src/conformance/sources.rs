//! What no package has for a machine, built from Debian's sources: a kernel, and busybox.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::arch::{Arch, Cross};
use super::packages::{self, Apt, quiet};

/// The configuration of the 32-bit PowerPC kernel, as `make savedefconfig` writes it: a PowerMac's, with text below the
/// kernel and data in vmalloc, and most file systems and network protocols as modules.
const PPC32: &str = include_str!("../../conformance/ppc32.config");

/// A kernel that was built here.
#[derive(Debug)]
pub(super) struct Built {
    /// The folder that modules are built with.
    pub(super) tree: PathBuf,
    /// Image, configuration and modules, as they would be installed.
    pub(super) root: PathBuf,
}

/// Builds the machine's kernel, unless that was done before.
pub(super) fn kernel(version: &str, arch: &Arch, cross: &Cross, work: &Path) -> Result<Built> {
    let config = match arch.name {
        "ppc32" => PPC32,
        name => bail!("there is no configuration for a kernel of {name}"),
    };
    let package = format!("linux-source-{version}");
    let folder = work.join(format!("linux-{version}-{arch}"));
    let built = Built { tree: folder.join(&package), root: folder.join("root") };
    let done = folder.join("built");
    if std::fs::read_to_string(&done).is_ok_and(|known| known == config) {
        return Ok(built);
    }
    packages::need(&cross.compiler(), cross.packages)?;
    for (program, package) in
        [("make", "make"), ("flex", "flex"), ("bison", "bison"), ("bc", "bc"), ("xz", "xz-utils")]
    {
        packages::need(program, &[package])?;
    }
    packages::need("cc", &["gcc", "libc6-dev"])?;
    println!("conformance: building Linux {version} for {arch}");
    let start = Instant::now();
    if !built.tree.join("Makefile").exists() {
        let sources = packages::unpacked(&work.join(&package), &[(&Apt::host(), &[&package])])?;
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let archive = sources.join(format!("usr/src/{package}.tar.xz"));
        quiet(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&folder))?;
    }
    std::fs::write(built.tree.join(".config"), config)?;
    make(&built.tree, cross, &["olddefconfig"])?;
    make(&built.tree, cross, &["vmlinux", "modules"])?;
    let root = built.root.canonicalize().or_else(|_| std::path::absolute(&built.root))?;
    make(&built.tree, cross, &["modules_install", &format!("INSTALL_MOD_PATH={}", root.display())])?;
    let release = built.tree.join("include/config/kernel.release");
    let release = std::fs::read_to_string(&release).with_context(|| release.display().to_string())?;
    let boot = built.root.join("boot");
    std::fs::create_dir_all(&boot)?;
    for (from, to) in [("vmlinux", "vmlinux"), (".config", "config"), ("System.map", "System.map")] {
        std::fs::copy(built.tree.join(from), boot.join(format!("{to}-{}", release.trim())))?;
    }
    std::fs::write(&done, config)?;
    println!("conformance: built in {} s", start.elapsed().as_secs());
    Ok(built)
}

/// Builds busybox, with everything in it that it usually has.
pub(super) fn busybox(arch: &Arch, cross: &Cross, work: &Path) -> Result<Vec<u8>> {
    let done = work.join(format!("busybox-{arch}"));
    if !done.exists() {
        packages::need(&cross.compiler(), cross.packages)?;
        packages::need("make", &["make"])?;
        packages::need("bzip2", &["bzip2"])?;
        packages::need("cc", &["gcc", "libc6-dev"])?;
        let tree = Apt::source("busybox", work)?;
        make(&tree, cross, &["defconfig"])?;
        let config = tree.join(".config");
        let text = std::fs::read_to_string(&config)?;
        let text = text
            .replace("# CONFIG_STATIC is not set", "CONFIG_STATIC=y")
            // It does not build with the headers of newer kernels.
            .replace("CONFIG_TC=y", "# CONFIG_TC is not set");
        std::fs::write(&config, text)?;
        make(&tree, cross, &["busybox"])?;
        std::fs::copy(tree.join("busybox"), &done)?;
    }
    std::fs::read(&done).with_context(|| done.display().to_string())
}

fn make(folder: &Path, cross: &Cross, targets: &[&str]) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("make");
    make.arg("-C").arg(folder).arg(format!("-j{jobs}")).args(cross.make_variables()).args(targets);
    quiet(&mut make)
}
