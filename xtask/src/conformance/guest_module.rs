//! Modules of our own, built for exactly the kernel that is booted: one that waits in its init function, and those that
//! a boot asks for by name.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::arch::{Arch, Recorder};
use super::outcome::NotToBeHad;
use super::packages::{self, Apt};

/// The module's name.
pub(super) const NAME: &str = "modmem_waits";
/// A livepatch, for kernels that take one.
const LIVEPATCH: &str = "modmem_livepatch";
/// One that hooks another module in every way that the kernel offers.
const HOOKS: &str = "modmem_hooks";
/// One that maps a page of code that no list has.
const PAGE: &str = "modmem_page";
/// Those that a boot asks for by name, beside the kernel's own.
pub(super) const ASKED_FOR: [&str; 3] = [LIVEPATCH, HOOKS, PAGE];
/// Their sources.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/module");

/// Options of the configuration that older compilers than the kernel's do not know, and that a module can do without.
const OPTIONAL: [&str; 1] = ["CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT"];

/// Builds the module below `work`, with the kernel's headers or build folder; gives its file.
pub(super) fn build(arch: &Arch, release: &str, headers: &Path, work: &Path) -> Result<Vec<u8>> {
    packages::need("make", &["make"])?;
    packages::need("cc", &["gcc", "libc6-dev"])?;
    let folder = work.join(format!("{NAME}-{release}"));
    std::fs::create_dir_all(&folder)?;
    let sources = [NAME, LIVEPATCH, HOOKS, PAGE].map(|name| format!("{name}.c"));
    for name in ["Kbuild"].into_iter().chain(sources.iter().map(String::as_str)) {
        let (from, to) = (Path::new(SOURCES).join(name), folder.join(name));
        let contents = std::fs::read(&from).with_context(|| from.display().to_string())?;
        // make goes by times: a source that has not changed keeps its own.
        if std::fs::read(&to).ok().as_ref() != Some(&contents) {
            std::fs::write(&to, contents)?;
        }
    }
    let mut make = Command::new("make");
    make.arg("-C").arg(headers).arg(format!("M={}", folder.display())).arg("modules");
    if let Recorder::Dumper(cross) = &arch.recorder {
        // The compiler that is here, whatever the kernel was built with.
        make.args(cross.make_variables()).arg(format!("CC={}", cross.compiler()));
        make.args(OPTIONAL.map(|option| format!("{option}=")));
    }
    packages::quiet(&mut make).with_context(|| format!("{NAME} cannot be built for {release}"))?;
    built(NAME, release, work)
}

/// The file of a module that was built for this release.
pub(super) fn built(name: &str, release: &str, work: &Path) -> Result<Vec<u8>> {
    let file = work.join(format!("{NAME}-{release}")).join(format!("{name}.ko"));
    std::fs::read(&file).with_context(|| file.display().to_string())
}

/// The folder in which modules for this release are built: its headers package, unpacked below `work`.
pub(super) fn headers(arch: &Arch, release: &str, work: &Path) -> Result<PathBuf> {
    let package = format!("linux-headers-{release}");
    let apt = Apt::of(arch, work)?;
    let needed = apt.dependencies(&package)?;
    let needed = |part: &str| -> Vec<&str> {
        needed.iter().map(String::as_str).filter(|name| name.starts_with(part)).collect()
    };
    // Its own parts; the compiler and the kernel are not unpacked. The programs among them run here, whatever machine
    // the kernel is for.
    let mut parts = needed("linux-headers-");
    parts.push(&package);
    let programs = *needed("linux-kbuild-").first().context("headers without programs")?;
    let there = programs_here(programs)?;
    let root = packages::unpacked(&work.join(&package), &[(&apt, &parts), (&Apt::host(), &[&there])])?;
    let root = root.canonicalize()?;
    if there != programs {
        let library = root.join("usr/lib");
        let _ = std::fs::remove_file(library.join(programs));
        std::os::unix::fs::symlink(&there, library.join(programs))?;
    }
    let folder = root.join("usr/src").join(&package);
    // The package's makefile names the other package where it would be installed.
    let makefile = folder.join("Makefile");
    let text = std::fs::read_to_string(&makefile).with_context(|| makefile.display().to_string())?;
    let here = format!("include {}/usr/src/", root.display());
    if text.contains("include /usr/src/") {
        std::fs::write(&makefile, text.replace("include /usr/src/", &here))?;
    }
    // With it, BTF would be made, by a program that is not there. The module does without.
    let _ = std::fs::remove_file(folder.join("vmlinux"));
    Ok(folder)
}

/// The package of programs for building modules: the kernel's own, or, where this machine's suite does not have it, one
/// of the same series.
fn programs_here(package: &str) -> Result<String> {
    let host = Apt::host();
    if host.dependencies(package).is_ok() {
        return Ok(package.to_owned());
    }
    let series: Vec<&str> = package.splitn(3, '.').take(2).collect();
    let other = host.last(&format!("{}.", series.join(".")));
    other.ok_or_else(|| NotToBeHad(format!("package {package}, or another of its series")).into())
}
