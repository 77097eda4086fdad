//! Names become modules, and modules become a plan in the right order.

mod support;

use modmem_linux::{Error, Kernel, LoadPlan, ModuleFile, Why};
use std::fs;
use support::*;
use tempfile::TempDir;

struct Opened {
    kernel: Kernel,
    phases: std::sync::Arc<Phases>,
    folder: TempDir,
}

fn open(files: &[(&str, Vec<u8>)]) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let (mut options, phases) = options(folder.path());
    options.sample = sample(files);
    Opened { kernel: Kernel::open(&["sample"], &options).unwrap(), phases, folder }
}

fn with(depends: &str, more: &[&str]) -> Vec<u8> {
    let depends = format!("depends={depends}");
    module(&[&[depends.as_str()], more].concat(), &[], &[])
}

fn order(plan: &LoadPlan) -> Vec<&str> {
    plan.modules.iter().map(|planned| planned.module.name()).collect()
}

fn found(kernel: &Kernel, name: &str) -> Vec<String> {
    kernel.find(name).unwrap().iter().map(|module| module.name().to_owned()).collect()
}

#[test]
fn dependencies_come_first_and_say_for_whom() {
    let opened = open(&[
        ("kernel/fs/ext4.ko", with("jbd2,crc16", &[])),
        ("kernel/fs/jbd2.ko.xz", xz(&with("low-level", &[]))),
        ("kernel/lib/crc16.ko.gz", gzip(&with("", &[]))),
        ("kernel/low-level.ko.zst", zstd(&with("", &[]))),
    ]);
    let plan = opened.kernel.load_order(&["ext4", "jbd2"]).unwrap();
    assert_eq!(order(&plan), ["low_level", "jbd2", "crc16", "ext4"]);
    let why: Vec<String> = plan.modules.iter().map(|planned| planned.why.to_string()).collect();
    assert_eq!(why, ["needed by jbd2", "requested", "needed by ext4", "requested"]);
    assert_eq!(plan.modules[1].contents().unwrap(), with("low-level", &[]));
    assert!(plan.missing.is_empty());
    assert!(opened.phases.0.lock().unwrap().is_empty(), "nothing but the modules concerned was read");
}

#[test]
fn soft_dependencies_stand_before_and_after_and_may_be_absent() {
    let opened = open(&[
        (
            "kernel/fs/f.ko",
            with("base", &["softdep=pre: hash gone builtin post: late", "softdep=pre: ignored"]),
        ),
        ("kernel/base.ko", with("", &[])),
        ("kernel/crypto/hash-a.ko", with("", &["alias=hash"])),
        ("kernel/crypto/hash-b.ko", with("base", &["alias=hash"])),
        ("kernel/late.ko", with("deep", &[])),
        ("kernel/deep.ko", with("", &[])),
        ("kernel/ignored.ko", with("", &[])),
        ("modules.builtin", b"kernel/builtin.ko\n".to_vec()),
    ]);
    let plan = opened.kernel.load_order(&["f"]).unwrap();
    assert_eq!(order(&plan), ["base", "hash_a", "hash_b", "f", "deep", "late"]);
    assert_eq!(plan.modules[1].why, Why::SoftDependencyOf("f".to_owned()));
    assert_eq!(plan.modules[4].why, Why::DependencyOf("late".to_owned()));
}

#[test]
fn soft_dependencies_in_a_circle_end() {
    let opened = open(&[
        ("kernel/a.ko", with("", &["softdep=pre: b"])),
        ("kernel/b.ko", with("a", &["softdep=post: a"])),
    ]);
    assert_eq!(order(&opened.kernel.load_order(&["a"]).unwrap()), ["a", "b"]);
}

#[test]
fn depmod_s_files_are_used_where_they_are() {
    let opened = open(&[
        ("kernel/a.ko", with("wrong", &[])),
        ("kernel/b.ko", with("", &[])),
        ("kernel/c.ko", with("", &[])),
        ("updates/c.ko", with("", &[])),
        (
            "modules.dep",
            b"kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko:\n".to_vec(),
        ),
        ("modules.softdep", b"softdep b pre: nothing\n".to_vec()),
        ("modules.alias", b"alias pci:v0000*d*sv* a\nalias fs-b b\n".to_vec()),
    ]);
    let plan = opened.kernel.load_order(&["pci:v00008086d1sv2"]).unwrap();
    assert_eq!(order(&plan), ["c", "b", "a"]);
    assert_eq!(plan.modules[0].module.path(), "kernel/c.ko", "the one in modules.dep");
    assert_eq!(found(&opened.kernel, "fs-b"), ["b"]);
}

#[test]
fn without_depmod_a_module_in_updates_goes_before_the_kernel_s_own() {
    let opened = open(&[("kernel/c.ko", with("", &[])), ("updates/c.ko", with("", &[]))]);
    assert_eq!(opened.kernel.module("c").unwrap().path(), "updates/c.ko");
}

#[test]
fn a_module_that_does_not_say_what_it_needs_is_asked_by_its_symbols() {
    let opened = open(&[
        ("kernel/user.ko", module(&["license=GPL"], &[], &["lib_call", "printk"])),
        ("kernel/lib.ko", module(&["depends="], &["lib_call"], &["printk"])),
    ]);
    assert_eq!(order(&opened.kernel.load_order(&["user"]).unwrap()), ["lib", "user"]);
    assert_eq!(opened.kernel.exporters()["lib_call"].name(), "lib");
}

#[test]
fn missing_dependencies_are_listed_and_circles_are_errors() {
    let opened = open(&[
        ("kernel/a.ko", with("gone,builtin", &[])),
        ("kernel/x.ko", with("y", &[])),
        ("kernel/y.ko", with("z", &[])),
        ("kernel/z.ko", with("y", &[])),
        ("modules.builtin", b"kernel/builtin.ko\n".to_vec()),
    ]);
    let plan = opened.kernel.load_order(&["a"]).unwrap();
    assert_eq!(order(&plan), ["a"]);
    assert_eq!(plan.missing.len(), 1);
    assert_eq!((&*plan.missing[0].module, &*plan.missing[0].needs), ("a", "gone"));
    let error = opened.kernel.load_order(&["x"]).unwrap_err().to_string();
    assert_eq!(error, "modules depend on each other in a circle: y -> z -> y");
}

#[test]
fn a_chain_of_thousands_needs_no_stack() {
    let count = 20_000;
    let mut dependencies = String::new();
    let mut files = Vec::new();
    for at in 0..count {
        dependencies += &format!("kernel/m{at}.ko: kernel/m{}.ko\n", at + 1);
        files.push((format!("kernel/m{at}.ko"), Vec::new()));
    }
    files.push(("modules.dep".to_owned(), dependencies.into_bytes()));
    files.push(("modules.softdep".to_owned(), Vec::new()));
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, data)| (name.as_str(), data.clone())).collect();
    let plan = open(&files).kernel.load_order(&["m0"]).unwrap();
    assert_eq!(plan.modules.len(), count);
    assert_eq!(plan.modules[0].module.name(), format!("m{}", count - 1));
}

#[test]
fn modules_from_elsewhere_find_each_other_and_the_kernel_s() {
    let opened = open(&[("kernel/base.ko", with("", &[])), ("kernel/first.ko", with("", &[]))]);
    let path = |name: &str| opened.folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("first.ko"), with("base", &[])).unwrap();
    fs::write(path("second.ko.xz"), xz(&with("first", &[]))).unwrap();
    let plan = opened.kernel.load_order(&[&path("second.ko.xz"), &path("first.ko")]).unwrap();
    assert_eq!(order(&plan), ["base", "first", "second"]);
    assert!(plan.modules[1].module.is_outside());
    assert!(matches!(opened.kernel.find("./nowhere/x.ko"), Err(Error::Read { .. })));
}

#[test]
fn names_are_understood_as_modprobe_does() {
    let opened = open(&[
        ("kernel/snd-hda-intel.ko.xz", xz(&with("", &["alias=pci:v00008086d*", "alias=net-pf-[0-9]"]))),
        ("modules.builtin", b"kernel/lib/crc32.ko\n".to_vec()),
        ("modules.builtin.modinfo", b"crc32.alias=crypto-crc32-lib\0".to_vec()),
    ]);
    let kernel = &opened.kernel;
    for name in [
        "snd-hda-intel",
        "snd_hda_intel",
        "snd-hda-intel.ko",
        "kernel/snd-hda-intel.ko",
        "pci:v00008086d1",
        "net-pf-7",
    ] {
        assert_eq!(found(kernel, name), ["snd_hda_intel"], "{name}");
    }
    assert!(matches!(kernel.find("crc32"), Err(Error::BuiltIn { .. })));
    assert!(matches!(kernel.find("crypto_crc32_lib"), Err(Error::BuiltIn { .. })));
    let error = kernel.find("snd-hda-intle").unwrap_err().to_string();
    assert_eq!(error, "no module \"snd-hda-intle\" in 6.12.1-test; did you mean snd_hda_intel?");
}

#[test]
fn a_scan_happens_once_for_a_kernel() {
    let opened = open(&[("kernel/a.ko", with("", &["alias=thing:*"]))]);
    let (mut options, phases) = options(opened.folder.path());
    options.sample = sample(&[("kernel/a.ko", with("", &["alias=thing:*"]))]);
    assert_eq!(found(&opened.kernel, "thing:1"), ["a"]);
    assert!(!opened.phases.0.lock().unwrap().is_empty());
    let again = Kernel::open(&["sample"], &options).unwrap();
    assert_eq!(found(&again, "thing:2"), ["a"]);
    assert!(phases.0.lock().unwrap().is_empty());
}

#[test]
fn a_scan_that_could_not_read_everything_is_told_and_not_kept() {
    let opened =
        open(&[("kernel/a.ko", with("", &["alias=thing:*"])), ("kernel/odd.ko", b"no ELF".to_vec())]);
    assert_eq!(found(&opened.kernel, "thing:1"), ["a"]);
    let remarks = opened.kernel.remarks();
    assert!(remarks.len() == 1 && remarks[0].contains("1 of 2 modules could not be read"), "{remarks:?}");
    assert!(remarks[0].contains("kernel/odd.ko: no ELF file"), "{remarks:?}");
    assert!(!opened.folder.path().join("cache/index").exists(), "it would pass for whole");
}

#[test]
fn files_of_no_use_are_told() {
    let files = [("kernel/a.ko", with("", &[])), ("symvers.gz", b"\x1f\x8bno gzip".to_vec())];
    let opened = open(&files);
    assert_eq!(opened.kernel.remarks(), [""; 0]);
    assert_eq!(opened.kernel.module_symvers(), None);
    let remarks = opened.kernel.remarks();
    assert!(remarks[0].starts_with("not used, since it cannot be read: Module.symvers"), "{remarks:?}");
}

#[test]
fn damaged_modules_are_named() {
    let mut packed = xz(&with("", &[]));
    packed.truncate(packed.len() / 2);
    let opened = open(&[("kernel/bad.ko.xz", packed), ("kernel/odd.ko", b"no ELF".to_vec())]);
    // Planning goes on, so that one damaged module of many costs only itself; loading it says what is wrong.
    let plan = opened.kernel.load_order(&["bad"]).unwrap();
    let error = plan.modules[0].contents().unwrap_err().to_string();
    assert!(error.starts_with("kernel/bad.ko.xz: truncated or corrupt xz data"), "{error}");
    assert_eq!(
        order(&opened.kernel.load_order(&["odd"]).unwrap()),
        ["odd"],
        "the loader will say what is wrong"
    );
    let gone = ModuleFile::outside("/nowhere/gone.ko");
    let plan = opened.kernel.load_order_of(&[gone]).unwrap();
    assert!(matches!(plan.modules[0].contents(), Err(Error::Read { .. })));
}
