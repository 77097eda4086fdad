//! ENDBR seals, lock prefixes and declared probes.
//!
//! Code was assembled with GNU as: `endbr64` is f3 0f 1e fa, `lock incl (%rdi)` f0 ff 07, and a breakpoint cc.

use modmem::verify::{HookKind, Rule};
use modmem::{MemoryKind, RunAddr};

use crate::verifying::guest::{
    Guest, assert_clean, assert_explained, assert_not_as, assert_out_of_step, the_unexplained,
};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, branch, hex};

#[test]
fn a_sealed_endbr_is_poisoned_as_each_version_does() {
    let (usual, illegal) = ("66 0f 1f 00", "0f 1f 40 d6");
    for (version, poison, other) in [
        ("6.1", usual, illegal),
        ("6.12", usual, illegal),
        ("6.17", usual, illegal),
        ("6.18", illegal, usual),
        ("7.2", illegal, usual),
    ] {
        let mut module = Module::new(version);
        let text = module.text("f3 0f 1e fa c3 90 90 90 f3 0f 1e fa c3");
        module.sites(".ibt_endbr_seal", text, &[8]);
        let mut guest = Guest::new();
        let loaded = guest.load(&module);
        // As in the file, or poisoned as by another version.
        for wrong in ["f3 0f 1e fa", other] {
            guest.code(loaded.at(text, 8), wrong);
            assert_not_as(&guest.verify(&loaded), Rule::EndbrSeal);
        }
        guest.code(loaded.at(text, 8), poison);
        assert_clean(&guest.verify(&loaded));
        // One that is not in the table may be jumped to.
        guest.code(loaded.at(text, 0), poison);
        assert!(!guest.verify(&loaded).is_clean());
    }
}

/// Three locked instructions in `.text` and one in a section behind it.
fn locked(version: &'static str) -> (Guest, Loaded) {
    let mut module = Module::new(version);
    let text = module.text("f0 ff 07 f0 ff 07 f0 ff 07");
    let other = module.add(".text.unlikely", MemoryKind::Text, &hex("f0 ff 07"));
    let table = module.add(".smp_locks", MemoryKind::RoData, &[0; 16]);
    for (at, section, offset) in [(0, text, 0), (4, text, 3), (8, text, 6), (12, other, 0)] {
        module.distance(table, at, section, offset);
    }
    let mut guest = Guest::new();
    let loaded = guest.load(&module);
    (guest, loaded)
}

#[test]
fn lock_prefixes_stay_with_several_cpus_and_go_with_one() {
    for version in ["6.1", "6.12", "7.2"] {
        let (mut guest, loaded) = locked(version);
        assert_explained(&guest.verify(&loaded), Rule::LockPrefix, 0);
        for at in [0, 3, 6] {
            guest.write(loaded.at(0, at), &[0x3e]);
        }
        // 6.1 looks at the section `.text` only.
        let sites = if version == "6.1" { 3 } else { 4 };
        if sites == 4 {
            guest.write(loaded.at(1, 0), &[0x3e]);
        }
        assert_explained(&guest.verify(&loaded), Rule::LockPrefix, sites);
    }
}

#[test]
fn one_lock_prefix_that_differs_from_all_others_is_out_of_step() {
    // Put back on a machine with one CPU, the first as well as the last of them.
    for different in [0, 3, 6] {
        let (mut guest, loaded) = locked("6.12");
        for at in [0, 3, 6, 9].into_iter().filter(|&at| at != different) {
            guest.write(loaded.at(0, at), &[0x3e]);
        }
        let report = guest.verify(&loaded);
        assert_out_of_step(&report, Rule::LockPrefix, "running on one CPU is on, as 3 sites show");
        assert_eq!(report.unexplained[0].address.0, loaded.at(0, different));
        // Taken away on a machine with several.
        let (mut guest, loaded) = locked("6.12");
        guest.write(loaded.at(0, different), &[0x3e]);
        assert_out_of_step(&guest.verify(&loaded), Rule::LockPrefix, "running on one CPU is off");
    }
}

#[test]
fn a_lock_prefix_is_nothing_but_a_lock_or_a_segment_prefix() {
    let (mut guest, loaded) = locked("6.12");
    guest.write(loaded.at(0, 3), &[0x90]);
    assert_not_as(&guest.verify(&loaded), Rule::LockPrefix);
}

/// push %rbp; mov %rsp,%rbp; mov %edi,%eax; pop %rbp; ret
const FUNCTION: &str = "55 48 89 e5 89 f8 5d c3";
const SLOTS: u64 = 0xffff_ffff_c060_0000;

fn probed(probes: &[u64]) -> (Guest, Loaded) {
    let mut module = Module::new("6.12");
    module.text(FUNCTION);
    let mut guest = Guest::new();
    let loaded = guest.load(&module);
    guest.made("__builtin__kprobes", "kprobe_optinsn_page", SLOTS);
    guest.kprobes = probes.iter().map(|&at| RunAddr(loaded.at(0, at))).collect();
    (guest, loaded)
}

#[test]
fn a_declared_probe_is_a_breakpoint_or_a_jump_to_its_slot() {
    let (mut guest, loaded) = probed(&[1]);
    // Declared and not there.
    assert_explained(&guest.verify(&loaded), Rule::Kprobe, 0);
    assert_eq!(guest.verify(&loaded).hooks, []);
    guest.write(loaded.at(0, 1), &[0xcc]);
    let report = guest.verify(&loaded);
    assert_explained(&report, Rule::Kprobe, 1);
    assert_eq!((report.hooks[0].kind, report.hooks[0].target), (HookKind::Kprobe, None));
    guest.write(loaded.at(0, 1), &branch(0xe9, loaded.at(0, 1), SLOTS + 0x40));
    let report = guest.verify(&loaded);
    assert_explained(&report, Rule::Kprobe, 5);
    assert_eq!(report.hooks[0].target, Some(RunAddr(SLOTS + 0x40)));
}

#[test]
fn a_declared_probe_that_leads_elsewhere_is_found() {
    let (mut guest, loaded) = probed(&[1]);
    guest.function("kernel_function", 0xffff_ffff_8100_0100);
    for target in [0xffff_ffff_8100_0100, 0xffff_ffff_a000_0000] {
        guest.write(loaded.at(0, 1), &branch(0xe9, loaded.at(0, 1), target));
        assert!(!guest.verify(&loaded).is_clean(), "{target:#x}");
    }
    // What stands behind the breakpoint is as before.
    guest.code(loaded.at(0, 0), "55 cc 89 e4");
    assert!(!guest.verify(&loaded).is_clean());
}

#[test]
fn a_probe_that_nobody_declared_is_found() {
    for probes in [&[][..], &[4]] {
        let (mut guest, loaded) = probed(probes);
        guest.write(loaded.at(0, 1), &[0xcc]);
        let report = guest.verify(&loaded);
        let span = the_unexplained(&report);
        assert_eq!((&span.expected[..], &span.found[..]), (&[0x48][..], &[0xcc][..]));
        guest.write(loaded.at(0, 1), &branch(0xe9, loaded.at(0, 1), SLOTS));
        assert!(!guest.verify(&loaded).is_clean());
    }
}

#[test]
fn the_kernel_s_word_says_whether_lock_prefixes_are_out() {
    for (word, unlocked, clean) in [(0, true, false), (1, true, true), (0, false, true), (1, false, false)] {
        let (mut guest, loaded) = locked("6.12");
        guest.variable("uniproc_patched", 0xffff_ffff_8300_0000, Some(&[word]));
        for at in [0, 3, 6, 9].into_iter().filter(|_| unlocked) {
            guest.write(loaded.at(0, at), &[0x3e]);
        }
        let report = guest.verify(&loaded);
        assert_eq!(report.is_clean(), clean, "{word} {unlocked}: {:#?}", report.unexplained);
    }
}
