//! The symbol table and its names.

use super::Image;
use super::elf::{Encoding, Format, SymbolRecord, binding, section_index, with_encoding};
use super::error::ImageError;
use super::sections::{Section, WellKnown};
use crate::name::{Name, string_at};

/// A symbol.
#[derive(Clone, Copy, Debug)]
pub struct Symbol<'a> {
    /// Name; empty for section symbols and the first symbol.
    pub name: Name<'a>,
    /// `st_value`: an offset into its section.
    pub value: u64,
    /// `st_size`
    pub size: u64,
    /// Where it is defined.
    pub place: SymbolPlace,
    /// Whether its binding is STB_WEAK.
    pub weak: bool,
    /// `st_info & 15`, see [`super::elf::symbol_type`].
    pub kind: u8,
}

/// What `st_shndx` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolPlace {
    /// SHN_UNDEF: somebody else defines it.
    Undefined,
    /// In the section of that index.
    Section(usize),
    /// SHN_ABS: the value is final.
    Absolute,
    /// SHN_COMMON, which Linux refuses.
    Common,
    /// SHN_LIVEPATCH: livepatch resolves it, not the loader.
    Livepatch,
}

/// The symbol table of a module: whole records whose names and sections are known to exist.
#[derive(Clone, Copy, Debug)]
pub struct SymbolTable<'a> {
    records: &'a [u8],
    strings: &'a [u8],
    strings_section: usize,
    format: Format,
}

impl<'a> SymbolTable<'a> {
    pub(super) fn read<E: Encoding>(
        sections: &[Section<'a>],
        known: &WellKnown,
        format: Format,
    ) -> Result<SymbolTable<'a>, ImageError> {
        let section = &sections[known.symtab];
        if section.entry_size() != E::SYMBOL as u64 {
            let expected = if E::IS_64 { "0x18" } else { "0x10" };
            return Err(section.bad("sh_entsize", section.entry_size(), expected));
        }
        if !section.size().is_multiple_of(E::SYMBOL as u64) || section.data().is_empty() {
            return Err(section.bad("sh_size", section.size(), "a multiple of sh_entsize and not 0"));
        }
        let strings_section = section.link() as usize;
        let strings = match sections.get(strings_section) {
            Some(strings) if strings.kind() == super::elf::section_type::STRTAB => strings,
            _ => {
                return Err(section.bad("sh_link", u64::from(section.link()), "the index of a string table"));
            }
        };
        if strings.data().last() != Some(&0) {
            return Err(ImageError::Unterminated { section: strings.label() });
        }
        let table = SymbolTable { records: section.data(), strings: strings.data(), strings_section, format };
        table.check::<E>(sections.len())?;
        Ok(table)
    }

    fn check<E: Encoding>(&self, section_count: usize) -> Result<(), ImageError> {
        // One pass without branches for the common case; the culprit is only looked for where there is one.
        let (mut last_name, mut last_section) = (0, 0);
        for record in self.records.chunks_exact(E::SYMBOL) {
            let symbol = SymbolRecord::decode::<E>(record);
            last_name = last_name.max(symbol.name);
            // Reserved indices become small: which of them are allowed is rarely asked.
            let special = symbol.section == section_index::ABS;
            last_section = last_section.max(if special { 0 } else { symbol.section });
        }
        let names = self.strings.len() as u64;
        if u64::from(last_name) < names && usize::from(last_section) < section_count {
            return Ok(());
        }
        for (index, record) in self.records.chunks_exact(E::SYMBOL).enumerate() {
            let symbol = SymbolRecord::decode::<E>(record);
            if u64::from(symbol.name) >= names {
                let (field, value) = ("st_name", u64::from(symbol.name));
                return Err(ImageError::BadSymbol { index, name: "".into(), field, value, bound: names });
            }
            let special = symbol.section >= section_index::LORESERVE
                && matches!(
                    symbol.section,
                    section_index::ABS | section_index::COMMON | section_index::LIVEPATCH
                );
            if usize::from(symbol.section) >= section_count && !special {
                let name = string_at(self.strings, symbol.name).to_text().into();
                let (field, value) = ("st_shndx", u64::from(symbol.section));
                let bound = section_count as u64;
                return Err(ImageError::BadSymbol { index, name, field, value, bound });
            }
        }
        Ok(())
    }

    /// Number of symbols, the empty first one included.
    pub fn len(&self) -> usize {
        self.records.len() / with_encoding!(self.format, E => E::SYMBOL)
    }

    /// Never true: a module has symbols.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The symbol at `index`.
    pub fn get(&self, index: usize) -> Option<Symbol<'a>> {
        with_encoding!(self.format, E => {
            let start = index.checked_mul(E::SYMBOL)?;
            let record = self.records.get(start..start.checked_add(E::SYMBOL)?)?;
            Some(self.symbol(&SymbolRecord::decode::<E>(record)))
        })
    }

    /// All symbols in table order.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'a>> + use<'a> {
        let table = *self;
        (0..self.len()).filter_map(move |index| table.get(index))
    }

    fn symbol(&self, record: &SymbolRecord) -> Symbol<'a> {
        let place = match record.section {
            section_index::UNDEF => SymbolPlace::Undefined,
            section_index::ABS => SymbolPlace::Absolute,
            section_index::COMMON => SymbolPlace::Common,
            section_index::LIVEPATCH => SymbolPlace::Livepatch,
            index => SymbolPlace::Section(usize::from(index)),
        };
        Symbol {
            name: string_at(self.strings, record.name),
            value: record.value,
            size: record.size,
            place,
            weak: record.binding() == binding::WEAK,
            kind: record.kind(),
        }
    }

    /// The raw records, for the loops that go over all of them.
    pub(crate) fn records(&self) -> &'a [u8] {
        self.records
    }

    /// The string table that holds the names; it ends with a NUL.
    pub(crate) fn strings(&self) -> &'a [u8] {
        self.strings
    }

    pub(crate) fn strings_section(&self) -> usize {
        self.strings_section
    }

    /// The name at an `st_name` that was checked when the table was read.
    pub(crate) fn name_at(&self, offset: u32) -> Name<'a> {
        string_at(self.strings, offset)
    }
}

const EXPORT_PREFIX: &[u8] = b"__ksymtab_";

pub(super) fn declared_exports<'a>(image: &Image<'a>) -> impl Iterator<Item = (Name<'a>, bool)> {
    let (plain, gpl) = (image.known().ksymtab, image.known().ksymtab_gpl);
    image.symbols().iter().filter_map(move |symbol| {
        let SymbolPlace::Section(section) = symbol.place else { return None };
        let is_gpl = Some(section) == gpl;
        let name = symbol.name.bytes().strip_prefix(EXPORT_PREFIX)?;
        (is_gpl || Some(section) == plain).then_some((Name(name), is_gpl))
    })
}

/// Whether a section's name begins with `prefix`, the only test that Linux knows for "init" and "exit".
#[inline(always)]
pub(crate) fn has_prefix(name: Name<'_>, prefix: &str) -> bool {
    name.bytes().starts_with(prefix.as_bytes())
}
