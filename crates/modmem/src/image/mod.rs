//! Reading: a file's bytes become an [`Image`], and every check of the format happens here.
//!
//! What Linux checks (kernel/module/main.c:elf_validity_cache_copy) is checked, and so is what it trusts because a
//! module's author is root: names inside string tables, relocation offsets and symbol indices inside their tables,
//! sections that do not share bytes. Once an `Image` exists, no later stage can meet a bad offset, index or string.

pub mod elf;
mod error;
mod modinfo;
mod name_ends;
mod parameters;
mod relocations;
mod sections;
mod signature;
mod symbols;
mod versions;

use alloc::vec::Vec;

pub use error::{ImageError, SectionLabel};
pub use modinfo::{ModInfo, ModInfoField};
use name_ends::LONGEST_NAME;
pub(crate) use name_ends::NameEnds;
pub use parameters::{Argument, Arguments, Parameter};
pub use relocations::{Relocation, RelocationSection};
pub use sections::Section;
pub(crate) use sections::WellKnown;
pub use signature::{HashAlgorithm, Signature};
pub(crate) use symbols::has_prefix;
pub use symbols::{Symbol, SymbolPlace, SymbolTable};
pub use versions::{ExtendedVersions, Version, Versions};

use crate::arch::Machine;
use crate::name::Name;
use elf::{Encoding, FileHeader, Format, SectionHeader, with_encoding};
use relocations::check_relocations;
use sections::read_sections;

/// A validated, borrowed view of one relocatable kernel module.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    format: Format,
    machine: Machine,
    flags: u32,
    length: usize,
    sections: Vec<Section<'a>>,
    known: WellKnown,
    symbols: SymbolTable<'a>,
    name_ends: NameEnds,
    modinfo: ModInfo<'a>,
    signature: Option<Signature<'a>>,
    bytes_behind: u64,
}

impl<'a> Image<'a> {
    /// Reads and checks a module: any class, byte order and machine, with or without a signature trailer.
    ///
    /// Nothing is copied but the section headers. Time is linear in the number of sections, symbols and relocations.
    ///
    /// # Errors
    /// The first thing that is wrong, with the section, symbol or relocation that it is wrong with.
    pub fn parse(file: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let (bytes, signature) = signature::split(file)?;
        let format = read_ident(bytes)?;
        with_encoding!(format, E => Image::parse_as::<E>(bytes, format, signature))
    }

    fn parse_as<E: Encoding>(
        bytes: &'a [u8],
        format: Format,
        signature: Option<Signature<'a>>,
    ) -> Result<Image<'a>, ImageError> {
        let header_size = FileHeader::size::<E>();
        if bytes.len() < header_size {
            let (end, length) = (header_size as u64, bytes.len() as u64);
            return Err(ImageError::Truncated { what: "ELF header", end, length });
        }
        let header = FileHeader::decode::<E>(bytes);
        if header.kind != elf::ET_REL {
            return Err(ImageError::NotRelocatable { kind: header.kind });
        }
        let machine = Machine::from_elf(header.machine);
        let (sections, known) = read_sections::<E>(bytes, &header)?;
        let bytes_behind = match signature {
            None => signature::bytes_behind(bytes, elf_end::<E>(&header, &sections)),
            Some(_) => 0,
        };
        let symbols = SymbolTable::read::<E>(&sections, &known, format)?;
        let name_ends = NameEnds::of(symbols.strings())?;
        if let Some(offset) = name_ends.long_name() {
            let section = sections[symbols.strings_section()].label();
            return Err(ImageError::LongName { section, offset, bound: LONGEST_NAME as u64 });
        }
        check_relocations::<E>(&sections, &known, &symbols)?;
        let modinfo = ModInfo::read(&sections, &known)?;
        let flags = header.flags;
        Ok(Image {
            format,
            machine,
            flags,
            length: bytes.len(),
            sections,
            known,
            symbols,
            name_ends,
            modinfo,
            signature,
            bytes_behind,
        })
    }

    /// Class and byte order.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The machine that the module's code is for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// `e_flags`
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Bytes of the ELF file, the signature trailer not counted.
    pub fn length(&self) -> usize {
        self.length
    }

    /// All sections, in the order of the header table; the first is the empty one that ELF begins with.
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// The first ALLOC section of that name, which is how Linux looks sections up (main.c:find_sec).
    pub fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|s| s.is_alloc() && s.name() == name)
    }

    pub(crate) fn known(&self) -> &WellKnown {
        &self.known
    }

    /// `.gnu.linkonce.this_module`, which becomes the kernel's `struct module`.
    pub fn this_module(&self) -> &Section<'a> {
        &self.sections[self.known.this_module]
    }

    /// The build id that the linker gave the module (`.note.gnu.build-id`), if it did.
    pub fn build_id(&self) -> Option<&'a [u8]> {
        let note = self.section(".note.gnu.build-id")?.data();
        let size = note.get(4..8)?.first_chunk::<4>()?;
        let size = match self.format.order {
            elf::ByteOrder::Little => u32::from_le_bytes(*size),
            elf::ByteOrder::Big => u32::from_be_bytes(*size),
        };
        // Behind the header of three words stands the name "GNU".
        note.get(16..)?.get(..size as usize)
    }

    /// The symbol table.
    pub fn symbols(&self) -> &SymbolTable<'a> {
        &self.symbols
    }

    /// Where the names of symbols end.
    pub(crate) fn name_ends(&self) -> &NameEnds {
        &self.name_ends
    }

    /// The `.modinfo` strings.
    pub fn modinfo(&self) -> &ModInfo<'a> {
        &self.modinfo
    }

    /// The module's name: the one inside `struct module`, under which kernels register it; `name=` of `.modinfo` where
    /// that has none, as it seems to be where the members of structures are shuffled.
    pub fn name(&self) -> Name<'a> {
        let registered = self.registered_name().filter(|name| !name.is_empty() && name.as_str().is_some());
        registered.or_else(|| self.modinfo.get("name")).unwrap_or_default()
    }

    /// The name inside `struct module`, if it ends; kernels whose structures are not shuffled register a module under it
    /// and no other.
    pub fn registered_name(&self) -> Option<Name<'a>> {
        // `name` follows the state (int) and the list head (two pointers) in struct module.
        let offset = if self.format.class == elf::Class::Elf64 { 24 } else { 12 };
        let field = self.this_module().data().get(offset..)?;
        // MODULE_NAME_LEN (include/linux/moduleparam.h).
        let field = field.get(..64 - self.format.word())?;
        Some(Name(&field[..memchr::memchr(0, field)?]))
    }

    /// Where in `struct module` the pointers to the module's init and exit are, which modpost names alike everywhere.
    pub fn entry_offsets(&self) -> [Option<u64>; 2] {
        let mut offsets = [None; 2];
        let this_module = self.known.this_module;
        for section in self.relocations().filter(|section| section.target().index() == this_module) {
            for relocation in section.iter() {
                let symbol = self.symbols.get(relocation.symbol as usize);
                match symbol.map(|symbol| symbol.name.bytes()) {
                    Some(b"init_module") => offsets[0] = Some(relocation.offset),
                    Some(b"cleanup_module") => offsets[1] = Some(relocation.offset),
                    _ => {}
                }
            }
        }
        offsets
    }

    /// The signature that the file ends with.
    pub fn signature(&self) -> Option<&Signature<'a>> {
        self.signature.as_ref()
    }

    /// Bytes behind the ELF file that are neither a signature nor zeros: Linux loads the module and takes it for unsigned.
    pub fn bytes_behind(&self) -> u64 {
        self.bytes_behind
    }

    /// The versions (CRCs) of the symbols that the module was built against.
    pub fn versions(&self) -> Versions<'a> {
        let data = self.known.versions.map(|index| self.sections[index].data());
        Versions::new(data, self.format)
    }

    /// The same in their extended form, if the module has both parts of it.
    pub fn extended_versions(&self) -> Option<ExtendedVersions<'a>> {
        let data = |index: Option<usize>| index.map(|index| self.sections[index].data());
        let (crcs, names) = (data(self.known.extended_crcs)?, data(self.known.extended_names)?);
        Some(ExtendedVersions::new(crcs, names, self.format))
    }

    /// The relocation sections whose targets are loaded, in file order. Those of percpu data are among them, although
    /// Linux applies these only where percpu data is ordinary data (without SMP), and from 6.16 on.
    pub fn relocations(&self) -> impl Iterator<Item = RelocationSection<'_, 'a>> {
        self.sections.iter().filter_map(|section| RelocationSection::of(self, section))
    }

    /// Parameters that the module declares.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter<'a>> {
        parameters::declared(&self.modinfo)
    }

    /// Names that the module exports and whether for GPL-compatible modules only, in symbol table order.
    ///
    /// This is what the file says (`__ksymtab_NAME` symbols); what is registered on loading is read from the
    /// relocated table itself.
    pub fn exports(&self) -> impl Iterator<Item = (Name<'a>, bool)> {
        symbols::declared_exports(self)
    }
}

/// Where the ELF file ends: behind its last section, or the section header table.
fn elf_end<E: Encoding>(header: &FileHeader, sections: &[Section<'_>]) -> u64 {
    let table = header.section_table + u64::from(header.section_count) * SectionHeader::size::<E>() as u64;
    let with_bytes = sections.iter().filter(|section| !section.data().is_empty());
    with_bytes.map(|section| section.offset() + section.size()).fold(table, u64::max)
}

fn read_ident(bytes: &[u8]) -> Result<Format, ImageError> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err(ImageError::NotElf);
    }
    let Some(ident) = bytes.get(..16) else {
        return Err(ImageError::Truncated { what: "ELF header", end: 16, length: bytes.len() as u64 });
    };
    let class = match ident[4] {
        1 => elf::Class::Elf32,
        2 => elf::Class::Elf64,
        value => return Err(ImageError::BadIdent { field: "EI_CLASS", value }),
    };
    let order = match ident[5] {
        1 => elf::ByteOrder::Little,
        2 => elf::ByteOrder::Big,
        value => return Err(ImageError::BadIdent { field: "EI_DATA", value }),
    };
    if ident[6] != 1 {
        return Err(ImageError::BadIdent { field: "EI_VERSION", value: ident[6] });
    }
    Ok(Format { class, order })
}
