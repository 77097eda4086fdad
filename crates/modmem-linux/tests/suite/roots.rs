//! Roots of other systems: links in them lead nowhere else, and their configuration is theirs.

use crate::support::*;
use modmem_linux::{Error, Kernel};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

struct Root {
    folder: TempDir,
}

impl Root {
    fn new() -> Root {
        Root { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn write(&self, name: &str, data: impl AsRef<[u8]>) -> &Root {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
        self
    }

    fn link(&self, name: &str, target: impl AsRef<Path>) -> &Root {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    fn open(&self) -> Kernel {
        self.open_at("")
    }

    fn open_at(&self, name: &str) -> Kernel {
        let path = self.path().join(name);
        Kernel::open(&[path.to_str().unwrap()], &options(self.folder.path()).0).unwrap()
    }
}

const MODULES: &str = "lib/modules/6.12.1-test";

#[test]
fn links_of_weak_updates_are_followed_inside_the_root() {
    let root = Root::new();
    fs::write(root.folder.path().join("host.ko"), module(&["depends=", "license=host"], &[], &[])).unwrap();
    root.write("lib/modules/6.12.0-older/extra/hello.ko", needing(""))
        .write(&format!("{MODULES}/kernel/a.ko"), needing(""))
        .link(&format!("{MODULES}/weak-updates/hello.ko"), "/lib/modules/6.12.0-older/extra/hello.ko")
        .link(&format!("{MODULES}/weak-updates/far.ko"), "../../../../../../../../host.ko")
        .link(&format!("{MODULES}/weak-updates/host.ko"), root.folder.path().join("host.ko"));
    // The older kernel is none any more: only the vendor's module is left of it.
    let kernel = root.open();
    assert_eq!(kernel.release(), RELEASE);
    assert_eq!(kernel.module("hello").unwrap().read().unwrap(), needing(""));
    assert!(kernel.module("far").is_none() && kernel.module("host").is_none());
    let remarks = kernel.remarks();
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(remarks.iter().all(|remark| remark.contains("a link to where nothing is in")), "{remarks:?}");
}

#[test]
fn folders_may_be_links_too() {
    let root = Root::new();
    let store = "nix/store/abc-linux";
    root.write(&format!("{store}/{MODULES}/kernel/fs/a.ko"), needing(""))
        .write(&format!("{store}/boot/config"), "CONFIG_X=y\n")
        .write(&format!("{MODULES}/modules.order"), "kernel/fs/a.ko\n")
        .link(&format!("{MODULES}/kernel"), format!("/{store}/{MODULES}/kernel"))
        .link("boot/config-6.12.1-test", format!("/{store}/boot/config"))
        .link(&format!("{MODULES}/build"), "/");
    let kernel = root.open();
    assert_eq!(kernel.module("a").unwrap().path(), "kernel/fs/a.ko");
    assert_eq!(kernel.config().unwrap(), b"CONFIG_X=y\n");
    assert_eq!(kernel.modules().count(), 1, "build is not looked into");
    assert_eq!(kernel.remarks(), [""; 0]);
}

#[test]
fn the_modules_folder_itself_may_be_a_link_but_not_out_of_the_root() {
    let inside = Root::new();
    inside.write("usr/lib/modules/6.12.1-test/kernel/a.ko", needing("")).link("lib", "/usr/lib");
    assert_eq!(inside.open().modules().count(), 1);

    let host = Root::new();
    host.write("modules/6.12.1-test/kernel/a.ko", needing(""));
    let outside = Root::new();
    outside.write("etc/hostname", "x").link("lib/modules", host.path().join("modules"));
    let path = outside.path();
    let opened = Kernel::open(&[path.to_str().unwrap()], &options(outside.folder.path()).0);
    assert!(matches!(opened, Err(Error::NoKernel { .. })), "{opened:?}");
}

#[test]
fn configuration_is_the_root_s_and_never_the_host_s() {
    let root = Root::new();
    let host = root.folder.path().join("host.conf");
    fs::write(&host, "options a host=1\n").unwrap();
    root.write(&format!("{MODULES}/kernel/a.ko"), needing(""))
        .write("etc/modprobe.d/own.conf", "options a own=1\nnonsense\n")
        .write("etc/modprobe.d/ignored.txt", "options a ignored=1\n")
        .write("data/linked.conf", "options a linked=1\n")
        .write("etc/kernel/cmdline", "ro a.line=1\n")
        .link("etc/modprobe.d/linked.conf", "/data/linked.conf")
        .link("etc/modprobe.d/host.conf", &host);
    for kernel in [root.open(), root.open_at(MODULES)] {
        let plan = kernel.load_order(&["a"]).unwrap();
        assert_eq!(plan.modules[0].options, ["linked=1", "own=1", "line=1"]);
        let bad = "etc/modprobe.d/own.conf line 2: \"nonsense\" is no command of it";
        assert!(kernel.remarks().iter().any(|remark| remark == bad), "{:?}", kernel.remarks());
    }
    let mut options = options(root.folder.path()).0;
    options.config = false;
    let kernel = Kernel::open(&[root.path().to_str().unwrap()], &options).unwrap();
    assert!(kernel.load_order(&["a"]).unwrap().modules[0].options.is_empty());
}
