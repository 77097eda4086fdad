//! Alternatives and expolines.

use modmem::verify::{Rule, Why};

use crate::s390x::guest::{Guest, blamed, clean};
use crate::s390x::module::{Module, R_390_PC32, profile};
use crate::support::{ALLOC, EXEC};

const OLD: [u8; 4] = [0x47, 0x00, 0x00, 0x00];
const FIRST: [u8; 4] = [0xb2, 0xfa, 0x00, 0x70];
const SECOND: [u8; 4] = [0xb2, 0xe8, 0xc0, 0x00];
const FACILITIES: u64 = 0x3ff_f000_0000;

/// A module with an entry for each of these at the start of its text; the entry's tail says what decides. Replacements
/// are `FIRST`, then `SECOND`.
fn module(tails: &[Vec<u8>]) -> Module {
    let mut module = Module::new([OLD; 4].concat());
    let with = module.section(".altinstr_replacement", ALLOC | EXEC, 1, [FIRST, SECOND].concat());
    let entries: Vec<Vec<u8>> =
        tails.iter().map(|tail| [&[0; 8][..], tail, &[OLD.len() as u8]].concat()).collect();
    let size = entries[0].len() as u64;
    let table = module.section(".altinstructions", ALLOC, 1, entries.concat());
    let (text, replacements) = (module.symbol("text", 1, 0), module.symbol("with", with, 0));
    let mut relocations = Vec::new();
    for index in 0..tails.len() as u64 {
        relocations.push((index * size, text, R_390_PC32, 0));
        relocations.push((index * size + 4, replacements, R_390_PC32, index as i64 * 4));
    }
    module.relocate(table, &relocations);
    module
}

fn typed(kind: u32, data: u32) -> Vec<u8> {
    (1 << 28 | kind << 20 | data).to_be_bytes().to_vec()
}

/// A list with these facilities, and those that every machine has.
fn list(facilities: &[usize]) -> [u8; 128] {
    let mut list = [0; 128];
    for facility in [0, 1, 2].iter().chain(facilities) {
        list[facility / 8] |= 0x80 >> (facility % 8);
    }
    list
}

#[test]
fn an_alternative_is_applied_where_the_cpu_has_the_facility() {
    let loaded = module(&[typed(0, 49)]).load(&profile("6.12"), &[]).unwrap();
    let text = loaded.address(".text");
    let mut guest = Guest::with(&loaded);
    guest.variable("stfle_fac_list", FACILITIES, &list(&[49]));
    let report = guest.verify(&loaded, &profile("6.12"));
    assert!(matches!(blamed(&report, text), Why::OutOfStep { rule: Rule::Alternative, .. }));
    guest.put(text, &FIRST);
    clean(&guest.verify(&loaded, &profile("6.12")));
    guest.put(FACILITIES, &list(&[48, 50]));
    assert!(matches!(blamed(&guest.verify(&loaded, &profile("6.12")), text), Why::OutOfStep { .. }));
}

#[test]
fn the_last_alternative_that_applies_stays() {
    let loaded = module(&[typed(0, 49), typed(0, 82)]).load(&profile("6.12"), &[]).unwrap();
    let text = loaded.address(".text");
    for (facilities, expected) in [(&[][..], OLD), (&[49], FIRST), (&[82], SECOND), (&[49, 82], SECOND)] {
        let mut guest = Guest::with(&loaded);
        guest.put(text, &expected);
        // By the kernel's own list, and by nothing but what is found.
        clean(&guest.verify(&loaded, &profile("6.12")));
        guest.variable("stfle_fac_list", FACILITIES, &list(facilities));
        clean(&guest.verify(&loaded, &profile("6.12")));
        guest.put(text, &[0x07, 0xfe]);
        blamed(&guest.verify(&loaded, &profile("6.12")), text);
    }
}

#[test]
fn each_type_is_decided_by_its_own_variable() {
    let words = |guest: &mut Guest, nobp: u32, lowcore: u32, features: u64| {
        guest.variable("stfle_fac_list", FACILITIES, &list(&[82]));
        guest.variable("nobp", FACILITIES + 0x1000, &nobp.to_be_bytes());
        guest.variable("relocate_lowcore", FACILITIES + 0x2000, &lowcore.to_be_bytes());
        guest.variable("machine_features", FACILITIES + 0x3000, &features.to_be_bytes());
    };
    for (version, kind, data, on) in [
        ("6.12", 1, 0, (1, 0, 0)),
        ("6.12", 2, 0, (0, 1, 0)),
        ("6.15", 1, 3, (0, 0, 8)),
        ("6.15", 2, 0, (1, 0, 0)),
    ] {
        let loaded = module(&[typed(kind, data)]).load(&profile(version), &[]).unwrap();
        let mut guest = Guest::with(&loaded);
        words(&mut guest, 0, 0, 0);
        clean(&guest.verify(&loaded, &profile(version)));
        words(&mut guest, on.0, on.1, on.2);
        assert!(!guest.verify(&loaded, &profile(version)).is_clean(), "{version}, type {kind}");
        guest.put(loaded.address(".text"), &FIRST);
        clean(&guest.verify(&loaded, &profile(version)));
    }
}

#[test]
fn entries_of_older_kernels_name_a_facility_alone() {
    let facility = |number: u16| number.to_be_bytes().to_vec();
    let loaded = module(&[facility(49), facility(193)]).load(&profile("6.1"), &[]).unwrap();
    let mut guest = Guest::with(&loaded);
    guest.variable("alt_stfle_fac_list", FACILITIES, &list(&[193]));
    guest.put(loaded.address(".text"), &SECOND);
    clean(&guest.verify(&loaded, &profile("6.1")));
}

#[test]
fn an_entry_for_no_time_at_all_is_never_applied() {
    let loaded = module(&[49_u32.to_be_bytes().to_vec()]).load(&profile("6.12"), &[]).unwrap();
    let mut guest = Guest::with(&loaded);
    guest.variable("stfle_fac_list", FACILITIES, &list(&[49]));
    clean(&guest.verify(&loaded, &profile("6.12")));
    guest.put(loaded.address(".text"), &FIRST);
    blamed(&guest.verify(&loaded, &profile("6.12")), loaded.address(".text"));
}

#[test]
fn expolines_that_are_switched_off_become_plain_branches() {
    // A jump, a call, and a branch to something else; the thunk executes `br %r9`.
    let branches = [
        [0xc0, 0xf4, 0, 0, 0, 12, 0x07, 0x00],
        [0xc0, 0xe5, 0, 0, 0, 8, 0x07, 0x00],
        [0xc0, 0xe5, 0, 0, 0, 2, 0x07, 0x00],
    ];
    let thunk = [0xc6, 0x00, 0, 0, 0, 5, 0xa7, 0xf4, 0, 0, 0x07, 0xf9];
    let mut module = Module::new([branches.concat(), thunk.to_vec()].concat());
    let table = module.section(".s390_indirect_branches", ALLOC, 4, vec![0; 12]);
    let text = module.symbol("text", 1, 0);
    let sites = [(0, text, R_390_PC32, 0), (4, text, R_390_PC32, 8), (8, text, R_390_PC32, 16)];
    module.relocate(table, &sites);
    let loaded = module.load(&profile("6.12"), &[]).unwrap();
    let mut guest = Guest::with(&loaded);
    // A kernel that knows nothing of them leaves them alone.
    clean(&guest.verify(&loaded, &profile("6.12")));
    guest.symbol("nospec_disable", FACILITIES);
    assert!(!guest.verify(&loaded, &profile("6.12")).is_clean());
    let at = loaded.address(".text");
    guest.put(at, &[0x07, 0xf9, 0x47, 0x00, 0x07, 0x00]);
    guest.put(at + 8, &[0x0d, 0xe9, 0x47, 0x00, 0x07, 0x00]);
    clean(&guest.verify(&loaded, &profile("6.12")));
    // With expolines in use they stay.
    let mut using = profile("6.12");
    using.machine_state.expolines = true;
    assert!(!guest.verify(&loaded, &using).is_clean());
}
