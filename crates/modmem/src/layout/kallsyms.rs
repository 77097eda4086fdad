//! The symbol tables that a module keeps in its own memory (kernel/module/kallsyms.c:layout_symtab).
//!
//! While it loads, a module has its whole symbol and string table in InitData; for good, it has those of its core
//! symbols at the end of Data.

use super::MemoryKind;
use super::error::LayoutError;
use super::{SectionPlace, advance};
use crate::image::Image;
use crate::image::elf::{Encoding, SymbolRecord, with_encoding};
use crate::profile::Profile;

/// Offsets of the kallsyms parts: `core_` in Data, `init_` in InitData.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KallsymsLayout {
    /// Number of symbols kept for good.
    pub core_count: u64,
    /// Where their records lie.
    pub core_symbols: u64,
    /// Where their names lie.
    pub core_strings: u64,
    /// Bytes of their names.
    pub core_strings_size: u64,
    /// Where their type letters lie, a byte each.
    pub core_types: u64,
    /// Number of all symbols, kept while the module loads.
    pub init_count: u64,
    /// Where the whole symbol table lies.
    pub init_symbols: u64,
    /// Where the whole string table lies.
    pub init_strings: u64,
    /// Where the temporary `struct mod_kallsyms` lies.
    pub init_struct: u64,
    /// Where the type letters of all symbols lie, a byte each.
    pub init_types: u64,
}

impl KallsymsLayout {
    pub(super) fn rebase(&mut self, data: u64, init_data: u64) {
        for offset in [&mut self.core_symbols, &mut self.core_strings, &mut self.core_types] {
            *offset -= data;
        }
        let init =
            [&mut self.init_symbols, &mut self.init_strings, &mut self.init_struct, &mut self.init_types];
        for offset in init {
            *offset -= init_data;
        }
    }
}

/// `sizeof` and `alignof` of `struct mod_kallsyms`: three pointers and an unsigned int.
pub(crate) const fn struct_size<E: Encoding>() -> (u64, u64) {
    if E::IS_64 { (32, 8) } else { (16, 4) }
}

/// Appends the kallsyms parts to Data and InitData, in Linux's order.
pub(super) fn append(
    image: &Image<'_>,
    profile: &Profile,
    places: &mut [Option<SectionPlace>],
    data: &mut u64,
    init_data: &mut u64,
) -> Result<KallsymsLayout, LayoutError> {
    let symbols = image.symbols();
    let symtab = &image.sections()[image.known().symtab];
    let strtab = &image.sections()[symbols.strings_section()];
    with_encoding!(image.format(), E => {
        let init = MemoryKind::InitData;
        let init_symbols = advance(init_data, init, symtab.size(), symtab.alignment())?;
        places[symtab.index()] = Some(SectionPlace { kind: init, offset: init_symbols });

        let (core_count, core_strings_size) = core_size::<E>(image, profile, places);
        let kind = MemoryKind::Data;
        let core_symbols = advance(data, kind, core_count * E::SYMBOL as u64, symtab.alignment())?;
        let core_strings = advance(data, kind, core_strings_size, 1)?;
        let core_types = advance(data, kind, core_count, 1)?;

        let init_strings = advance(init_data, init, strtab.size(), strtab.alignment())?;
        places[strtab.index()] = Some(SectionPlace { kind: init, offset: init_strings });
        let (size, alignment) = struct_size::<E>();
        let init_struct = advance(init_data, init, size, alignment)?;
        let init_types = advance(init_data, init, symbols.len() as u64, 1)?;
        Ok(KallsymsLayout {
            core_count,
            core_symbols,
            core_strings,
            core_strings_size,
            core_types,
            init_count: symbols.len() as u64,
            init_symbols,
            init_strings,
            init_struct,
            init_types,
        })
    })
}

/// Which symbols stay after init (kallsyms.c:is_core_symbol).
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreSymbols<'p> {
    /// Livepatch modules keep every symbol.
    all: bool,
    /// Without KALLSYMS_ALL only functions stay.
    data_too: bool,
    percpu: Option<usize>,
    /// By section index. The symbol tables have no place yet, or are in InitData.
    places: &'p [Option<SectionPlace>],
}

impl<'p> CoreSymbols<'p> {
    /// `places` has the place of each section that is loaded, by index.
    pub(crate) fn of(
        image: &Image<'_>,
        profile: &Profile,
        places: &'p [Option<SectionPlace>],
    ) -> CoreSymbols<'p> {
        let data_too = profile.switches.kallsyms_all;
        let percpu = image.known().percpu.filter(|_| data_too && profile.switches.smp);
        CoreSymbols { all: image.modinfo().get("livepatch").is_some(), data_too, percpu, places }
    }

    /// Whether the symbols of a section stay.
    #[inline(always)]
    pub(crate) fn keeps_section(&self, section: usize) -> bool {
        match self.places.get(section) {
            Some(Some(place)) => !place.kind.is_init() && (self.data_too || place.kind.is_text()),
            Some(None) => section != 0 && self.percpu == Some(section),
            None => false,
        }
    }

    /// Whether all symbols stay, whatever their sections are.
    pub(crate) fn keeps_all(&self) -> bool {
        self.all
    }
}

/// As many sections as most modules have.
const FEW_SECTIONS: usize = 128;

fn core_size<E: Encoding>(
    image: &Image<'_>,
    profile: &Profile,
    places: &[Option<SectionPlace>],
) -> (u64, u64) {
    let core = CoreSymbols::of(image, profile, places);
    // Nearly all symbols are of the first sections: what these say is looked up, not found out again.
    let few: [bool; FEW_SECTIONS] = ::core::array::from_fn(|section| core.keeps_section(section));
    let kept = |section: usize| few.get(section).copied().unwrap_or_else(|| core.keeps_section(section));
    let (symbols, ends) = (image.symbols(), image.name_ends());
    let (mut count, mut strings) = (0, 0);
    for (index, record) in symbols.records().chunks_exact(E::SYMBOL).enumerate() {
        let symbol = SymbolRecord::decode::<E>(record);
        if (symbol.name != 0 && kept(usize::from(symbol.section))) || index == 0 || core.all {
            count += 1;
            strings += ends.length(symbol.name) as u64 + 1;
        }
    }
    (count, strings)
}
