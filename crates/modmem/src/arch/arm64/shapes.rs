//! Room for the PLTs and for tracing's trampolines (arch/arm64/kernel/module-plts.c:module_frob_arch_sections).
//!
//! Linux sorts the branches of each section to find those that share an entry. How many entries that makes is found
//! here without sorting: one for each symbol and type of branch, one for each branch with an addend.

use alloc::vec::Vec;

use super::relocations::{ADRP, ADRP_UNCHECKED, CALL26, JUMP26};
use crate::image::elf::section_flag::{ALLOC, EXECINSTR};
use crate::image::elf::{Encoding as _, Little64, section_type};
use crate::image::{Image, Relocation, Section};
use crate::layout::{LayoutError, Shape, Shapes, is_init};
use crate::profile::Profile;

/// Bytes of an entry (`struct plt_entry`), and what it is aligned to.
pub(super) const ENTRY: u64 = 12;
const ENTRY_ALIGNMENT: u64 = 4;

/// What PLTs are aligned to (L1_CACHE_BYTES).
const PLT_ALIGNMENT: u64 = 64;

/// Bytes that the erratum counts in, whatever the size of a page is.
const ERRATUM_PAGE: u64 = 4096;

/// Sections that the loader makes tables in, by index. Of several of one name Linux takes the last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tables {
    pub(super) plt: Option<usize>,
    pub(super) init_plt: Option<usize>,
    trampolines: [Option<usize>; 2],
}

impl Tables {
    pub(super) fn of(image: &Image<'_>) -> Tables {
        let mut tables = Tables::default();
        for section in image.sections() {
            let slot = match section.name().bytes() {
                b".plt" => &mut tables.plt,
                b".init.plt" => &mut tables.init_plt,
                b".text.ftrace_trampoline" => &mut tables.trampolines[0],
                b".init.text.ftrace_trampoline" => &mut tables.trampolines[1],
                _ => continue,
            };
            *slot = Some(section.index());
        }
        tables
    }
}

/// The sections whose headers the loader changes.
pub(super) fn shapes(image: &Image<'_>, profile: &Profile) -> Result<Shapes, LayoutError> {
    let tables = Tables::of(image);
    let plt = tables.plt.ok_or(LayoutError::NoTable { section: ".plt" })?;
    let init_plt = tables.init_plt.ok_or(LayoutError::NoTable { section: ".init.plt" })?;
    let mut shapes = Shapes::default();
    let mut counter = Counter::new(image, profile.machine_state.erratum_843419)?;
    let (mut core_entries, mut init_entries) = (0, 0);
    for section in image.sections().iter().filter(|section| section.kind() == section_type::RELA) {
        let Some(target) = image.sections().get(section.info() as usize) else { continue };
        if target.flags() & EXECINSTR == 0 {
            continue;
        }
        let needs = counter.count(section, target);
        *(if is_init(profile, target) { &mut init_entries } else { &mut core_entries }) += needs.entries;
        let shape = shapes.of(target);
        if needs.alignment > shape.alignment {
            shapes.set(target, Shape { alignment: needs.alignment, ..shape })?;
        }
    }
    let mut make = |index: usize, size, alignment| match image.sections().get(index) {
        Some(section) => {
            shapes.set(section, Shape { flags: EXECINSTR | ALLOC, size, alignment, in_file: false })
        }
        None => Ok(()),
    };
    make(plt, (core_entries + 1) * ENTRY, PLT_ALIGNMENT)?;
    make(init_plt, (init_entries + 1) * ENTRY, PLT_ALIGNMENT)?;
    for index in tables.trampolines.into_iter().flatten() {
        make(index, ENTRY * u64::from(profile.patching.arm64_trampolines), ENTRY_ALIGNMENT)?;
    }
    Ok(shapes)
}

/// Where `st_shndx` is in a symbol's record.
const SECTION: usize = 6;

const fn is_branch(kind: u32) -> bool {
    // They differ in the lowest bit.
    kind | 1 == CALL26
}
const _: () = assert!(is_branch(JUMP26) && is_branch(CALL26));

/// Whether a branch may need an entry: its symbol is not defined in the section that it stands in.
pub(super) fn needs_entry(symbols: &[u8], relocation: &Relocation, target: usize) -> bool {
    let at = (relocation.symbol as usize).saturating_mul(Little64::SYMBOL).saturating_add(SECTION);
    let place = symbols.get(at..at.saturating_add(2));
    is_branch(relocation.kind) && place.is_some_and(|place| usize::from(Little64::u16(place, 0)) != target)
}

/// What a relocation section asks for.
struct Needs {
    entries: u64,
    /// Of the section that it relocates.
    alignment: u64,
}

/// Counts entries.
struct Counter<'a> {
    symbols: &'a [u8],
    /// Two bits a symbol: for jumps and for calls.
    seen: Vec<u64>,
    erratum: bool,
}

impl<'a> Counter<'a> {
    fn new(image: &Image<'a>, erratum: bool) -> Result<Counter<'a>, LayoutError> {
        let mut seen = Vec::new();
        let words = image.symbols().len() / 32 + 1;
        seen.try_reserve_exact(words).map_err(|_| LayoutError::OutOfMemory)?;
        seen.resize(words, 0);
        Ok(Counter { symbols: image.symbols().records(), seen, erratum })
    }

    /// Where a branch without addend has its bit: the word, and which of it. Jumps have even numbers, calls odd ones.
    fn bit(relocation: &Relocation) -> (usize, u32) {
        ((relocation.symbol / 32) as usize, relocation.symbol % 32 * 2 + relocation.kind % 2)
    }

    fn count(&mut self, section: &Section<'_>, target: &Section<'_>) -> Needs {
        let records = section.data().chunks_exact(Relocation::size::<Little64>(true));
        let target = target.index() as u64;
        let (mut entries, mut branches, mut last_is_shared) = (0, 0, 0);
        // Branches come without a pattern: nothing here depends on whether a relocation is one but numbers.
        for record in records.clone() {
            let relocation = Relocation::decode::<Little64, true>(record);
            let at = (relocation.symbol as usize).saturating_mul(Little64::SYMBOL).saturating_add(SECTION);
            let (word, bit) = Counter::bit(&relocation);
            // Relocations of what is not loaded may name symbols that are not there.
            let (Some(place), Some(seen)) =
                (self.symbols.get(at..at.saturating_add(2)), self.seen.get_mut(word))
            else {
                continue;
            };
            let leads_out = u64::from(u64::from(Little64::u16(place, 0)) != target);
            let needs = u64::from(is_branch(relocation.kind)) & leads_out;
            let plain = needs & u64::from(relocation.addend == 0);
            last_is_shared = *seen >> bit & plain;
            *seen |= plain << bit;
            entries += needs - last_is_shared;
            branches += needs as usize;
        }
        let mut alignment = 1;
        if self.erratum {
            for record in records.clone() {
                let relocation = Relocation::decode::<Little64, true>(record);
                if matches!(relocation.kind, ADRP | ADRP_UNCHECKED) {
                    match safe_alignment(relocation.offset) {
                        Some(safe) => alignment = alignment.max(safe),
                        None => entries += 1,
                    }
                }
            }
        }
        // Where all are branches, Linux leaves the last of them out when it sorts the others; it shares an entry with
        // the one that the sort puts before it, or with none.
        if branches == records.len() && last_is_shared != 0 {
            let mut keys = records.clone().map(|record| {
                let relocation = Relocation::decode::<Little64, true>(record);
                (relocation.kind, relocation.symbol, relocation.addend)
            });
            let last = keys.next_back();
            entries += u64::from(keys.max() != last);
        }
        if self.erratum {
            // Entries at the end of a page must be left out.
            entries += entries.div_ceil(ERRATUM_PAGE / ENTRY);
        }
        self.forget(section);
        Needs { entries, alignment }
    }

    /// Clears the bits of a section, by whatever is quicker.
    fn forget(&mut self, section: &Section<'_>) {
        let records = section.data().chunks_exact(Relocation::size::<Little64>(true));
        if records.len() > self.seen.len() {
            self.seen.fill(0);
            return;
        }
        for record in records {
            let relocation = Relocation::decode::<Little64, true>(record);
            if let Some(word) = self.seen.get_mut(Counter::bit(&relocation).0) {
                *word = 0;
            }
        }
    }
}

/// The smallest alignment of a section with which an ADRP at `offset` cannot be one of the last two words of a page;
/// `None` if only luck can help (module-plts.c:count_plts).
fn safe_alignment(offset: u64) -> Option<u64> {
    // The lowest zero among the bits that say so.
    let lowest = (offset | 7).trailing_ones();
    let alignment = 2_u64.checked_shl(lowest)?;
    (alignment <= ERRATUM_PAGE).then_some(alignment)
}
