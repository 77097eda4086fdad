//! A module's own symbols and sections at the addresses where the guest has them.
//!
//! They come from the file and not from the guest: who changes a module may change what the kernel says of it too.

use std::ops::Range;

use modmem::image::elf::symbol_type;
use modmem::image::{Relocation, SymbolPlace};
use modmem::profile::Profile;
use modmem::verify::ModuleReport;
use modmem::{Image, Layout};

use super::atlas::with_offset;

/// Symbols and sections of one module.
#[derive(Debug)]
pub(super) struct FileMap {
    pub(super) module: String,
    /// By address.
    sections: Vec<Named>,
    /// By address; of those at one address the best name last.
    symbols: Vec<Named>,
    /// Where the compiler left room before functions for who traces them, by address. It is used by arm64's kernels that
    /// are built so (CONFIG_DYNAMIC_FTRACE_WITH_CALL_OPS).
    marks: Vec<u64>,
}

/// Bytes of a mark.
pub(super) const MARK: u64 = 8;

/// A range with a name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) range: Range<u64>,
}

impl FileMap {
    /// The map of a module that was compared; `None` if the file can be read no more.
    pub(super) fn of(file: &[u8], profile: &Profile, report: &ModuleReport) -> Option<FileMap> {
        let image = Image::parse(file).ok()?;
        let layout = Layout::of(&image, profile).ok()?;
        let address = |section: usize| {
            let place = layout.place(section)?;
            let memory = report.memories[place.kind].as_ref()?;
            Some(memory.address.0.wrapping_add(place.offset))
        };
        let mut sections = Vec::new();
        let shapes = image.sections().iter().map(|section| (section, layout.shape(section)));
        for (section, shape) in shapes.filter(|(_, shape)| shape.size > 0) {
            let Some(start) = address(section.index()) else { continue };
            let range = start..start.saturating_add(shape.size);
            sections.push(Named { name: section.name().to_text(), range });
        }
        sections.sort_by_key(|section| section.range.start);
        let mut symbols = Vec::new();
        for symbol in image.symbols().iter().filter(|symbol| !symbol.name.is_empty()) {
            let SymbolPlace::Section(section) = symbol.place else { continue };
            let Some(start) = address(section) else { continue };
            let start = start.wrapping_add(symbol.value);
            let typed = matches!(symbol.kind, symbol_type::FUNC | symbol_type::OBJECT);
            let range = start..start.saturating_add(symbol.size);
            symbols.push((typed, Named { name: symbol.name.to_text(), range }));
        }
        symbols.sort_by_key(|(typed, symbol)| (symbol.range.start, *typed, symbol.range.end));
        let symbols = symbols.into_iter().map(|(_, symbol)| symbol).collect();
        let tables = image.relocations();
        let tables = tables.filter(|table| table.target().name() == "__patchable_function_entries");
        let mark = |relocation: Relocation| {
            let symbol = image.symbols().get(relocation.symbol as usize)?;
            let SymbolPlace::Section(section) = symbol.place else { return None };
            let start = address(section)?.wrapping_add(symbol.value);
            Some(start.wrapping_add(relocation.addend as u64))
        };
        let mut marks: Vec<u64> = tables.flat_map(|table| table.iter()).filter_map(mark).collect();
        marks.sort_unstable();
        Some(FileMap { module: report.name.clone(), sections, symbols, marks })
    }

    /// A map that knows nothing but the module's name.
    pub(super) fn empty(module: &str) -> FileMap {
        FileMap { module: module.to_owned(), sections: Vec::new(), symbols: Vec::new(), marks: Vec::new() }
    }

    /// The section that holds an address.
    pub(super) fn section(&self, address: u64) -> Option<&Named> {
        let after = self.sections.partition_point(|section| section.range.start <= address);
        self.sections.get(after.checked_sub(1)?).filter(|section| section.range.contains(&address))
    }

    /// The symbol at or before an address, in the same section. Without a size it ends where the next one begins.
    pub(super) fn symbol(&self, address: u64) -> Option<Named> {
        let section = self.section(address)?;
        let after = self.symbols.partition_point(|symbol| symbol.range.start <= address);
        let symbol = self.symbols.get(after.checked_sub(1)?)?;
        if symbol.range.start < section.range.start {
            return None;
        }
        let next = self.symbols.get(after).map_or(section.range.end, |next| next.range.start);
        let end = match symbol.range.is_empty() {
            true => next.min(section.range.end),
            false => symbol.range.end,
        };
        Some(Named { name: symbol.name.clone(), range: symbol.range.start..end })
    }

    /// Where the mark lies that holds an address: it belongs to the function behind it.
    pub(super) fn mark(&self, address: u64) -> Option<u64> {
        let after = self.marks.partition_point(|mark| *mark <= address);
        let mark = *self.marks.get(after.checked_sub(1)?)?;
        (address - mark < MARK).then_some(mark)
    }

    /// The symbol with the offset behind it, or the section if no symbol is near.
    pub(super) fn name(&self, address: u64) -> Option<String> {
        if let Some(symbol) = self.symbol(address) {
            return Some(with_offset(&symbol.name, address - symbol.range.start));
        }
        let section = self.section(address)?;
        Some(with_offset(&section.name, address - section.range.start))
    }
}
