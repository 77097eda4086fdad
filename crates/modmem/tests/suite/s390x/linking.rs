//! GOT and PLT: how large they are, what is in them, and who goes through them.

use modmem::link::{LinkError, RelocationProblem};
use modmem::modules::LoadError;

use crate::s390x::module::{Loaded, Module, Relocation, TEXT, profile};
use crate::support::{RELA, Section};

const NONE: u32 = 0;
const GOT12: u32 = 6;
const PLT32: u32 = 8;
const GOTOFF32: u32 = 13;
const GOTPC: u32 = 14;
const PLT16DBL: u32 = 18;
const PLT32DBL: u32 = 20;
const PLT64: u32 = 25;
const GOTENT: u32 = 26;
const PLTOFF64: u32 = 36;
const GOT20: u32 = 58;

/// A kernel's symbol that is near, and one that is not.
const NEAR: u64 = TEXT + 0x100_0000;
const FAR: u64 = TEXT + 0x10_0000_0000;

/// Loads 64 bytes of text with these relocations against the symbols `a`, `b`, `c` of the kernel (1, 2, 3).
fn load(relocations: &[Relocation], symbols: [u64; 3]) -> Result<Loaded, LoadError> {
    let [a, b, c] = symbols;
    let mut module = Module::new(vec![0; 64]);
    for name in ["a", "b", "c"] {
        module.symbol(name, 0, 0);
    }
    module.relocate(1, relocations);
    module.load(&profile("6.12"), &[("a", a), ("b", b), ("c", c)])
}

fn text(loaded: &Loaded) -> (u64, &[u8]) {
    let (address, bytes) = &loaded.sections[".text"];
    (*address, bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn entry(to: u64) -> Vec<u8> {
    let mut entry = vec![0x0d, 0x10, 0xe3, 0x10, 0x10, 0x0c, 0x00, 0x04, 0x07, 0xf1, 0, 0, 0, 0];
    entry.extend(to.to_be_bytes());
    entry
}

/// What a branch of 32 bits at offset 0 of text comes to, to a symbol so far from it.
fn branch(distance: i64, addend: i64) -> Result<(u32, u64), RelocationProblem> {
    // One entry of the PLT and the alignment of text come before it.
    let place = TEXT + 24;
    let symbol = place.wrapping_add(distance as u64);
    match load(&[(0, 1, PLT32DBL, addend)], [symbol, NEAR, NEAR]) {
        Ok(loaded) => {
            assert_eq!(text(&loaded).0, place);
            assert_eq!(loaded.head()[..22], entry(symbol), "the entry is filled in any case");
            Ok((word(text(&loaded).1, 0), place))
        }
        Err(LoadError::Link(LinkError::Relocation(error))) => Err(error.problem),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_branch_goes_through_the_plt_only_where_the_distance_without_the_addend_is_out_of_reach() {
    let through = |place: u64, addend: i64| {
        let distance = TEXT.wrapping_sub(place).wrapping_add(addend as u64);
        (distance as i64 >> 1) as u32
    };
    for distance in [0, 0x1000, -0x1000, 0xffff_fffc, -0xffff_fffe] {
        assert_eq!(branch(distance, 2).unwrap().0, ((distance + 2) >> 1) as u32, "{distance:#x}");
    }
    for (distance, addend) in [(0x1_0000_0000, 2), (-0x1_0000_0000, 2), (-0x1_0000_0002, 2), (1 << 40, -16)] {
        let (found, place) = branch(distance, addend).unwrap();
        assert_eq!(found, through(place, addend), "{distance:#x}");
    }
    // In reach, and with the addend no longer.
    assert!(matches!(branch(0xffff_fffe, 2), Err(RelocationProblem::Overflow { value: 0x1_0000_0000, .. })));
    assert!(matches!(branch(3, 2), Err(RelocationProblem::Overflow { .. })), "an odd distance");
    // Out of reach, and with the addend it would not be.
    let (found, place) = branch(0x1_0000_0000, -0x1000).unwrap();
    assert_eq!(found, through(place, -0x1000));
}

#[test]
fn a_branch_of_16_bits_is_refused_in_a_range_where_the_plt_could_help() {
    let place = TEXT + 24;
    let branch = |distance: i64| {
        let symbol = place.wrapping_add(distance as u64);
        let loaded = load(&[(0, 1, PLT16DBL, 0)], [symbol, NEAR, NEAR]);
        loaded.map(|loaded| u16::from_be_bytes(text(&loaded).1[..2].try_into().unwrap()))
    };
    let stub = (-24_i64 >> 1) as u16;
    assert_eq!(branch(0xfffe).unwrap(), 0x7fff);
    assert_eq!(branch(-0xfffe).unwrap(), 0x8001);
    assert_eq!(branch(-0x1_0000).unwrap(), stub);
    assert_eq!(branch(0x1f_0000).unwrap(), stub);
    // Linux compares with a number that has a digit too many.
    for distance in [0x1_0000, 0x1e_fffe] {
        let error = branch(distance).unwrap_err();
        assert!(error.to_string().contains("R_390_PLT16DBL"), "{error}");
    }
}

#[test]
fn symbols_have_their_entries_in_the_order_in_which_relocations_name_them() {
    let relocations =
        [(0, 2, GOTENT, 2), (4, 3, PLT32DBL, 2), (8, 1, GOTENT, 2), (12, 2, PLT32DBL, 2), (16, 2, GOT20, 0)];
    let loaded = load(&relocations, [FAR, NEAR, FAR + 8]).unwrap();
    let (place, bytes) = text(&loaded);
    assert_eq!(place, TEXT + 64, "16 bytes of GOT, 44 of PLT, and the alignment of text");
    assert_eq!(loaded.head()[..16], [NEAR.to_be_bytes(), FAR.to_be_bytes()].concat());
    assert_eq!(loaded.head()[16..60], [entry(FAR + 8), entry(NEAR)].concat());
    let relative = |to: u64, at: u64| (to.wrapping_add(2).wrapping_sub(place + at) as i64 >> 1) as u32;
    assert_eq!(word(bytes, 0), relative(TEXT, 0));
    assert_eq!(word(bytes, 4), relative(TEXT + 16, 4));
    assert_eq!(word(bytes, 8), relative(TEXT + 8, 8));
    assert_eq!(word(bytes, 12), relative(NEAR, 12), "near enough without its entry");
    assert_eq!(word(bytes, 16), 0, "the first entry, counted from the start of the table");
}

#[test]
fn each_type_counts_from_where_it_should() {
    let relocations = [
        (0, 1, GOTENT, 0),
        (8, 2, GOT12, 0),
        (16, 2, GOT20, 4),
        (24, 2, PLTOFF64, 6),
        (32, 2, PLT64, 0),
        (40, 3, GOTPC, 8),
        (44, 3, GOTOFF32, 0x10),
    ];
    let loaded = load(&relocations, [NEAR, FAR, TEXT + 0x1234]).unwrap();
    let (place, bytes) = text(&loaded);
    let double = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(bytes[8..10], [0x00, 0x08], "the second entry");
    assert_eq!(bytes[16..20], [0x00, 0x0c, 0x00, 0x00], "the lower 12 bits before the upper 8");
    assert_eq!(double(24), 16 + 6, "behind a GOT of two entries");
    assert_eq!(double(32), (TEXT + 16).wrapping_sub(place + 32));
    assert_eq!(word(bytes, 40), (TEXT + 8).wrapping_sub(place + 40) as u32);
    assert_eq!(word(bytes, 44), 0x1244);
    // As Linux checks it, a stub that lies before the field is out of reach of 32 bits.
    assert!(load(&[(0, 1, PLT32, 0)], [NEAR; 3]).is_err());
}

#[test]
fn relocations_of_sections_that_are_not_loaded_count_and_leave_their_entries_empty() {
    let mut module = Module::new(vec![0; 64]);
    let debug = module.section(".debug_info", 0, 1, vec![0; 8]);
    let (a, b) = (module.symbol("a", 0, 0), module.symbol("b", 0, 0));
    module.relocate(debug, &[(0, b, GOTENT, 0), (0, b, PLT32DBL, 0)]);
    module.relocate(1, &[(0, a, GOTENT, 0), (8, a, PLT32DBL, 0), (12, a, NONE, 0)]);
    let loaded = module.load(&profile("6.12"), &[("a", FAR), ("b", NEAR)]).unwrap();
    let expected = [vec![0; 8], FAR.to_be_bytes().to_vec(), vec![0; 22], entry(FAR)].concat();
    assert_eq!(loaded.head()[..60], expected);
    // The same before 6.4, where all memories are parts of one block.
    let loaded = module.load(&profile("6.1"), &[("a", FAR), ("b", NEAR)]).unwrap();
    assert_eq!(loaded.head()[..60], expected);
}

#[test]
fn a_symbol_that_is_not_there_is_refused_where_nothing_is_loaded_too() {
    let mut module = Module::new(vec![0; 64]);
    let mut section = Section::new(".rela.debug", RELA, 0, 8, Vec::new());
    section.data.extend([0, 77 << 32 | u64::from(GOTENT), 0].map(u64::to_be_bytes).concat());
    // And half a record.
    section.data.extend([0; 12]);
    module.add(section);
    let error = module.load(&profile("6.12"), &[]).unwrap_err().to_string();
    assert!(error.contains("(.rela.debug) entry 0: symbol 77 of 1"), "{error}");
}

#[test]
fn with_expolines_all_entries_branch_through_one_more() {
    let mut module = Module::new(vec![0; 64]);
    let (a, b) = (module.symbol("a", 0, 0), module.symbol("b", 0, 0));
    module.relocate(1, &[(0, a, PLT32DBL, 2), (8, b, PLT32DBL, 2)]);
    let mut profile = profile("6.12");
    profile.machine_state.expolines = true;
    let loaded = module.load(&profile, &[("a", FAR), ("b", NEAR)]).unwrap();
    let entry = |to: u64, distance: u32| {
        let mut entry = vec![0x0d, 0x10, 0xe3, 0x10, 0x10, 0x0c, 0x00, 0x04, 0xc0, 0xf4];
        entry.extend(distance.to_be_bytes());
        entry.extend(to.to_be_bytes());
        entry
    };
    let shared = [0xc6, 0, 0, 0, 0, 5, 0xa7, 0xf4, 0, 0, 0x07, 0xf1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(loaded.head()[..66], [entry(FAR, 18), entry(NEAR, 7), shared.to_vec()].concat());
}

#[test]
fn the_table_itself_is_an_undefined_symbol_that_nobody_is_asked_for() {
    let mut module = Module::new(vec![0; 64]);
    let got = module.symbol("_GLOBAL_OFFSET_TABLE_", 0, 0);
    module.relocate(1, &[(0, got, GOTPC, 0), (8, got, 22, 0)]);
    let loaded = module.load(&profile("6.12"), &[("_GLOBAL_OFFSET_TABLE_", NEAR)]).unwrap();
    let (place, bytes) = text(&loaded);
    assert_eq!(place, TEXT, "no entries, no table");
    assert_eq!(bytes[..16], [0; 16], "which begins with Text, and has no value of its own");
}
