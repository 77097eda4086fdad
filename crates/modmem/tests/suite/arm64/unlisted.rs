//! Symbols of the kernel's data that its list does not have (CONFIG_KALLSYMS_ALL is off).

use modmem::verify::Rule;

use crate::arm64::guest::{Guest, blames, clean};
use crate::arm64::module::{ADRP, Loaded, Module, TEXT, profile};
use crate::support::{ALLOC, WRITE};

const NOP: u32 = 0xd503_201f;
const ADD_LO12: u32 = 277;
const ABS64: u32 = 257;
const PREL32: u32 = 261;
const PREL64: u32 = 260;

const VARIABLE: u64 = 0xffff_8000_8123_4568;
const OTHER: u64 = 0xffff_8000_8145_6000;
const KEY: u64 = 0xffff_8000_8150_0010;
const DATA: std::ops::Range<u64> = 0xffff_8000_8100_0000..0xffff_8000_8200_0000;

/// Two pairs of instructions and a pointer that refer to one variable, a pointer to another, two branches on a key, whose
/// entries the kernel sorts the other way round.
fn module() -> Loaded {
    let (adrp, add) = (0x9000_0000, 0x9100_0000);
    let words = [adrp, add, adrp, add, NOP, NOP];
    let mut module = Module::new(words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect());
    let pointers = module.section(".rodata", ALLOC, 8, vec![0; 16]);
    let labels = module.section("__jump_table", ALLOC | WRITE, 8, vec![0; 32]);
    let [variable, other, key] = ["variable", "other", "key"].map(|name| module.symbol(name, 0, 0));
    let text = module.symbol("text", 1, 0);
    let pair = |at, addend| [(at, variable, ADRP, addend), (at + 4, variable, ADD_LO12, addend)];
    module.relocate(1, &[pair(0, 0), pair(8, 0x1230)].concat());
    module.relocate(pointers, &[(0, variable, ABS64, 8), (8, other, ABS64, 0)]);
    let label =
        |at: u64, code: i64| [(at, text, PREL32, code), (at + 4, text, PREL32, 0), (at + 8, key, PREL64, 0)];
    module.relocate(labels, &[label(0, 20), label(16, 16)].concat());
    let symbols = [("variable", VARIABLE), ("other", OTHER), ("key", KEY)];
    module.load(&profile(false), &symbols).unwrap()
}

/// A machine whose kernel lists none of these, where labels are sorted.
fn guest(loaded: &Loaded) -> Guest {
    let mut guest = Guest::with(loaded);
    guest.data = Some(DATA);
    let table = loaded.address("__jump_table");
    for (entry, code) in [(0, 16), (1, 20)] {
        let at: u64 = table + 16 * entry;
        let distance = |to: u64, from: u64| (to.wrapping_sub(from) as u32).to_le_bytes();
        let key = (KEY.wrapping_sub(at + 8)).to_le_bytes();
        guest.put(at, &[&distance(TEXT + code, at)[..], &distance(TEXT, at + 4), &key].concat());
    }
    guest
}

fn functions_alone() -> modmem::Profile {
    let mut profile = profile(false);
    profile.switches.kallsyms_all = false;
    profile
}

#[test]
fn variables_are_where_all_that_refers_to_them_says() {
    let loaded = module();
    let guest = guest(&loaded);
    let report = guest.verify(&loaded, &functions_alone());
    clean(&report);
    // Four instructions and two pointers; labels say nothing of their own.
    assert_eq!(report.total().unproven[Rule::UnlistedSymbol as usize], 4 * 4 + 2 * 8);
}

#[test]
fn one_reference_that_leads_elsewhere_is_found() {
    let loaded = module();
    let pointers = loaded.address(".rodata");
    let adrp = loaded.words(".text")[0];
    for (at, bytes) in [
        (TEXT, (adrp ^ 1 << 29).to_le_bytes().to_vec()),
        (TEXT + 4, (loaded.words(".text")[1] ^ 1 << 12).to_le_bytes().to_vec()),
        (TEXT + 8, NOP.to_le_bytes().to_vec()),
        (pointers, (VARIABLE + 16).to_le_bytes().to_vec()),
        (loaded.address("__jump_table") + 8, 0x1234_5678_u64.to_le_bytes().to_vec()),
    ] {
        let mut guest = guest(&loaded);
        guest.put(at, &bytes);
        assert!(blames(&guest.verify(&loaded, &functions_alone()), at), "{at:#x}");
    }
}

#[test]
fn what_is_no_data_of_the_kernel_s_is_not_taken_for_a_variable() {
    let loaded = module();
    let mut guest = guest(&loaded);
    for address in [TEXT, DATA.start - 8, DATA.end] {
        guest.put(loaded.address(".rodata") + 8, &u64::to_le_bytes(address));
        let error = guest.refused(&loaded, &functions_alone());
        assert!(error.contains("other: nobody exports it") && !error.contains("variable"), "{error}");
    }
}

#[test]
fn a_kernel_that_lists_its_variables_lists_all_of_them() {
    let loaded = module();
    let error = guest(&loaded).refused(&loaded, &profile(false));
    assert!(error.contains("variable: nobody exports it"), "{error}");
    let mut unknown = guest(&loaded);
    unknown.data = None;
    assert!(unknown.refused(&loaded, &functions_alone()).contains("nobody exports it"));
}

#[test]
fn percpu_data_begins_where_all_that_refers_to_it_says() {
    let (adrp, add) = (0x9000_0000_u32, 0x9100_0000);
    let words = [adrp, add, adrp, add];
    let mut module = Module::new(words.iter().flat_map(|word| word.to_le_bytes()).collect());
    let section = module.section(".data..percpu", ALLOC | WRITE, 8, vec![0; 64]);
    let own = module.symbol("own", section, 16);
    let pair = |at, addend| [(at, own, ADRP, addend), (at + 4, own, ADD_LO12, addend)];
    module.relocate(1, &[pair(0, 0), pair(8, 8)].concat());
    let base = DATA.end + 0x40;
    let loaded = module.load_with_percpu(&functions_alone(), base).unwrap();
    let mut guest = Guest::with(&loaded);
    guest.data = Some(DATA);
    clean(&guest.verify(&loaded, &functions_alone()));
    guest.put(TEXT + 12, &(loaded.words(".text")[3] ^ 1 << 12).to_le_bytes());
    assert!(blames(&guest.verify(&loaded, &functions_alone()), TEXT + 12));
}
