//! Symbols in sections that are not loaded (`.modinfo`, `__versions`, what debuggers read), in the symbol table that a
//! module has until its init has returned, and in the one that livepatch modules keep: that has all symbols
//! (kallsyms.c:add_kallsyms).
//!
//! Linux adds to each symbol the address of its section, which for these is that in the temporary copy of the file
//! (main.c:rewrite_section_headers, simplify_symbols). The copy is gone once the module is loaded, and where it was
//! nothing tells; but it was one copy, at the beginning of a page. One base must make all of these symbols right, in
//! both tables.

use super::{Rule, VerifyError};
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::subject::Subject;
use crate::image::elf::{Class, Format};
use crate::image::{Image, SymbolPlace};
use crate::layout::{Layout, MemoryKind};

/// Bytes of a symbol, and where its value is (`Elf32_Sym`, `Elf64_Sym`).
pub(super) const fn record(format: Format) -> (u64, u64) {
    match format.class {
        Class::Elf32 => (16, 4),
        Class::Elf64 => (24, 8),
    }
}

/// Gives the symbols of sections that are not loaded the values that the guest's copy of the file gives them.
pub(super) fn symbols(subject: &mut Subject<'_, '_>) -> Result<(), VerifyError> {
    let mut base = None;
    for table in tables(subject).into_iter().flatten() {
        place_symbols(subject, table, &mut base);
    }
    Ok(())
}

/// Does so in one table of all symbols; `base` is where the copy was, once that is known.
fn place_symbols(subject: &mut Subject<'_, '_>, table: RunAddr, base: &mut Option<u64>) {
    let image = subject.image;
    let format = image.format();
    let (size, value) = record(format);
    for index in 0..image.symbols().len() {
        let Some(place) = place_in_file(image, subject.module.layout(), index) else { continue };
        let at = table + index as u64 * size + value;
        let found = subject.module.found(at, format.word()).and_then(|bytes| format.read_word(bytes));
        let Some(found) = found else { return };
        // The first one says where the copy was. If it was tampered with, the others do not fit.
        let base = *base.get_or_insert(format.wrap(found.wrapping_sub(place)));
        if base == 0 || !base.is_multiple_of(subject.profile.page_size) {
            return;
        }
        let value = format.bytes_of_word(base.wrapping_add(place));
        subject.module.write(at, value.as_ref(), Rule::UnloadedSymbol, Standing::Certain);
    }
}

/// Where the module has its whole symbol table: for as long as it loads, and for good.
pub(super) fn tables(subject: &Subject<'_, '_>) -> [Option<RunAddr>; 2] {
    let Some(kallsyms) = subject.module.layout().kallsyms() else { return [None; 2] };
    let address = |kind| subject.module.address(kind);
    let keeps_all = subject.image.modinfo().get("livepatch").is_some();
    [
        address(MemoryKind::InitData).map(|start| start + kallsyms.init_symbols),
        address(MemoryKind::Data).filter(|_| keeps_all).map(|start| start + kallsyms.core_symbols),
    ]
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
