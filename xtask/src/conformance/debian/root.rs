//! A Debian root as debootstrap makes it, in a disk image: the base system, systemd, udev, a kernel and its initramfs.
//! What is ours in it is one user and one unit.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::conformance::mirrors;
use crate::conformance::outcome::{NotToBeHad, not_to_be_had};
use crate::conformance::packages::{self, quiet};

/// The unit that runs what we bring.
const UNIT: &str = include_str!("../../../conformance/debian/modmem-conformance.service");
const UNIT_NAME: &str = "modmem-conformance.service";
/// What is asked for beyond Debian's base system: without a kernel a root does not boot.
const PACKAGES: &str = "linux-image-amd64,initramfs-tools,dbus";
/// Of the disk; a file with holes.
const SIZE: &str = "3G";

/// What is needed to boot it.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) image: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// The package of the kernel, which is what the machine is compared with.
    pub(super) package: PathBuf,
}

/// Makes a root of a suite below `work`, unless that was done before.
pub(super) fn of(suite: &str, work: &Path) -> Result<Root> {
    let folder = work.join(format!("debian-{suite}"));
    let root = Root {
        image: folder.join("root.img"),
        kernel: folder.join("vmlinuz"),
        initramfs: folder.join("initrd.img"),
        package: folder.join("kernel.deb"),
    };
    let (done, what) = (folder.join("made"), format!("{PACKAGES}\n{SIZE}\n{UNIT}"));
    if std::fs::read_to_string(&done).is_ok_and(|known| known == what) {
        return Ok(root);
    }
    packages::need("debootstrap", &["debootstrap", "debian-archive-keyring"])?;
    packages::need("mke2fs", &["e2fsprogs"])?;
    if !is_root()? {
        return Err(NotToBeHad("a Debian root is made by root only (chroot)".into()).into());
    }
    println!("conformance: making a Debian root of {suite}");
    let start = Instant::now();
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let tree = folder.join("tree");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.arg(format!("--include={PACKAGES}"));
    if let Some(keys) = mirrors::keys() {
        debootstrap.arg(format!("--keyring={}", keys.display()));
    }
    debootstrap.arg(suite).arg(&tree).arg(mirrors::main()?);
    quiet(&mut debootstrap).map_err(not_to_be_had(&format!("a Debian root of {suite}")))?;
    change(&tree)?;
    take_kernel(&tree, &root)?;
    let mut image = Command::new("mke2fs");
    image.args(["-q", "-t", "ext4", "-L", "debian", "-d"]).arg(&tree).arg(&root.image).arg(SIZE);
    quiet(&mut image)?;
    std::fs::remove_dir_all(&tree).with_context(|| tree.display().to_string())?;
    std::fs::write(&done, what)?;
    println!("conformance: made in {} s", start.elapsed().as_secs());
    Ok(root)
}

/// What somebody who installs Debian would say, and our unit.
fn change(tree: &Path) -> Result<()> {
    quiet(Command::new("chroot").arg(tree).args(["useradd", "--create-home", "--shell", "/bin/sh", "user"]))?;
    let etc = tree.join("etc");
    std::fs::write(etc.join("hostname"), "debian\n")?;
    std::fs::write(etc.join("fstab"), "LABEL=debian / ext4 errors=remount-ro 0 1\n")?;
    let units = etc.join("systemd/system");
    std::fs::write(units.join(UNIT_NAME), UNIT)?;
    let wanted = units.join("multi-user.target.wants");
    std::fs::create_dir_all(&wanted)?;
    symlink(Path::new("..").join(UNIT_NAME), wanted.join(UNIT_NAME))?;
    Ok(())
}

/// Kernel, initramfs, and the package: they stay beside the image, and the packages in the root's cache go.
fn take_kernel(tree: &Path, root: &Root) -> Result<()> {
    let boot = tree.join("boot");
    std::fs::copy(only(&boot, "vmlinuz-")?, &root.kernel)?;
    std::fs::copy(only(&boot, "initrd.img-")?, &root.initramfs)?;
    let archives = tree.join("var/cache/apt/archives");
    std::fs::copy(only(&archives, "linux-image-6")?, &root.package)?;
    for entry in std::fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The only file of a folder whose name begins so.
fn only(folder: &Path, beginning: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let begins =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning));
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(begins).collect();
    ensure!(found.len() == 1, "{} has {} files {beginning}*", folder.display(), found.len());
    Ok(found.remove(0))
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("cannot run id")?;
    Ok(output.stdout.trim_ascii() == b"0")
}
