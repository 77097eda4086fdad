//! How large the tables are that Text begins with (arch/s390/kernel/module.c:module_frob_arch_sections, check_rela).
//!
//! A table of addresses (GOT), then one of stubs (PLT): an entry for each symbol that a relocation of such a type
//! names, in the order in which relocations are found in the file. Those of sections that are not loaded count too.

use alloc::vec::Vec;

use super::stubs::{GOT_ENTRY, PLT_ENTRY};
use super::{IN_GOT, IN_PLT};
use crate::address::align_up;
use crate::image::elf::{Big64, section_type};
use crate::image::{Image, Relocation, RelocationSection, Section};
use crate::layout::{LayoutError, Shapes, Slot, classify};
use crate::profile::Profile;

/// What is known of a symbol while relocations are counted: whether it has an entry in a table, and, in the upper half,
/// whether a relocation that is applied needs that entry.
const USED: u32 = 4;
/// Relocations that are looked at together: first, which of them need a table at all.
const TOGETHER: usize = 64;
const RECORD: usize = Relocation::size::<Big64>(true);

/// Counts the entries of both tables.
pub(super) fn shapes(image: &Image<'_>, profile: &Profile) -> Result<Shapes, LayoutError> {
    let count = image.symbols().len();
    let mut symbols: Vec<u8> = Vec::new();
    symbols.try_reserve_exact(count).map_err(|_| LayoutError::OutOfMemory)?;
    symbols.resize(count, 0);
    let mut shapes = Shapes::default();
    for section in image.sections().iter().filter(|section| section.kind() == section_type::RELA) {
        let target = RelocationSection::of(image, section).map(|relocations| relocations.target());
        // Headers of sections are not changed on this machine.
        let applied = target.is_some_and(|target| classify(image, profile, target, target.flags()).is_ok());
        for records in section.data().chunks(RECORD * TOGETHER) {
            let mut found = [(0, 0); TOGETHER];
            for &(symbol, tables) in needing_tables(records, &mut found) {
                let state = symbols.get_mut(symbol as usize);
                let state = state.ok_or_else(|| no_such_symbol(section, symbol, count))?;
                let fresh = tables & !*state;
                *state |= tables | if applied { tables << USED } else { 0 };
                if fresh != 0 {
                    let slots = if fresh == IN_GOT { &mut shapes.got } else { &mut shapes.plt };
                    slots.try_reserve(1).map_err(|_| LayoutError::OutOfMemory)?;
                    slots.push(Slot { symbol, used: false });
                }
            }
        }
    }
    for (slots, table) in [(&mut shapes.got, IN_GOT), (&mut shapes.plt, IN_PLT)] {
        for slot in slots {
            slot.used = symbols[slot.symbol as usize] & table << USED != 0;
        }
    }
    shapes.got_size = shapes.got.len() as u64 * GOT_ENTRY;
    // The last entry is the one that the others jump to their targets through.
    let shared = usize::from(profile.machine_state.expolines && !shapes.plt.is_empty());
    shapes.plt_size = (shapes.plt.len() + shared) as u64 * PLT_ENTRY;
    shapes.beside = trampolines(image, profile);
    Ok(shapes)
}

/// Those of some relocations that need an entry in a table: the symbol, and which table. Which ones these are has no
/// pattern, so that it costs less to write all of them than to branch.
fn needing_tables<'f>(records: &[u8], found: &'f mut [(u32, u8); TOGETHER]) -> &'f [(u32, u8)] {
    let mut count = 0;
    for record in records.chunks_exact(RECORD) {
        let Relocation { symbol, kind, .. } = Relocation::decode::<Big64, true>(record);
        let tables = super::tables_of(kind);
        found[count % TOGETHER] = (symbol, tables);
        count += usize::from(tables != 0);
    }
    &found[..count.min(TOGETHER)]
}

fn no_such_symbol(section: &Section<'_>, symbol: u32, count: usize) -> LayoutError {
    let is_it = |record: &[u8]| {
        let relocation = Relocation::decode::<Big64, true>(record);
        relocation.symbol == symbol && super::tables_of(relocation.kind) != 0
    };
    let entry = section.data().chunks_exact(RECORD).position(is_it).unwrap_or_default();
    LayoutError::NoSuchSymbol { section: section.label(), entry, symbol, count }
}

/// Bytes of the pages that the loader fills with trampolines, one for each function that can be traced
/// (arch/s390/kernel/module.c:module_alloc_ftrace_hotpatch_trampolines).
fn trampolines(image: &Image<'_>, profile: &Profile) -> u64 {
    const TRAMPOLINE: u64 = 24;
    const ADDRESS: u64 = 8;
    let functions = image.section("__mcount_loc").filter(|_| profile.switches.dynamic_ftrace);
    // A file's section is no larger than the file.
    let size = functions.map_or(0, |section| section.size().saturating_mul(TRAMPOLINE).div_ceil(ADDRESS));
    align_up(size, profile.page_size).unwrap_or(size)
}
