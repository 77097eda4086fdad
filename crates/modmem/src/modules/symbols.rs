//! A module's symbols, read from its own memory as the kernel reads them.

use core::ops::Range;

use super::Module;
use crate::address::RunAddr;
use crate::image::elf::{Encoding, SymbolRecord, section_index, with_encoding};
use crate::layout::MemoryKind;
use crate::name::{Name, string_at};
use crate::space::Block;

/// A symbol in a loaded module's kallsyms table.
#[derive(Clone, Copy, Debug)]
pub struct ModuleSymbol<'m> {
    /// Name.
    pub name: Name<'m>,
    /// Final value.
    pub value: u64,
    /// `st_size`, which kallsyms does not use.
    pub size: u64,
    /// Type letter as nm prints it, before it is made upper case for exports.
    pub letter: u8,
    /// Whether it is undefined in this module.
    pub undefined: bool,
}

/// The symbol that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundSymbol<'m> {
    /// Name.
    pub name: Name<'m>,
    /// How far behind the symbol the address lies.
    pub offset: u64,
    /// Bytes from the symbol to the next one, or to the end of its memory.
    pub size: u64,
}

/// The tables that a module has now: whole ones in InitData until that goes, core ones in Data afterwards.
struct Tables<'m> {
    records: &'m [u8],
    strings: &'m [u8],
    types: &'m [u8],
}

impl<B: Block> Module<B> {
    fn tables(&self) -> Option<Tables<'_>> {
        let layout = self.layout().kallsyms()?;
        let record = with_encoding!(self.format(), E => E::SYMBOL) as u64;
        let part = |bytes: &'_ [u8], start: u64, size: u64| -> Option<Range<usize>> {
            let range = start as usize..start.checked_add(size)? as usize;
            bytes.get(range.clone()).map(|_| range)
        };
        let init = self.bytes(MemoryKind::InitData);
        if !init.is_empty() {
            let count = layout.init_count;
            let records = part(init, layout.init_symbols, count * record)?;
            let strings = part(init, layout.init_strings, layout.init_struct - layout.init_strings)?;
            let types = part(init, layout.init_types, count)?;
            return Some(Tables { records: &init[records], strings: &init[strings], types: &init[types] });
        }
        let data = self.bytes(MemoryKind::Data);
        let records = part(data, layout.core_symbols, layout.core_count * record)?;
        let strings = part(data, layout.core_strings, layout.core_strings_size)?;
        let types = part(data, layout.core_types, layout.core_count)?;
        Some(Tables { records: &data[records], strings: &data[strings], types: &data[types] })
    }

    /// The symbols that kallsyms knows of the module now, in table order: all of them while it loads, core ones once
    /// it is live. Unnamed ones are skipped, as /proc/kallsyms skips them.
    pub fn symbols(&self) -> impl Iterator<Item = ModuleSymbol<'_>> {
        let format = self.format();
        self.tables().into_iter().flat_map(move |tables| {
            with_encoding!(format, E => Symbols { tables, next: 0, decode: decode::<E>, size: E::SYMBOL })
        })
    }

    /// The symbol that `address` belongs to: the last one at or before it in the same memory
    /// (kernel/module/kallsyms.c:find_kallsyms_symbol, which ignores mapping symbols).
    ///
    /// Linux compares with all symbols of the module, so that before a memory's first symbol it answers with one of
    /// another memory; here there is no answer then.
    pub fn symbol_at(&self, address: RunAddr) -> Option<FoundSymbol<'_>> {
        let kind = MemoryKind::ALL
            .into_iter()
            .find(|&kind| self.range(kind).is_some_and(|range| range.contains(&address)))?;
        let range = self.range(kind)?;
        let tables = self.tables()?;
        with_encoding!(self.format(), E => nearest::<E>(&tables, range.start.0..range.end.0, address.0))
    }
}

/// The last symbol at or before `address`, among those whose values lie in `range`. Names are looked at only where a
/// symbol would be better than the best so far, which is rare.
fn nearest<'m, E: Encoding>(tables: &Tables<'m>, range: Range<u64>, address: u64) -> Option<FoundSymbol<'m>> {
    let mut best: Option<(u64, Name<'m>)> = None;
    let mut next = range.end;
    for record in tables.records.chunks_exact(E::SYMBOL) {
        let symbol = SymbolRecord::decode::<E>(record);
        let better = match symbol.value {
            value if !range.contains(&value) || symbol.section == section_index::UNDEF => false,
            value if value > address => value < next,
            value => best.is_none_or(|(best, _)| value > best),
        };
        if !better {
            continue;
        }
        let name = string_at(tables.strings, symbol.name);
        if name.is_empty() || is_mapping_symbol(name) {
            continue;
        }
        match symbol.value {
            value if value > address => next = value,
            value => best = Some((value, name)),
        }
    }
    let (value, name) = best?;
    Some(FoundSymbol { name, offset: address - value, size: next - value })
}

struct Symbols<'m> {
    tables: Tables<'m>,
    next: usize,
    size: usize,
    decode: fn(&[u8]) -> SymbolRecord,
}

fn decode<E: Encoding>(record: &[u8]) -> SymbolRecord {
    SymbolRecord::decode::<E>(record)
}

impl<'m> Iterator for Symbols<'m> {
    type Item = ModuleSymbol<'m>;

    fn next(&mut self) -> Option<ModuleSymbol<'m>> {
        loop {
            let index = self.next;
            self.next += 1;
            let record = self.tables.records.get(index * self.size..(index + 1) * self.size)?;
            let symbol = (self.decode)(record);
            let name = string_at(self.tables.strings, symbol.name);
            if !name.is_empty() {
                return Some(ModuleSymbol {
                    name,
                    value: symbol.value,
                    size: symbol.size,
                    letter: self.tables.types.get(index).copied().unwrap_or(b'?'),
                    undefined: symbol.section == section_index::UNDEF,
                });
            }
        }
    }
}

/// Symbols that mark places for tools and name nothing (include/linux/module_symbol.h:is_mapping_symbol).
fn is_mapping_symbol(name: Name<'_>) -> bool {
    matches!(name.bytes(), [b'$', ..] | [b'.', b'L', ..] | [b'L', b'0', ..])
}
