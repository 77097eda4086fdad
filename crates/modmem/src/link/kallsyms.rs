//! Writing a module's symbol tables into its own memory (kernel/module/kallsyms.c:add_kallsyms).

use super::error::LinkError;
use super::placement::Placement;
use crate::address::RunAddr;
use crate::image::elf::section_flag::{ALLOC, EXECINSTR, WRITE};
use crate::image::elf::{Encoding, SymbolRecord, binding, section_index, section_type, symbol_type};
use crate::image::{Image, Section, has_prefix};
use crate::layout::{
    CoreSymbols, KallsymsLayout, Layout, MemoryKind, Shape, is_not_kept, kallsyms_struct_size,
};
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
    let address = placement.address(MemoryKind::InitData).unwrap_or_default();
    let core = CoreSymbols::of(image, profile, placement.layout().places());
    let facts = Facts::of(image, profile, placement.layout(), core)?;
    // Names that another image has, or symbols that stay by another profile, have no room here.
    let init = placement.bytes_mut(MemoryKind::InitData);
    write_all::<E>(image, &layout, values, &facts, init).ok_or(LinkError::OtherImage)?;
    write_strings::<E>(image, &layout, address, init).ok_or(LinkError::OtherImage)?;
    let data = placement.bytes_mut(MemoryKind::Data);
    write_core::<E>(image, &layout, values, &facts, data).ok_or(LinkError::OtherImage)
}

/// What stands between and behind the symbols of InitData: the names and the temporary `struct mod_kallsyms`.
fn write_strings<E: Encoding>(
    image: &Image<'_>,
    layout: &KallsymsLayout,
    address: RunAddr,
    init: &mut [u8],
) -> Option<()> {
    let (symbols, names) = (image.symbols(), image.symbols().strings());
    let (symtab, strtab) = (layout.init_symbols, layout.init_strings);
    fill_zero(init, symtab as usize + symbols.records().len(), strtab)?;
    init.get_mut(strtab as usize..)?.get_mut(..names.len())?.copy_from_slice(names);
    fill_zero(init, strtab as usize + names.len(), layout.init_struct)?;
    let (size, _) = kallsyms_struct_size::<E>();
    let temporary = init.get_mut(layout.init_struct as usize..)?.get_mut(..size as usize)?;
    let (symtab, strtab, types) = (address + symtab, address + strtab, address + layout.init_types);
    write_struct::<E>(temporary, symtab, symbols.len(), strtab, types);
    Some(())
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

/// The records and type letters of all symbols.
fn write_all<E: Encoding>(
    image: &Image<'_>,
    layout: &KallsymsLayout,
    values: &[u64],
    facts: &Facts,
    init: &mut [u8],
) -> Option<()> {
    let (all, types) = init.split_at_mut_checked(layout.init_types as usize)?;
    let all = all.get_mut(layout.init_symbols as usize..)?.chunks_exact_mut(E::SYMBOL).zip(types);
    let sources = image.symbols().records().chunks_exact(E::SYMBOL).zip(values).zip(all);
    for ((source, &value), (record, letter)) in sources {
        let symbol = SymbolRecord::decode::<E>(source);
        record.copy_from_slice(source);
        SymbolRecord::put_value::<E>(record, value);
        *letter = facts.letter(&symbol);
    }
    Some(())
}

/// The records, type letters and names of the symbols that stay. A pass of its own: one for both tables, with six
/// places to write to in turn, is slower.
fn write_core<E: Encoding>(
    image: &Image<'_>,
    layout: &KallsymsLayout,
    values: &[u64],
    facts: &Facts,
    data: &mut [u8],
) -> Option<()> {
    let symbols = image.symbols();
    // The layout put records, names and letters one behind the other.
    let (head, types) = data.split_at_mut_checked(layout.core_types as usize)?;
    let (head, mut strings) = head.split_at_mut_checked(layout.core_strings as usize)?;
    let mut core = head.get_mut(layout.core_symbols as usize..)?.chunks_exact_mut(E::SYMBOL).zip(types);
    let (names, ends) = (symbols.strings(), image.name_ends());
    let mut name_offset = 0;
    for ((index, source), &value) in symbols.records().chunks_exact(E::SYMBOL).enumerate().zip(values) {
        let symbol = SymbolRecord::decode::<E>(source);
        if !facts.keeps(index, &symbol) {
            continue;
        }
        let (record, letter) = core.next()?;
        record.copy_from_slice(source);
        SymbolRecord::put_value::<E>(record, value);
        SymbolRecord::put_name::<E>(record, name_offset);
        *letter = facts.letter(&symbol);
        // The NUL is copied with the name.
        let size = ends.length(symbol.name) + 1;
        copy_name(names.get(symbol.name as usize..)?, strings, size)?;
        strings = strings.get_mut(size..)?;
        name_offset += size as u32;
    }
    Some(())
}

/// Copies `size` bytes, in two moves of fixed size if that is enough: what is written too much is overwritten by the
/// next name, and a call for each name costs more.
#[inline(always)]
fn copy_name(from: &[u8], to: &mut [u8], size: usize) -> Option<()> {
    const PIECE: usize = 32;
    match (from.first_chunk::<PIECE>(), to.first_chunk_mut::<PIECE>()) {
        (Some(from), Some(to)) if size <= PIECE => *to = *from,
        _ => to.get_mut(..size)?.copy_from_slice(from.get(..size)?),
    }
    Some(())
}

fn fill_zero(bytes: &mut [u8], from: usize, to: u64) -> Option<()> {
    bytes.get_mut(from..to as usize)?.fill(0);
    Some(())
}

/// What kallsyms says of a symbol, decided once for each section: its type letter as nm prints it
/// (kallsyms.c:elf_type), and whether it stays after init.
struct Facts {
    /// By section index; symbols of no section are past its end, undefined ones at index 0.
    by_section: Vec<(u8, bool)>,
    /// Livepatch modules keep every symbol.
    all: bool,
}

impl Facts {
    fn of(
        image: &Image<'_>,
        profile: &Profile,
        layout: &Layout,
        core: CoreSymbols<'_>,
    ) -> Result<Facts, LinkError> {
        let mut by_section = Vec::new();
        by_section.try_reserve_exact(image.sections().len()).map_err(|_| LinkError::OutOfMemory)?;
        let percpu = image.known().percpu.filter(|_| profile.switches.smp);
        let sections = image.sections().iter().take(usize::from(section_index::LORESERVE));
        by_section.extend(sections.map(|section| {
            let letter = match section.index() {
                // No symbol is in the first section: its index stands for "undefined".
                0 => b'U',
                index if percpu == Some(index) => b'a',
                _ => Facts::letter_of_section(image, profile, section, layout.shape(section)),
            };
            (letter, core.keeps_section(section.index()))
        }));
        Ok(Facts { by_section, all: core.keeps_all() })
    }

    fn letter_of_section(image: &Image<'_>, profile: &Profile, section: &Section<'_>, shape: Shape) -> u8 {
        let known = image.known();
        let mut flags = shape.flags;
        // By now Linux has cleared ALLOC of what it does not keep and set it for what kallsyms keeps.
        if is_not_kept(image, profile, section.index()) {
            flags &= !ALLOC;
        }
        if section.index() == known.symtab || section.index() == image.symbols().strings_section() {
            flags |= ALLOC;
        }
        let nobits = section.kind() == section_type::NOBITS || !shape.in_file;
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
    fn letter(&self, symbol: &SymbolRecord) -> u8 {
        if symbol.binding() == binding::WEAK {
            return if symbol.kind() == symbol_type::OBJECT { b'v' } else { b'w' };
        }
        match self.by_section.get(usize::from(symbol.section)) {
            Some(&(letter, _)) => letter,
            None if symbol.section == section_index::ABS => b'a',
            None => b'?',
        }
    }

    #[inline(always)]
    fn keeps(&self, index: usize, symbol: &SymbolRecord) -> bool {
        let core = || self.by_section.get(usize::from(symbol.section)).is_some_and(|&(_, core)| core);
        index == 0 || self.all || (symbol.name != 0 && core())
    }
}
