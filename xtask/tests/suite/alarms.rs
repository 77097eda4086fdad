//! Kernels on which a verdict was once wrong, recorded: machines that nobody had touched must be verified, and what was
//! missed must be found. The recordings lie beside those of `MODMEM_ORACLE`, in `fresh` and `cases`.

use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Options, Outcome, OwnFiles, StrayKind, Verification, verify};
use xtask::oracle::folder;

fn verified(name: &str) -> Verification {
    let snapshot = Snapshot::open(folder("..").join(name)).unwrap();
    let files = OwnFiles::of(&snapshot).unwrap().expect("recordings bring the module files along");
    verify(&snapshot, &Options::default(), &mut |name| files.get(name)).unwrap()
}

/// Nothing unexplained in any module, whatever else the recording lacks.
fn every_byte_is_explained(name: &str, verification: &Verification) {
    assert!(verification.total().identical > 10_000, "{name}");
    for checked in &verification.modules {
        match &checked.outcome {
            Outcome::Compared(report) => {
                assert!(report.is_clean(), "{name}: {}: {:#?}", checked.name, report.unexplained);
            }
            other => panic!("{name}: {}: {other:?}", checked.name),
        }
    }
}

#[test]
#[cfg_attr(not(alarms), ignore = "there are no recordings of false alarms beside MODMEM_ORACLE")]
fn machines_that_nobody_touched_are_verified() {
    for name in [
        // The JIT's pack is cut from the cache of huge pages, and is asked for as module text is.
        "bpf-rox-7.3",
        // ENDBR is sealed as before 6.18.
        "endbr-6.17",
        // preempt_rt in the version magic, beside PREEMPT_BUILD.
        "rt-vermagic-7.2",
        // The canary's address loaded from the lowcore.
        "stackprot-s390x-7.2",
        // Static calls of the function that returns 0 stay calls of the counting thunk.
        "stufffull-6.12",
        // Symbols of sections that are not loaded hold addresses of the loader's copy.
        "livepatch-6.12",
        // Modules among everybody's memory, of a kernel that lists functions alone.
        "arm64-6.1",
        // Marks before functions that lead to tracers in the heap.
        "arm64-fentry-6.12",
        "arm64-instance-6.12",
        // A hook by the book, whose module's file is at hand.
        "ftracehook-6.12-silent",
    ] {
        let verification = verified(&format!("fresh/{name}"));
        every_byte_is_explained(name, &verification);
        assert!(verification.is_clean(), "{name}: {:#x?}", verification.strays);
    }
}

#[test]
#[cfg_attr(not(alarms), ignore = "there are no recordings of false alarms beside MODMEM_ORACLE")]
fn what_was_not_looked_at_is_not_verified() {
    // Recorded by pages near sections and symbols, while the kernel hid its list of areas; one has a hidden module.
    for name in ["fresh/hidden-kptr0-6.12-MISSED", "cases/calldepth-false-positive"] {
        let verification = verified(name);
        every_byte_is_explained(name, &verification);
        assert!(!verification.is_clean(), "{name}");
        let unseen = verification.strays.iter().filter(|stray| stray.kind == StrayKind::Unseen);
        assert_eq!(unseen.count(), 1, "{name}: {:#x?}", verification.strays);
    }
    assert!(!verified("fresh/kptr0-6.12").is_clean());
}

#[test]
#[cfg_attr(not(alarms), ignore = "there are no recordings of false alarms beside MODMEM_ORACLE")]
fn code_in_a_page_that_nobody_owns_is_found_beside_trampolines() {
    let verification = verified("fresh/roxgap-7.2-MISSED");
    let unexplained = verification.strays.iter().filter(|stray| stray.kind.is_unexplained());
    let found: Vec<_> = unexplained.map(|stray| (stray.range.clone(), stray.kind.clone())).collect();
    let between = |start: u64| (start..start + 0x12, StrayKind::Between);
    assert_eq!(found, [between(0xffff_ffff_c04a_2c00), between(0xffff_ffff_c04a_4000)]);
}
