//! One state of the machine for all sites: as the kernel's own words say it, else as most sites show it.

use modmem::verify::{Rule, Variable};

use crate::verifying::alternatives::{Entry, SMAP, machine, module, one};
use crate::verifying::guest::{Guest, assert_clean, assert_not_as, assert_out_of_step, check};

#[test]
fn a_site_out_of_step_with_the_kernels_own_words_says_so() {
    let parts = one("6.12", "90 90 90 90 90", "0f 01 cb", SMAP, 0);
    let (guest, loaded) = machine(&parts, &[SMAP], "0f 1f 44 00 00");
    let report = guest.verify(&loaded);
    assert_out_of_step(&report, Rule::Alternative, "CPU feature 9*32+20 is on, as the kernel's memory says");
    // Neither form is something else.
    let (guest, loaded) = machine(&parts, &[SMAP], "0f 01 cb 90 90");
    assert_not_as(&guest.verify(&loaded), Rule::Alternative);
}

#[test]
fn without_the_kernels_words_most_sites_decide() {
    let many = |count: u64| {
        let entry = |at| Entry {
            site: at * 3,
            length: 3,
            replacement: 0,
            replacement_length: 3,
            feature: SMAP,
            flags: 0,
        };
        let entries: Vec<Entry> = (0..count).map(entry).collect();
        module("6.12", &vec!["90 90 90"; count as usize].join(" "), "0f 01 cb", &entries)
    };
    let (few, more) = (many(2), many(3));
    let mut guest = Guest::new();
    // The two are loaded first, and are the ones that are wrong.
    let minority = guest.load(&few.module);
    let majority = guest.load(&more.module);
    guest.code(minority.at(few.text, 0), "0f 1f 00 0f 1f 00");
    guest.code(majority.at(more.text, 0), "0f 01 cb 0f 01 cb 0f 01 cb");
    let mut verifier = guest.verifier("6.12");
    assert!(!verifier.has_cpu_words());
    assert_clean(&check(&mut verifier, 0, &minority).unwrap());
    assert_clean(&check(&mut verifier, 1, &majority).unwrap());
    assert_eq!(verifier.settle().unwrap(), [0]);
    let fact = verifier.machine_state().find(|(variable, ..)| *variable == Variable::Feature(SMAP));
    assert_eq!(fact, Some((Variable::Feature(SMAP), 1, false, 3)));
    let report = check(&mut verifier, 0, &minority).unwrap();
    assert_out_of_step(&report, Rule::Alternative, "CPU feature 9*32+20 is on, as 3 sites show");
    assert_eq!(report.total().unexplained, 4);
}

#[test]
fn words_that_are_not_where_they_should_be_are_not_believed() {
    let parts = one("6.12", "90 90 90 90 90", "0f 01 cb", SMAP, 0);
    let (mut guest, loaded) = machine(&parts, &[SMAP], "0f 1f 44 00 00");
    // Without the vendor behind the words they could be anything.
    guest.write(0xffff_ffff_8300_0000 + 40 + 96, b"GenuineOther");
    assert!(!guest.verifier("6.12").has_cpu_words());
    assert_clean(&guest.verify(&loaded));
}
