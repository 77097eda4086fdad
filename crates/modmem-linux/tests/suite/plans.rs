//! Names become modules, and modules become a plan in the right order.

use crate::support::*;
use modmem_linux::{Error, Kernel, LoadPlan, ModuleFile, Why};
use std::fs;
use tempfile::TempDir;

struct Opened {
    kernel: Kernel,
    phases: std::sync::Arc<Phases>,
    folder: TempDir,
}

fn open(files: &[(&str, Vec<u8>)]) -> Opened {
    open_with(files, |_| {})
}

fn open_with(files: &[(&str, Vec<u8>)], change: impl FnOnce(&mut modmem_linux::OpenOptions)) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let (mut options, phases) = options(folder.path());
    options.sample = sample(files);
    change(&mut options);
    Opened { kernel: Kernel::open(&["sample"], &options).unwrap(), phases, folder }
}

/// A module that exports its own name, and leaves those undefined that it needs.
fn named(name: &str, needs: &str, more: &[&str]) -> Vec<u8> {
    let needs: Vec<&str> = needs.split(',').filter(|name| !name.is_empty()).collect();
    let depends = format!("depends={}", needs.join(","));
    module(&[&[depends.as_str()], more].concat(), &[name], &needs)
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
        ("kernel/fs/ext4.ko", named("ext4", "jbd2,crc16", &[])),
        ("kernel/fs/jbd2.ko.xz", xz(&named("jbd2", "low_level", &[]))),
        ("kernel/lib/crc16.ko.gz", gzip(&named("crc16", "", &[]))),
        ("kernel/low-level.ko.zst", zstd(&named("low_level", "", &[]))),
    ]);
    let plan = opened.kernel.load_order(&["ext4", "jbd2"]).unwrap();
    // crc16 is pushed last, and so numbered first: its line is loaded backwards.
    assert_eq!(order(&plan), ["low_level", "jbd2", "crc16", "ext4"]);
    let why: Vec<String> = plan.modules.iter().map(|planned| planned.why.to_string()).collect();
    assert_eq!(why, ["needed by jbd2", "requested", "needed by ext4", "requested"]);
    assert_eq!(plan.modules[1].contents().unwrap(), named("jbd2", "low_level", &[]));
    assert!(plan.missing.is_empty());
}

#[test]
fn the_order_of_symbols_counts_and_not_what_depends_says() {
    let opened = open(&[
        ("kernel/a.ko", module(&["depends=gone,c"], &[], &["b", "c", "printk"])),
        ("kernel/b.ko", named("b", "", &[])),
        ("kernel/c.ko", named("c", "", &[])),
        ("kernel/other.ko", named("c", "", &[])),
        ("modules.order", b"kernel/a.ko\nkernel/other.ko\nkernel/c.ko\nkernel/b.ko\n".to_vec()),
    ]);
    let plan = opened.kernel.load_order(&["a"]).unwrap();
    assert_eq!(order(&plan), ["b", "c", "a"], "of two that export c the last one of the array");
    assert_eq!((&*plan.missing[0].module, &*plan.missing[0].needs), ("a", "gone"));
}

#[test]
fn soft_dependencies_stand_before_and_after_and_may_be_absent() {
    let opened = open(&[
        (
            "kernel/fs/f.ko",
            named("f", "base", &["softdep=pre:\thash gone builtin post: late", "softdep=pre: ignored"]),
        ),
        ("kernel/base.ko", named("base", "", &[])),
        ("kernel/crypto/hash-a.ko", named("hash_a", "", &["alias=hash"])),
        ("kernel/crypto/hash-b.ko", named("hash_b", "base", &["alias=hash"])),
        ("kernel/late.ko", named("late", "deep", &[])),
        ("kernel/deep.ko", named("deep", "", &[])),
        ("kernel/ignored.ko", named("ignored", "", &[])),
        ("modules.builtin", b"kernel/builtin.ko\n".to_vec()),
        ("modules.order", b"kernel/crypto/hash-a.ko\nkernel/crypto/hash-b.ko\n".to_vec()),
    ]);
    let plan = opened.kernel.load_order(&["f"]).unwrap();
    assert_eq!(order(&plan), ["base", "hash_a", "hash_b", "f", "deep", "late"]);
    assert_eq!(plan.modules[1].why, Why::SoftDependencyOf("f".to_owned()));
    assert_eq!(plan.modules[4].why, Why::DependencyOf("late".to_owned()));
}

#[test]
fn soft_dependencies_in_a_circle_end() {
    let opened = open(&[
        ("kernel/a.ko", named("a", "", &["softdep=pre: b"])),
        ("kernel/b.ko", named("b", "a", &["softdep=post: a"])),
    ]);
    assert_eq!(order(&opened.kernel.load_order(&["a"]).unwrap()), ["a", "b"]);
}

#[test]
fn depmod_s_files_are_used_where_they_are() {
    let opened = open(&[
        ("kernel/a.ko", named("a", "wrong", &[])),
        ("kernel/b.ko", named("b", "", &[])),
        ("kernel/c.ko", named("c", "", &[])),
        ("updates/c.ko", named("c", "", &[])),
        (
            "modules.dep",
            b"kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko:\n".to_vec(),
        ),
        ("modules.softdep", b"softdep b pre: nothing\n".to_vec()),
        ("modules.alias", b"alias pci:v0000*d*sv* a\nalias fs-b b\n".to_vec()),
        ("modules.symbols", b"alias symbol:of_b b\n".to_vec()),
    ]);
    let plan = opened.kernel.load_order(&["pci:v00008086d1sv2"]).unwrap();
    assert_eq!(order(&plan), ["c", "b", "a"]);
    assert_eq!(plan.modules[0].module.path(), "kernel/c.ko", "the one in modules.dep");
    assert_eq!(found(&opened.kernel, "fs-b"), ["b"]);
    assert_eq!(found(&opened.kernel, "symbol:of_b"), ["b"]);
    assert!(opened.phases.0.lock().unwrap().is_empty(), "nothing was scanned");
    let remarks = opened.kernel.remarks();
    assert_eq!(
        remarks,
        ["1 module has several files, of which one is taken: c (kernel/c.ko, not updates/c.ko)"]
    );
}

#[test]
fn modules_dep_alone_is_enough_and_a_file_that_is_not_there_is_told() {
    let opened = open(&[
        ("kernel/a.ko", named("a", "b", &["softdep=pre: c"])),
        ("kernel/b.ko", named("b", "", &[])),
        ("kernel/c.ko", named("c", "", &[])),
        ("modules.dep", b"kernel/a.ko: kernel/c.ko kernel/gone.ko\n".to_vec()),
    ]);
    let plan = opened.kernel.load_order(&["a"]).unwrap();
    assert_eq!(order(&plan), ["c", "a"]);
    assert_eq!((&*plan.missing[0].module, &*plan.missing[0].needs), ("a", "kernel/gone.ko"));
}

#[test]
fn without_depmod_a_module_in_updates_goes_before_the_kernel_s_own() {
    let opened = open(&[("kernel/c.ko", named("c", "", &[])), ("updates/c.ko", named("c", "", &[]))]);
    assert_eq!(opened.kernel.module("c").unwrap().path(), "updates/c.ko");
    assert_eq!(opened.kernel.modules().count(), 1);
    assert!(opened.kernel.remarks()[0].contains("c (updates/c.ko, not kernel/c.ko)"));
    let plan = opened.kernel.load_order(&["kernel/c.ko"]).unwrap();
    assert_eq!(plan.modules[0].module.path(), "kernel/c.ko", "who asks for it by path gets it");
}

#[test]
fn depmod_d_says_which_file_counts_and_where_others_are() {
    let files = [
        ("kernel/c.ko", named("c", "", &[])),
        ("extra/c.ko", named("c", "", &[])),
        ("updates/c.ko", named("c", "", &[])),
        ("kernel/a.ko", named("a", "ext", &[])),
        ("kernel/old/z.ko", named("z", "", &[])),
        ("/lib/modules-external/sub/ext.ko", named("ext", "", &[])),
        ("/lib/modules-external/sub/c.ko", named("c", "", &[])),
        (
            "/etc/depmod.d/x.conf",
            b"search extra updates built-in external\nexternal * /lib/modules-external\nexclude old\n"
                .to_vec(),
        ),
    ];
    let opened = open(&files);
    assert_eq!(opened.kernel.module("c").unwrap().path(), "extra/c.ko");
    assert!(opened.kernel.module("z").is_none());
    let plan = opened.kernel.load_order(&["a"]).unwrap();
    assert_eq!(order(&plan), ["ext", "a"]);
    assert_eq!(plan.modules[0].module.path(), "/lib/modules-external/sub/ext.ko");
    let opened = open_with(&files, |options| options.config = false);
    assert_eq!(opened.kernel.module("c").unwrap().path(), "updates/c.ko");
    assert!(opened.kernel.module("ext").is_none() && opened.kernel.module("z").is_some());
}

#[test]
fn modules_dep_may_name_files_outside_the_kernel_s_folder() {
    let opened = open(&[
        ("kernel/a.ko", named("a", "ext", &[])),
        ("kernel/ext.ko", named("ext", "", &[])),
        ("/lib/modules-external/ext.ko", named("ext", "", &["license=other"])),
        (
            "modules.dep",
            b"kernel/a.ko: /lib/modules-external/ext.ko\n/lib/modules-external/ext.ko:\n".to_vec(),
        ),
    ]);
    let plan = opened.kernel.load_order(&["a"]).unwrap();
    assert_eq!(plan.modules[0].module.path(), "/lib/modules-external/ext.ko");
    assert_eq!(plan.modules[0].contents().unwrap(), named("ext", "", &["license=other"]));
    assert_eq!(found(&opened.kernel, "/lib/modules-external/ext.ko"), ["ext"]);
}

#[test]
fn a_module_that_does_not_say_what_it_needs_is_asked_by_its_symbols() {
    let opened = open(&[
        ("kernel/user.ko", module(&["license=GPL"], &[], &["lib_call", "printk"])),
        ("kernel/lib.ko", module(&["depends="], &["lib_call"], &["printk"])),
    ]);
    assert_eq!(order(&opened.kernel.load_order(&["user"]).unwrap()), ["lib", "user"]);
    assert_eq!(opened.kernel.exporters()["lib_call"].name(), "lib");
    assert_eq!(found(&opened.kernel, "symbol:lib_call"), ["lib"]);
}

#[test]
fn a_module_is_found_by_its_own_name_where_its_file_has_another() {
    let opened = open(&[
        ("updates/dkms/nvidia-current.ko", module(&["name=nvidia", "depends="], &["nv_core"], &[])),
        ("updates/dkms/nvidia-current-modeset.ko", module(&["depends=nvidia"], &[], &["nv_core"])),
    ]);
    let plan = opened.kernel.load_order(&["nvidia-current-modeset"]).unwrap();
    assert_eq!(order(&plan), ["nvidia_current", "nvidia_current_modeset"]);
    assert!(plan.missing.is_empty());
    assert_eq!(found(&opened.kernel, "nvidia"), ["nvidia_current"]);
    assert!(opened.kernel.remarks()[0].contains("updates/dkms/nvidia-current.ko"));
}

#[test]
fn missing_dependencies_are_listed_and_circles_are_errors() {
    let opened = open(&[
        ("kernel/a.ko", named("a", "gone,builtin", &[])),
        ("kernel/x.ko", named("x", "y", &[])),
        ("kernel/y.ko", named("y", "z", &[])),
        ("kernel/z.ko", named("z", "y", &[])),
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
    let count = 3_000;
    let name = |at: usize| format!("m{at}");
    let files: Vec<(String, Vec<u8>)> =
        (0..count).map(|at| (format!("kernel/m{at}.ko"), named(&name(at), &name(at + 1), &[]))).collect();
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, data)| (name.as_str(), data.clone())).collect();
    let plan = open(&files).kernel.load_order(&["m0"]).unwrap();
    assert_eq!(plan.modules.len(), count);
    assert_eq!(plan.modules[0].module.name(), name(count - 1));
}

#[test]
fn modules_from_elsewhere_find_each_other_and_the_kernel_s() {
    let kernel = [("kernel/base.ko", named("base", "", &[])), ("kernel/first.ko", named("first", "", &[]))];
    let written = [
        ("modules.dep", b"kernel/base.ko:\nkernel/first.ko:\n".to_vec()),
        ("modules.symbols", b"alias symbol:base base\nalias symbol:first first\n".to_vec()),
    ];
    for opened in [open(&kernel), open(&[kernel, written].concat())] {
        let path = |name: &str| opened.folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("first.ko"), named("first", "base", &[])).unwrap();
        fs::write(path("second.ko.xz"), xz(&named("second", "first", &[]))).unwrap();
        let plan = opened.kernel.load_order(&[&path("second.ko.xz"), &path("first.ko")]).unwrap();
        assert_eq!(order(&plan), ["base", "first", "second"]);
        assert!(plan.modules[1].module.is_outside());
        assert!(matches!(opened.kernel.find("./nowhere/x.ko"), Err(Error::Read { .. })));
    }
}

#[test]
fn names_are_understood_as_modprobe_does() {
    let aliases =
        ["alias=pci:v00008086d*", "alias=net-pf-[0-9]", "alias=of:NxT0Cti,adc12138", "alias=devname:net/tun"];
    let opened = open(&[
        ("kernel/snd-hda-intel.ko.xz", xz(&named("snd", "", &aliases))),
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
        "of:NxT0Cti,adc12138",
        "devname:net/tun",
    ] {
        assert_eq!(found(kernel, name), ["snd_hda_intel"], "{name}");
    }
    assert!(matches!(kernel.find("crc32"), Err(Error::BuiltIn { .. })));
    assert!(matches!(kernel.find("crypto_crc32_lib"), Err(Error::BuiltIn { .. })));
    assert!(matches!(kernel.find("devname:no/such"), Err(Error::UnknownModule { .. })));
    let error = kernel.find("snd-hda-intle").unwrap_err().to_string();
    assert_eq!(error, "no module \"snd-hda-intle\" in 6.12.1-test; did you mean snd_hda_intel?");
}

#[test]
fn modules_of_one_alias_have_the_order_of_the_array() {
    let order = b"kernel/b.ko\nkernel/a.ko\n".to_vec();
    let a = ("kernel/a.ko", named("a", "", &["alias=net-pf-3"]));
    let opened = open(&[a, ("kernel/b.ko", named("b", "", &["alias=net-pf-*"])), ("modules.order", order)]);
    assert_eq!(found(&opened.kernel, "net-pf-3"), ["b", "a"]);
}

#[test]
fn what_is_built_in_is_not_loaded_whatever_files_there_are() {
    let opened = open(&[
        ("extra/both.ko", named("both", "", &[])),
        ("kernel/a.ko", named("a", "both", &[])),
        ("modules.builtin.modinfo", b"both.license=GPL\0both.parm=x:an x\0".to_vec()),
    ]);
    assert!(matches!(opened.kernel.find("both"), Err(Error::BuiltIn { .. })));
    assert_eq!(order(&opened.kernel.load_order(&["a"]).unwrap()), ["a"]);
    assert_eq!(opened.kernel.remarks(), ["both is built into the kernel: extra/both.ko is left out"]);
    let fields = opened.kernel.built_in_info("both").unwrap();
    assert_eq!(fields[1], ("parm".to_owned(), "x:an x".to_owned()));
}

#[test]
fn modprobe_d_is_applied_and_told() {
    let config = b"alias my-fs a\nblacklist b\noptions a x=1 y=\"p q\"\noptions my_fs z\nsoftdep a pre: c\n\
                   install d /bin/true\ninstall e /sbin/modprobe -i e $CMDLINE_OPTS\ninstall pseudo echo\n\
                   alias nothing off\n";
    let files = [
        ("kernel/a.ko", named("a", "", &[])),
        ("kernel/b.ko", named("b", "", &["alias=thing"])),
        ("kernel/c.ko", named("c", "", &["alias=thing"])),
        ("kernel/d.ko", named("d", "", &[])),
        ("kernel/e.ko", named("e", "", &[])),
        ("modules.order", b"kernel/b.ko\nkernel/c.ko\n".to_vec()),
        ("/etc/modprobe.d/x.conf", config.to_vec()),
        ("/usr/lib/modprobe.d/x.conf", b"options a w=9\n".to_vec()),
        ("/run/modprobe.d/y.conf", b"options c v=2\n".to_vec()),
    ];
    let opened = open_with(&files, |options| options.command_line = Some("quiet a.u=3".to_owned()));
    let kernel = &opened.kernel;
    let plan = kernel.load_order(&["my-fs"]).unwrap();
    assert_eq!(order(&plan), ["c", "a"]);
    assert_eq!(plan.modules[1].options, ["x=1", "y=\"p q\"", "z", "u=3"]);
    assert_eq!(plan.modules[0].options, ["v=2"]);
    assert_eq!(order(&kernel.load_order(&["thing"]).unwrap()), ["c"], "b is on the blacklist");
    assert_eq!(order(&kernel.load_order(&["b"]).unwrap()), ["b"], "which is about aliases alone");
    assert!(kernel.load_order(&["d"]).unwrap().modules.is_empty());
    assert_eq!(order(&kernel.load_order(&["e"]).unwrap()), ["e"]);
    assert!(matches!(kernel.find("pseudo"), Err(Error::Command { .. })));
    assert!(matches!(kernel.find("nothing"), Err(Error::AliasOfNothing { .. })));
    let remarks = kernel.remarks().join("\n");
    for told in [
        "my-fs stands for a in etc/modprobe.d/x.conf",
        "etc/modprobe.d/x.conf: c before a",
        "etc/modprobe.d/x.conf: options of a: x=1",
        "the kernel's command line: options of a: u=3",
        "run/modprobe.d/y.conf: options of c: v=2",
        "thing: b is left out, which is on the blacklist of etc/modprobe.d/x.conf",
        "etc/modprobe.d/x.conf: instead of loading d, \"/bin/true\" is run: it is left out",
    ] {
        assert!(remarks.contains(told), "{told}:\n{remarks}");
    }
    let opened = open_with(&files, |options| options.config = false);
    assert!(opened.kernel.find("my-fs").is_err());
    let plan = opened.kernel.load_order(&["d", "a"]).unwrap();
    assert_eq!(order(&plan), ["d", "a"]);
    assert!(plan.modules[1].options.is_empty() && opened.kernel.remarks().is_empty());
}

#[test]
fn a_blacklist_of_all_is_an_error_that_says_what_to_do() {
    let opened = open(&[
        ("kernel/b.ko", named("b", "", &["alias=thing"])),
        ("/proc/cmdline", b"ro modprobe.blacklist=b\n".to_vec()),
    ]);
    let error = opened.kernel.find_to_load("thing").unwrap_err().to_string();
    assert!(error.contains("blacklist of the kernel's command line"), "{error}");
    assert_eq!(found(&opened.kernel, "thing"), ["b"], "it is the module all the same");
}

#[test]
fn a_scan_happens_once_for_a_kernel() {
    let opened = open(&[("kernel/a.ko", named("a", "", &["alias=thing:*"]))]);
    let (mut options, phases) = options(opened.folder.path());
    options.sample = sample(&[("kernel/a.ko", named("a", "", &["alias=thing:*"]))]);
    assert_eq!(found(&opened.kernel, "thing:1"), ["a"]);
    assert!(!opened.phases.0.lock().unwrap().is_empty());
    let again = Kernel::open(&["sample"], &options).unwrap();
    assert_eq!(found(&again, "thing:2"), ["a"]);
    assert!(phases.0.lock().unwrap().is_empty());
}

#[test]
fn a_scan_that_could_not_read_everything_is_told_and_not_kept() {
    let opened =
        open(&[("kernel/a.ko", named("a", "", &["alias=thing:*"])), ("kernel/odd.ko", b"no ELF".to_vec())]);
    assert_eq!(found(&opened.kernel, "thing:1"), ["a"]);
    let remarks = opened.kernel.remarks();
    assert!(remarks.len() == 1 && remarks[0].contains("1 of 2 modules could not be read"), "{remarks:?}");
    assert!(remarks[0].contains("kernel/odd.ko: no ELF file"), "{remarks:?}");
    assert!(!opened.folder.path().join("cache/index").exists(), "it would pass for whole");
}

#[test]
fn files_of_no_use_are_told() {
    let files = [("kernel/a.ko", named("a", "", &[])), ("symvers.gz", b"\x1f\x8bno gzip".to_vec())];
    let opened = open(&files);
    assert_eq!(opened.kernel.remarks(), [""; 0]);
    assert_eq!(opened.kernel.module_symvers(), None);
    let remarks = opened.kernel.remarks();
    assert!(remarks[0].starts_with("not used, since it cannot be read: Module.symvers"), "{remarks:?}");
}

#[test]
fn damaged_modules_are_named() {
    let mut packed = xz(&named("a", "", &[]));
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
