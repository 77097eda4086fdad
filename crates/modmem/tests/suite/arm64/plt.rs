//! Branches that do not reach.

use modmem::image::Image;
use modmem::layout::{Layout, LayoutError};
use modmem::link::{LinkError, RelocationProblem};
use modmem::modules::LoadError;

use crate::arm64::linux::{self, Code, Plt};
use crate::arm64::module::{ADRP, CALL26, JUMP26, Loaded, Module, Relocation, TEXT, profile};
use crate::support::{ALLOC, EXEC};

/// R_AARCH64_ADD_ABS_LO12_NC
const ADD: u32 = 277;
const BL: u32 = 0x9400_0000;
const B: u32 = 0x1400_0000;
/// Out of a branch's reach, and in it.
const FAR: u64 = 0xffff_8000_9000_0000;
const NEAR: u64 = 0xffff_8000_8000_0000;

fn code(words: usize, word: u32) -> Vec<u8> {
    word.to_le_bytes().repeat(words)
}

/// A module whose text calls the kernel's symbols with these relocations.
fn calling(symbols: &[&str], relocations: &[Relocation]) -> Module {
    let mut module = Module::new(code(64, BL));
    for symbol in symbols {
        module.symbol(symbol, 0, 0);
    }
    module.relocate(1, relocations);
    module
}

fn entries(loaded: &Loaded) -> usize {
    loaded.sections[".plt"].1.len() / 12
}

/// Where an entry leads.
fn leads_to(loaded: &Loaded, slot: usize) -> Option<u64> {
    let words = &loaded.words(".plt")[slot * 3..slot * 3 + 3];
    if words[2] != 0xd61f_0200 {
        assert_eq!(words, [0; 3]);
        return None;
    }
    let pages = i64::from((((words[0] >> 5 & 0x7_ffff) << 2 | words[0] >> 29 & 3) << 11) as i32 >> 11);
    let place = loaded.address(".plt") + slot as u64 * 12;
    Some((place & !0xfff).wrapping_add((pages << 12) as u64) + u64::from(words[1] >> 10 & 0xfff))
}

#[test]
fn calls_that_reach_leave_their_entries_empty() {
    let module = calling(&["near"], &[(0, 1, CALL26, 0), (8, 1, CALL26, 0)]);
    let loaded = module.load(&profile(false), &[("near", NEAR)]).unwrap();
    // One for the symbol, and the one at the end that there always is; two relocations that are all branches are no
    // exception, as the second equals the first.
    assert_eq!(entries(&loaded), 2);
    assert!(loaded.words(".plt").iter().all(|&word| word == 0));
    assert_eq!(loaded.words(".text")[0], BL | ((NEAR - TEXT) >> 2) as u32);
}

#[test]
fn jumps_come_before_calls_and_symbols_in_order_whatever_the_order_of_relocations() {
    let relocations =
        [(0, 2, CALL26, 0), (4, 1, CALL26, 0), (8, 0, ADD, 0), (12, 2, JUMP26, 0), (16, 1, CALL26, 4)];
    let loaded = calling(&["one", "two"], &relocations)
        .load(&profile(false), &[("one", FAR), ("two", FAR + 0x1000)])
        .unwrap();
    let order: Vec<_> = (0..entries(&loaded)).map(|slot| leads_to(&loaded, slot)).collect();
    assert_eq!(order, [Some(FAR + 0x1000), Some(FAR), Some(FAR + 4), Some(FAR + 0x1000), None]);
    let plt = loaded.address(".plt");
    assert_eq!(loaded.words(".text")[0], BL | ((plt + 36 - TEXT) >> 2) as u32);
}

#[test]
fn what_would_have_been_a_new_entry_stays_behind_the_last() {
    let relocations = [(0, 1, CALL26, 0), (4, 1, CALL26, 0), (8, 0, ADD, 0)];
    let loaded = calling(&["far"], &relocations).load(&profile(false), &[("far", FAR)]).unwrap();
    assert_eq!(entries(&loaded), 2);
    assert_eq!([leads_to(&loaded, 0), leads_to(&loaded, 1)], [Some(FAR); 2]);
    let words = loaded.words(".text");
    assert_eq!(words[0] - words[1], 1, "both lead to the first");
}

#[test]
fn of_relocations_that_are_all_branches_the_last_is_not_sorted() {
    // Sorted were the first two: symbol 1, then symbol 2. The last equals the one of symbol 1, which is not beside it.
    let relocations = [(0, 2, CALL26, 0), (4, 1, CALL26, 0), (8, 1, CALL26, 0)];
    let symbols = [("one", FAR), ("two", FAR + 0x1000)];
    let loaded = calling(&["one", "two"], &relocations).load(&profile(false), &symbols).unwrap();
    let order: Vec<_> = (0..entries(&loaded)).map(|slot| leads_to(&loaded, slot)).collect();
    assert_eq!(order, [Some(FAR), Some(FAR + 0x1000), Some(FAR), None]);
}

#[test]
fn what_lies_beyond_4_gib_gets_an_entry_that_traps() {
    let module = calling(&["beyond"], &[(0, 1, CALL26, 0), (8, 0, ADD, 0)]);
    let loaded = module.load(&profile(false), &[("beyond", 0xffff_8002_9000_0678)]).unwrap();
    assert_eq!(loaded.words(".plt")[..3], [0xd420_2000, 0x9100_0210 | 0x678 << 10, 0xd61f_0200]);
}

#[test]
fn a_branch_within_its_section_has_no_entry_to_go_through() {
    let mut module = Module::new(code(4, B));
    let own = module.symbol("own", 1, 1 << 30);
    module.relocate(1, &[(4, own, JUMP26, 0)]);
    let error = module.load(&profile(false), &[]).unwrap_err();
    let LoadError::Link(LinkError::Relocation(error)) = error else { panic!("{error}") };
    assert_eq!(error.problem, RelocationProblem::TableFull { table: ".plt" });
    let text = error.to_string();
    assert!(
        text.contains(".rela.text") && text.contains("R_AARCH64_JUMP26") && text.contains("own"),
        "{text}"
    );
}

#[test]
fn a_module_that_was_linked_without_the_kernels_script_is_refused() {
    let file = Module::without_tables(code(4, B)).build();
    let error = Layout::of(&Image::parse(&file).unwrap(), &profile(false)).unwrap_err();
    assert_eq!(error, LayoutError::NoTable { section: ".plt" });
}

#[test]
fn relocations_of_code_that_is_not_loaded_count_and_may_be_nonsense() {
    let mut module = Module::new(code(4, B));
    let unloaded = module.section(".text.discarded", EXEC, 4, code(4, B));
    module.symbol("kernel", 0, 0);
    module.relocate(unloaded, &[(0, 1, CALL26, 1), (u64::MAX, u32::MAX, CALL26, i64::MIN), (8, 1, 9999, 0)]);
    let loaded = module.load(&profile(true), &[("kernel", NEAR)]).unwrap();
    // One and one to spare, and one as the erratum may make it useless.
    assert_eq!(entries(&loaded), 3);
}

/// Numbers that look random and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn any_mixture_of_relocations_becomes_what_linux_makes_of_it_step_by_step() {
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut dice = Dice(7);
    for round in 0..300 {
        let erratum = round % 2 == 1;
        let words = [5 + dice.below(2000), 5 + dice.below(40), 5 + dice.below(1500)];
        let mut module = Module::new(code(words[0] as usize, BL));
        let more = [
            module.section(".text.unlikely", ALLOC | EXEC, 4, code(words[1] as usize, B)),
            module.section(".init.text", ALLOC | EXEC, 4, code(words[2] as usize, B)),
        ];
        let sections = [1, more[0], more[1]];
        let mut symbols = vec![(0, 0)];
        let mut kernel = Vec::new();
        for name in NAMES {
            let base = [NEAR, FAR, FAR + 0x4000_0000][dice.below(3) as usize];
            let value = base + dice.below(0x2000) * 4;
            module.symbol(name, 0, 0);
            symbols.push((0, value));
            kernel.push((name, value));
        }
        let own = module.symbol("own", 1, 8);
        symbols.push((1, TEXT + 8));
        let mut all = Vec::new();
        for (&section, &words) in sections.iter().zip(&words) {
            let only_branches = dice.below(4) == 0;
            let mut offsets: Vec<u64> = (0..words).map(|word| word * 4).collect();
            offsets.retain(|offset| dice.below(3) == 0 || offset & 0xfff >= 0xff8);
            let relocations: Vec<Relocation> = offsets
                .into_iter()
                .map(|offset| {
                    let symbol = 1 + dice.below(if only_branches { 3 } else { 9 }) as u32;
                    let symbol = if symbol == 9 { own } else { symbol };
                    let kind =
                        [CALL26, JUMP26, ADRP, ADD][dice.below(if only_branches { 2 } else { 4 }) as usize];
                    (offset, symbol, kind, if dice.below(6) == 0 { 4 } else { 0 })
                })
                .collect();
            module.relocate(section, &relocations);
            all.push((section, relocations));
        }
        let loaded =
            module.load(&profile(erratum), &kernel).unwrap_or_else(|error| panic!("{round}: {error}"));
        let names = [".text", ".text.unlikely", ".init.text"];
        let mut sizes = [1, 1];
        for ((section, relocations), name) in all.iter().zip(names) {
            let sorted = linux::sorted(&symbols, *section, relocations);
            let (count, alignment) = linux::count(&symbols, *section, &sorted, erratum);
            sizes[usize::from(*section == more[1])] += count as usize;
            assert_eq!(loaded.address(name) % alignment, 0, "{round}: {name}");
        }
        for (plt, size) in [".plt", ".init.plt"].into_iter().zip(sizes) {
            assert_eq!(loaded.sections[plt].1.len(), size * 12, "{round}: {plt}");
        }
        let mut plts =
            [".plt", ".init.plt"].map(|name| Plt::new(loaded.address(name), loaded.sections[name].1.len()));
        for ((section, relocations), name) in all.into_iter().zip(names) {
            let init = section == more[1];
            let opcode = if section == 1 { BL } else { B };
            let size = loaded.sections[name].1.len() / 4;
            let (address, bytes) = (loaded.address(name), code(size, opcode));
            let mut code = Code { index: section, address, bytes, relocations };
            linux::relocate(&mut code, &symbols, &mut plts[usize::from(init)], erratum);
            assert!(code.bytes == loaded.sections[name].1, "{round}: {name}");
        }
        for (plt, name) in plts.iter().zip([".plt", ".init.plt"]) {
            assert_eq!(plt.words, loaded.words(name), "{round}: {name}");
        }
    }
}

#[test]
fn of_two_sections_of_one_name_the_last_becomes_the_table() {
    let mut module = calling(&["far"], &[(0, 1, CALL26, 0), (8, 0, ADD, 0)]);
    module.section(".plt", ALLOC, 4, vec![7; 8]);
    let file = module.build();
    let image = Image::parse(&file).unwrap();
    // From 6.12 on no such module stays.
    let mut profile = profile(false);
    profile.refuses_duplicate_sections = false;
    let layout = Layout::of(&image, &profile).unwrap();
    let sizes = image.sections().iter().filter(|section| section.name() == ".plt");
    let sizes: Vec<u64> = sizes.map(|section| layout.shape(section).size).collect();
    assert_eq!(sizes, [1, 24]);
}

#[test]
fn linux_6_1_has_two_trampolines_for_tracing() {
    let file = Module::new(code(4, B)).build();
    let image = Image::parse(&file).unwrap();
    for (version, size) in [("6.1", 24), ("6.12", 12)] {
        let profile = modmem::Profile::named_for(modmem::arch::Machine::Arm64, version).unwrap();
        let layout = Layout::of(&image, &profile).unwrap();
        let trampolines = image.section(".text.ftrace_trampoline").unwrap();
        assert_eq!(layout.shape(trampolines).size, size);
    }
}
