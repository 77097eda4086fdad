//! Writing a module's symbol tables into its own memory (kernel/module/kallsyms.c:add_kallsyms).

use super::error::LinkError;
use super::placement::Placement;
use crate::address::RunAddr;
use crate::image::elf::section_flag::{ALLOC, EXECINSTR, WRITE};
use crate::image::elf::{Encoding, SymbolRecord, binding, section_index, section_type, symbol_type};
use crate::image::{Image, Section, has_prefix};
use crate::layout::{CoreSymbols, KallsymsLayout, MemoryKind, kallsyms_struct_size};
use crate::profile::Profile;
use crate::space::Block;

use alloc::vec::Vec;

/// Writes both tables: all symbols into InitData, core symbols into Data.
pub(super) fn write<E: Encoding, B: Block>(
    image: &Image<'_>,
    profile: &Profile,
    placement: &mut Placement<B>,
    values: &[u64],
) -> Result<(), LinkError> {
    let Some(layout) = placement.layout().kallsyms().copied() else { return Ok(()) };
    let letters = Letters::of(image, profile)?;
    write_all::<E, B>(image, placement, &layout, values, &letters);
    let core =
        CoreSymbols::of(image, profile, placement.layout().places()).map_err(|_| LinkError::OutOfMemory)?;
    write_core::<E>(image, &core, &layout, values, &letters, placement.bytes_mut(MemoryKind::Data));
    Ok(())
}

fn write_all<E: Encoding, B: Block>(
    image: &Image<'_>,
    placement: &mut Placement<B>,
    layout: &KallsymsLayout,
    values: &[u64],
    letters: &Letters,
) {
    let symbols = image.symbols();
    let (symtab, strtab) = (layout.init_symbols, layout.init_strings);
    let address = placement.address(MemoryKind::InitData).unwrap_or_default();
    let bytes = placement.bytes_mut(MemoryKind::InitData);

    let (records, names) = (symbols.records(), symbols.strings());
    let table = &mut bytes[symtab as usize..][..records.len()];
    let pairs = table.chunks_exact_mut(E::SYMBOL).zip(records.chunks_exact(E::SYMBOL));
    for ((record, source), &value) in pairs.zip(values) {
        record.copy_from_slice(source);
        SymbolRecord::put_value::<E>(record, value);
    }
    let after_table = symtab as usize + records.len();
    fill_zero(bytes, after_table, strtab);
    bytes[strtab as usize..][..names.len()].copy_from_slice(names);

    let after_names = strtab as usize + names.len();
    fill_zero(bytes, after_names, layout.init_struct);
    let (size, _) = kallsyms_struct_size::<E>();
    let temporary = &mut bytes[layout.init_struct as usize..][..size as usize];
    write_struct::<E>(
        temporary,
        address + symtab,
        symbols.len(),
        address + strtab,
        address + layout.init_types,
    );
    let types = &mut bytes[layout.init_types as usize..][..symbols.len()];
    for (letter, record) in types.iter_mut().zip(records.chunks_exact(E::SYMBOL)) {
        *letter = letters.of_symbol(&SymbolRecord::decode::<E>(record));
    }
}

/// `struct mod_kallsyms`: symtab, num_symtab, strtab, typetab.
fn write_struct<E: Encoding>(
    bytes: &mut [u8],
    symtab: RunAddr,
    count: usize,
    strtab: RunAddr,
    typetab: RunAddr,
) {
    let word = if E::IS_64 { 8 } else { 4 };
    bytes.fill(0);
    E::put_word(bytes, 0, symtab.0);
    E::put_u32(bytes, word, count as u32);
    E::put_word(bytes, 2 * word, strtab.0);
    E::put_word(bytes, 3 * word, typetab.0);
}

fn write_core<E: Encoding>(
    image: &Image<'_>,
    core: &CoreSymbols,
    layout: &KallsymsLayout,
    values: &[u64],
    letters: &Letters,
    data: &mut [u8],
) {
    let symbols = image.symbols();
    let (start, strings) = (layout.core_symbols as usize, layout.core_strings as usize);
    let types = layout.core_types as usize;
    // The layout put records, names and letters one behind the other.
    let (head, types) = data.split_at_mut(types);
    let (head, mut strings) = head.split_at_mut(strings);
    let mut kept = head[start..].chunks_exact_mut(E::SYMBOL).zip(types);
    let (names, ends) = (symbols.strings(), image.name_ends());
    let mut name_offset = 0;
    for ((index, source), &value) in symbols.records().chunks_exact(E::SYMBOL).enumerate().zip(values) {
        let symbol = SymbolRecord::decode::<E>(source);
        if !core.keeps(index, &symbol) {
            continue;
        }
        let Some((record, letter)) = kept.next() else { break };
        record.copy_from_slice(source);
        SymbolRecord::put_value::<E>(record, value);
        SymbolRecord::put_name::<E>(record, name_offset);
        *letter = letters.of_symbol(&symbol);
        // The NUL is copied with the name.
        let size = ends.length(symbol.name) + 1;
        copy_name(&names[symbol.name as usize..], strings, size);
        strings = &mut strings[size..];
        name_offset += size as u32;
    }
}

/// Copies `size` bytes, in two moves of fixed size if that is enough: what is written too much is overwritten by the
/// next name, and a call for each name costs more.
#[inline(always)]
fn copy_name(from: &[u8], to: &mut [u8], size: usize) {
    const PIECE: usize = 32;
    match (from.first_chunk::<PIECE>(), to.first_chunk_mut::<PIECE>()) {
        (Some(from), Some(to)) if size <= PIECE => *to = *from,
        _ => to[..size].copy_from_slice(&from[..size]),
    }
}

fn fill_zero(bytes: &mut [u8], from: usize, to: u64) {
    bytes[from..to as usize].fill(0);
}

/// Type letters as nm prints them, decided once for each section (kallsyms.c:elf_type).
struct Letters {
    by_section: Vec<u8>,
}

impl Letters {
    fn of(image: &Image<'_>, profile: &Profile) -> Result<Letters, LinkError> {
        let mut by_section = Vec::new();
        by_section.try_reserve_exact(image.sections().len()).map_err(|_| LinkError::OutOfMemory)?;
        let percpu = image.known().percpu.filter(|_| profile.switches.smp);
        by_section.extend(image.sections().iter().take(usize::from(section_index::LORESERVE)).map(
            |section| {
                match section.index() {
                    // No symbol is in the first section: its index stands for "undefined".
                    0 => b'U',
                    index if percpu == Some(index) => b'a',
                    _ => Letters::of_section(image, section),
                }
            },
        ));
        Ok(Letters { by_section })
    }

    fn of_section(image: &Image<'_>, section: &Section<'_>) -> u8 {
        let known = image.known();
        let mut flags = section.flags();
        // By now Linux has cleared ALLOC of what it does not keep and set it for what kallsyms keeps.
        if [known.modinfo, known.versions].contains(&Some(section.index())) {
            flags &= !ALLOC;
        }
        if section.index() == known.symtab || section.index() == image.symbols().strings_section() {
            flags |= ALLOC;
        }
        let nobits = section.kind() == section_type::NOBITS;
        if flags & EXECINSTR != 0 {
            b't'
        } else if flags & ALLOC != 0 && !nobits {
            if flags & WRITE == 0 { b'r' } else { b'd' }
        } else if nobits {
            b'b'
        } else if has_prefix(section.name(), ".debug") {
            b'n'
        } else {
            b'?'
        }
    }

    #[inline(always)]
    fn of_symbol(&self, symbol: &SymbolRecord) -> u8 {
        if symbol.binding() == binding::WEAK {
            return if symbol.kind() == symbol_type::OBJECT { b'v' } else { b'w' };
        }
        match self.by_section.get(usize::from(symbol.section)) {
            Some(&letter) => letter,
            None if symbol.section == section_index::ABS => b'a',
            None => b'?',
        }
    }
}
