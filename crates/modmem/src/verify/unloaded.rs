//! Symbols in sections that are not loaded (`.modinfo`, `__versions`, what debuggers read), in the symbol table that a
//! module has until its init has returned.
//!
//! Linux adds to each symbol the address of its section, which for these is that in the temporary copy of the file
//! (main.c:rewrite_section_headers, simplify_symbols). The copy is gone once the module is loaded, and where it was
//! nothing tells; but it was one copy, at the beginning of a page. One base must make all of these symbols right.

use super::subject::Subject;
use super::twin::Standing;
use super::{Rule, VerifyError};
use crate::address::RunAddr;
use crate::image::{Image, SymbolPlace};
use crate::layout::{Layout, MemoryKind};

/// Bytes of `Elf64_Sym`, and where its value is.
const SYMBOL: u64 = 24;
const VALUE: u64 = 8;

/// Gives the symbols of sections that are not loaded the values that the guest's copy of the file gives them.
pub(super) fn symbols(subject: &mut Subject<'_, '_>) -> Result<(), VerifyError> {
    let Some(table) = table(subject) else { return Ok(()) };
    let image = subject.image;
    let mut base = None;
    for index in 0..image.symbols().len() {
        let Some(place) = place_in_file(image, subject.twin.placement().layout(), index) else { continue };
        let at = table + index as u64 * SYMBOL + VALUE;
        let Some(found) = subject.twin.found(at, 8).and_then(|bytes| bytes.first_chunk::<8>()) else {
            return Ok(());
        };
        // The first one says where the copy was. If it was tampered with, the others do not fit.
        let base = *base.get_or_insert(u64::from_le_bytes(*found).wrapping_sub(place));
        if base == 0 || !base.is_multiple_of(subject.profile.page_size) {
            return Ok(());
        }
        let value = base.wrapping_add(place);
        subject.twin.write(at, &value.to_le_bytes(), Rule::UnloadedSymbol, Standing::Certain);
    }
    Ok(())
}

/// Where the module has its whole symbol table.
fn table(subject: &Subject<'_, '_>) -> Option<RunAddr> {
    let kallsyms = subject.twin.placement().layout().kallsyms()?;
    Some(subject.twin.placement().address(MemoryKind::InitData)? + kallsyms.init_symbols)
}

/// A symbol's place in the file, if its section is one that is read and not kept.
fn place_in_file(image: &Image<'_>, layout: &Layout, index: usize) -> Option<u64> {
    let symbol = image.symbols().get(index)?;
    let SymbolPlace::Section(section) = symbol.place else { return None };
    // Symbols of percpu data have the address of the module's part of the percpu area.
    if layout.place(section).is_some() || layout.percpu().is_some_and(|percpu| percpu.section == section) {
        return None;
    }
    Some(image.sections().get(section)?.offset().wrapping_add(symbol.value))
}
