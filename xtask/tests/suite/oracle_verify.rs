//! The promise itself: on a kernel that nobody has touched, every byte of every module's text and read-only data is
//! what its file says after all that the kernel does to it.

use modmem::MemoryKind;
use modmem::verify::{NotCompared, Rule};
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Options, Outcome, OwnFiles, Verification, compare_loaded, verify};
use xtask::loaded::Loaded;
use xtask::oracle::folder;

fn verified(name: &str) -> Verification {
    let snapshot = Snapshot::open(folder(name)).unwrap();
    let files = OwnFiles::of(&snapshot).unwrap().expect("recordings bring the module files along");
    verify(&snapshot, &Options::default(), &mut |name| files.get(name)).unwrap()
}

fn every_byte_is_explained(name: &str, modules: usize, rules: &[Rule]) {
    let verification = verified(name);
    assert_eq!(verification.modules.len(), modules);
    for checked in &verification.modules {
        let Outcome::Compared(report) = &checked.outcome else {
            panic!("{}: {:?}", checked.name, checked.outcome)
        };
        assert!(report.is_clean(), "{}: {:#?}", checked.name, report.unexplained);
        for kind in [MemoryKind::Text, MemoryKind::RoData] {
            let Some(memory) = &report.memories[kind] else { continue };
            assert_eq!(memory.tally.not_compared.iter().sum::<u64>(), 0, "{}: {kind}", checked.name);
        }
    }
    assert!(verification.is_clean(), "{:#?}", verification.strays);
    loading_makes_the_same(name, &verification);
    let total = verification.total();
    // What was compared is nearly all that there is, and each rule had something to explain.
    assert_eq!(total.not_compared_for(NotCompared::Unreadable), 0);
    assert!(total.identical * 10 > total.total * 6, "{total:?}");
    assert!(total.unproven_bytes() * 1000 < total.total, "{total:?}");
    for &rule in rules {
        let bytes = total.explained_by(rule) + total.unproven[rule as usize];
        assert!(bytes > 100, "{rule}: {bytes}");
    }
}

/// Loading makes of each module what the recording has, without a look at it.
fn loading_makes_the_same(name: &str, verification: &Verification) {
    let snapshot = Snapshot::open(folder(name)).unwrap();
    let files = OwnFiles::of(&snapshot).unwrap().expect("recordings bring the module files along");
    let options = Options::default();
    let checked = compare_loaded(&snapshot, verification, &options, &mut |name| files.get(name)).unwrap();
    let loaded = Loaded::of(&checked, verification);
    assert!(loaded.not_compared.is_empty(), "{:?}", loaded.not_compared);
    assert!(loaded.differences.is_empty() && loaded.tally.unexplained == 0, "{:#?}", loaded.differences);
    assert_eq!(loaded.modules, verification.modules.len());
    assert!(loaded.tally.explained_bytes() > 10_000, "{:?}", loaded.tally);
}

/// What every machine's kernels do.
const ANYWHERE: [Rule; 4] = [Rule::Alternative, Rule::Ftrace, Rule::SortedTable, Rule::RewrittenTable];
const ALWAYS: [Rule; 6] =
    [Rule::Alternative, Rule::Return, Rule::LockPrefix, Rule::Ftrace, Rule::StaticCall, Rule::SortedTable];

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_byte_of_linux_6_12_is_explained() {
    every_byte_is_explained(
        "amd64-6.12",
        37,
        &[&ALWAYS[..], &[Rule::EndbrSeal, Rule::RewrittenTable]].concat(),
    );
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_byte_of_linux_6_1_is_explained() {
    every_byte_is_explained("amd64-6.1", 44, &[&ALWAYS[..], &[Rule::Paravirt]].concat());
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_byte_of_linux_7_2_is_explained() {
    every_byte_is_explained(
        "amd64-7.2",
        33,
        &[&ALWAYS[..], &[Rule::EndbrSeal, Rule::RewrittenTable]].concat(),
    );
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_byte_of_linux_6_12_on_32_bit_powerpc_is_explained() {
    every_byte_is_explained("ppc32-6.12", 133, &[Rule::Ftrace, Rule::SortedTable]);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_byte_of_linux_6_12_on_s390x_is_explained() {
    every_byte_is_explained("s390x-6.12", 33, &[&ANYWHERE[..], &[Rule::JumpLabel]].concat());
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_byte_of_linux_6_12_on_arm64_is_explained() {
    let rules = [Rule::Ftrace, Rule::JumpLabel, Rule::SortedTable, Rule::RewrittenTable];
    every_byte_is_explained("arm64-6.12", 35, &rules);
}
