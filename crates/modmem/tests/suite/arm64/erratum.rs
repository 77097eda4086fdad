//! Cortex-A53's erratum 843419: no ADRP in the last two words of 4 KiB.

use crate::arm64::module::{ADRP, CALL26, Module, TEXT, profile};
use crate::support::{ALLOC, EXEC};

const FAR: u64 = 0xffff_8000_9000_0000;
/// `adrp x3, .`
const ADRP_X3: u32 = 0x9000_0003;

fn page_of_adrps() -> Vec<u8> {
    ADRP_X3.to_le_bytes().repeat(1024)
}

#[test]
fn a_section_is_aligned_so_that_its_adrps_keep_their_distance_from_the_end_of_a_page() {
    // Bits 3 to 11 of the offset say how near it is: the lowest that is 0 must stay 0.
    for (offset, alignment) in [(0, 16), (8, 32), (0x18, 64), (0x78, 256), (0x7f8, 4096), (0xff8, 4)] {
        let mut module = Module::new(page_of_adrps());
        let text = module.section(".text.hot", ALLOC | EXEC, 4, page_of_adrps());
        module.symbol("far", 0, 0);
        module.relocate(text, &[(offset, 1, ADRP, 0)]);
        let image = module.build();
        let image = modmem::Image::parse(&image).unwrap();
        let shape = |erratum| {
            let layout = modmem::layout::Layout::of(&image, &profile(erratum)).unwrap();
            let section = |name| image.section(name).unwrap();
            (layout.shape(section(".text.hot")).alignment, layout.shape(section(".plt")).size / 12)
        };
        assert_eq!(shape(false), (4, 1));
        // Where no alignment helps there is an entry, and one more as an entry may fall on such a place itself.
        let entries = if offset == 0xff8 { 3 } else { 1 };
        assert_eq!(shape(true), (alignment.max(4), entries), "{offset:#x}");
    }
}

#[test]
fn an_adrp_that_cannot_be_moved_becomes_adr_or_a_branch_to_its_veneer() {
    let mut module = Module::new(page_of_adrps());
    module.symbol("far", 0, 0);
    let own = module.symbol("own", 1, 0);
    module.relocate(1, &[(0xff0, own, ADRP, 0), (0xff8, own, ADRP, 0), (0xffc, 1, ADRP, 0)]);
    let loaded = module.load(&profile(true), &[("far", FAR + 0x123)]).unwrap();
    let words = loaded.words(".text");
    assert_eq!(words[0x3fc], ADRP_X3, "the page that it is in itself");
    assert_eq!(words[0x3fe], 0x10ff_8043, "adr x3, .-0xff8");
    let veneer = loaded.address(".plt");
    assert_eq!(words[0x3ff], 0x1400_0000 | ((veneer - TEXT - 0xffc) >> 2) as u32);
    let pages = ((FAR >> 12) - (veneer >> 12)) as u32;
    let adrp = ADRP_X3 | (pages & 3) << 29 | (pages >> 2) << 5;
    let back = (TEXT + 0x1000).wrapping_sub(veneer + 8);
    let back = 0x1400_0000 | (back >> 2) as u32 & 0x03ff_ffff;
    // The lower bits are added by the instruction behind.
    assert_eq!(loaded.words(".plt")[..3], [adrp, 0x9100_0063, back]);
}

#[test]
fn without_the_erratum_nothing_of_that_happens() {
    let mut module = Module::new(page_of_adrps());
    module.symbol("far", 0, 0);
    module.relocate(1, &[(0xffc, 1, ADRP, 0)]);
    let loaded = module.load(&profile(false), &[("far", FAR)]).unwrap();
    let pages = ((FAR - TEXT) >> 12) as u32;
    assert_eq!(loaded.words(".text")[0x3ff], ADRP_X3 | (pages & 3) << 29 | (pages >> 2) << 5);
}

#[test]
fn no_entry_begins_in_the_last_two_words_of_a_page() {
    // The table begins with a page, so that entry 341 would have its ADRP at 0xffc.
    let mut module = Module::new(vec![0; 0x1000]);
    let names: Vec<String> = (0..400).map(|number| format!("symbol_{number}")).collect();
    let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
    let mut relocations = vec![(0, 0, 277, 0)];
    let mut kernel = Vec::new();
    for (number, name) in (0..).zip(&names) {
        let symbol = module.symbol(name, 0, 0);
        relocations.push((4 + number * 4, symbol, CALL26, 0));
        kernel.push((*name, FAR + number * 0x1004));
    }
    module.relocate(1, &relocations);
    let loaded = module.load(&profile(true), &kernel).unwrap();
    assert_eq!(loaded.sections[".plt"].1.len(), (400 + 2 + 1) * 12);
    let forbidden = |slot: &usize| (loaded.address(".plt") + *slot as u64 * 12) & 0xfff >= 0xff8;
    let slots: Vec<usize> = (0..400).filter(forbidden).collect();
    assert!(!slots.is_empty());
    for slot in slots {
        assert_eq!(loaded.words(".plt")[slot * 3..slot * 3 + 3], [0; 3]);
    }
}
