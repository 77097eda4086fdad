//! The ELF records that a relocatable file is made of, for both classes and both byte orders.
//!
//! Values and names: System V gABI, chapters "Object Files" and "Relocation". A record is decoded from bytes when it
//! is looked at; nothing is cast, so neither alignment nor byte order of the host matters, and nothing here is
//! `unsafe`. The hot loops (symbols, relocations) are generic over `Encoding` and so cost one load a field.

use core::fmt;

/// Width of addresses in the file (`e_ident[EI_CLASS]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// ELFCLASS32
    Elf32,
    /// ELFCLASS64
    Elf64,
}

/// Byte order of the file (`e_ident[EI_DATA]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// ELFDATA2LSB
    Little,
    /// ELFDATA2MSB
    Big,
}

impl ByteOrder {
    /// The number in two bytes.
    pub const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            ByteOrder::Little => u16::from_le_bytes(bytes),
            ByteOrder::Big => u16::from_be_bytes(bytes),
        }
    }

    /// The number in four bytes.
    pub const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        }
    }

    /// The number in eight bytes.
    pub const fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            ByteOrder::Little => u64::from_le_bytes(bytes),
            ByteOrder::Big => u64::from_be_bytes(bytes),
        }
    }

    /// The bytes of a number.
    pub const fn bytes_of_u32(self, value: u32) -> [u8; 4] {
        match self {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        }
    }

    /// The bytes of a number.
    pub const fn bytes_of_u64(self, value: u64) -> [u8; 8] {
        match self {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        }
    }
}

/// Class and byte order: all that is needed to decode a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// Width of addresses.
    pub class: Class,
    /// Order of the bytes in a word.
    pub order: ByteOrder,
}

impl Format {
    /// Bytes of an address.
    pub const fn word(self) -> usize {
        match self.class {
            Class::Elf32 => 4,
            Class::Elf64 => 8,
        }
    }

    /// An address as the machine computes it: with 32-bit addresses, sums wrap at 4 GiB.
    pub const fn wrap(self, value: u64) -> u64 {
        match self.class {
            Class::Elf32 => value as u32 as u64,
            Class::Elf64 => value,
        }
    }

    /// The bytes of an address-sized number; of 32 bits the lower ones.
    pub fn bytes_of_word(self, value: u64) -> WordBytes {
        let bytes = match self.class {
            Class::Elf32 => {
                let mut bytes = [0; 8];
                bytes[..4].copy_from_slice(&self.order.bytes_of_u32(value as u32));
                bytes
            }
            Class::Elf64 => self.order.bytes_of_u64(value),
        };
        WordBytes { bytes, length: self.word() }
    }

    /// The address-sized number that `bytes` begin with.
    pub fn read_word(self, bytes: &[u8]) -> Option<u64> {
        match self.class {
            Class::Elf32 => Some(u64::from(self.order.u32(*bytes.first_chunk()?))),
            Class::Elf64 => Some(self.order.u64(*bytes.first_chunk()?)),
        }
    }
}

/// The bytes of an address-sized number, see [`Format::bytes_of_word`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordBytes {
    bytes: [u8; 8],
    length: usize,
}

impl AsRef<[u8]> for WordBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            ByteOrder::Little => "little-endian",
            ByteOrder::Big => "big-endian",
        };
        write!(f, "{}-bit {order}", self.word() * 8)
    }
}

/// `e_type` of a relocatable file.
pub(crate) const ET_REL: u16 = 1;

/// Section types (`sh_type`) that the loader tells apart.
pub mod section_type {
    /// Inactive header; its fields mean nothing.
    pub const NULL: u32 = 0;
    /// Bytes that belong to the program.
    pub const PROGBITS: u32 = 1;
    /// The symbol table.
    pub const SYMTAB: u32 = 2;
    /// A string table.
    pub const STRTAB: u32 = 3;
    /// Relocations with addends.
    pub const RELA: u32 = 4;
    /// Notes.
    pub const NOTE: u32 = 7;
    /// Occupies no bytes in the file and is zero in memory.
    pub const NOBITS: u32 = 8;
    /// Relocations whose addends are in the target.
    pub const REL: u32 = 9;
}

/// Section flags (`sh_flags`), Linux's own two among them (include/uapi/linux/elf.h).
pub mod section_flag {
    /// SHF_WRITE
    pub const WRITE: u64 = 1;
    /// SHF_ALLOC
    pub const ALLOC: u64 = 2;
    /// SHF_EXECINSTR
    pub const EXECINSTR: u64 = 4;
    /// SHF_RELA_LIVEPATCH: relocations that livepatch applies, not the loader.
    pub const RELA_LIVEPATCH: u64 = 0x0010_0000;
    /// SHF_RO_AFTER_INIT: set by the loader. In files the same bit is SHF_GNU_RETAIN, which Linux does not tell from it.
    pub const RO_AFTER_INIT: u64 = 0x0020_0000;
}

/// Special section indices (`st_shndx`).
pub mod section_index {
    /// SHN_UNDEF
    pub const UNDEF: u16 = 0;
    /// First reserved index.
    pub const LORESERVE: u16 = 0xff00;
    /// SHN_LIVEPATCH, Linux's own.
    pub const LIVEPATCH: u16 = 0xff20;
    /// SHN_ABS
    pub const ABS: u16 = 0xfff1;
    /// SHN_COMMON
    pub const COMMON: u16 = 0xfff2;
}

/// Symbol bindings (`st_info >> 4`).
pub mod binding {
    /// STB_WEAK
    pub const WEAK: u8 = 2;
}

/// Symbol types (`st_info & 15`).
pub mod symbol_type {
    /// STT_OBJECT
    pub const OBJECT: u8 = 1;
    /// STT_FUNC
    pub const FUNC: u8 = 2;
    /// STT_SECTION
    pub const SECTION: u8 = 3;
}

/// One class and byte order, known when the code is compiled.
///
/// A field is read at an offset that its record is long enough for: every caller cuts records with `chunks_exact`
/// or checks the length first.
pub(crate) trait Encoding {
    const IS_64: bool;
    /// Size of a symbol record.
    const SYMBOL: usize = if Self::IS_64 { 24 } else { 16 };
    fn u16(bytes: &[u8], at: usize) -> u16;
    fn u32(bytes: &[u8], at: usize) -> u32;
    fn u64(bytes: &[u8], at: usize) -> u64;
    fn put_u16(bytes: &mut [u8], at: usize, value: u16);
    fn put_u32(bytes: &mut [u8], at: usize, value: u32);
    fn put_u64(bytes: &mut [u8], at: usize, value: u64);

    /// An address-sized word.
    fn word(bytes: &[u8], at: usize) -> u64 {
        if Self::IS_64 { Self::u64(bytes, at) } else { u64::from(Self::u32(bytes, at)) }
    }

    /// Writes an address-sized word; a 32-bit file keeps the low half.
    fn put_word(bytes: &mut [u8], at: usize, value: u64) {
        if Self::IS_64 { Self::put_u64(bytes, at, value) } else { Self::put_u32(bytes, at, value as u32) }
    }
}

macro_rules! encoding {
    ($name:ident, $is_64:literal, $from:ident, $to:ident) => {
        pub(crate) struct $name;
        impl Encoding for $name {
            const IS_64: bool = $is_64;
            #[inline(always)]
            fn u16(bytes: &[u8], at: usize) -> u16 {
                u16::$from([bytes[at], bytes[at + 1]])
            }
            #[inline(always)]
            fn u32(bytes: &[u8], at: usize) -> u32 {
                let mut word = [0; 4];
                word.copy_from_slice(&bytes[at..at + 4]);
                u32::$from(word)
            }
            #[inline(always)]
            fn u64(bytes: &[u8], at: usize) -> u64 {
                let mut word = [0; 8];
                word.copy_from_slice(&bytes[at..at + 8]);
                u64::$from(word)
            }
            #[inline(always)]
            fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
                bytes[at..at + 2].copy_from_slice(&value.$to());
            }
            #[inline(always)]
            fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
                bytes[at..at + 4].copy_from_slice(&value.$to());
            }
            #[inline(always)]
            fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
                bytes[at..at + 8].copy_from_slice(&value.$to());
            }
        }
    };
}
encoding!(Little32, false, from_le_bytes, to_le_bytes);
encoding!(Little64, true, from_le_bytes, to_le_bytes);
encoding!(Big32, false, from_be_bytes, to_be_bytes);
encoding!(Big64, true, from_be_bytes, to_be_bytes);

/// Runs `$body` with `$encoding` standing for the type that decodes `$format`.
macro_rules! with_encoding {
    ($format:expr, $encoding:ident => $body:expr) => {{
        use $crate::image::elf::{Big32, Big64, ByteOrder, Class, Little32, Little64};
        let format: $crate::image::elf::Format = $format;
        match (format.class, format.order) {
            (Class::Elf64, ByteOrder::Little) => {
                type $encoding = Little64;
                $body
            }
            (Class::Elf32, ByteOrder::Little) => {
                type $encoding = Little32;
                $body
            }
            (Class::Elf64, ByteOrder::Big) => {
                type $encoding = Big64;
                $body
            }
            (Class::Elf32, ByteOrder::Big) => {
                type $encoding = Big32;
                $body
            }
        }
    }};
}
pub(crate) use with_encoding;

/// The file header, without the fields that a relocatable file does not use.
pub(crate) struct FileHeader {
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) flags: u32,
    pub(crate) section_table: u64,
    pub(crate) section_header_size: u16,
    pub(crate) section_count: u16,
    pub(crate) section_names: u16,
}

impl FileHeader {
    pub(crate) const fn size<E: Encoding>() -> usize {
        if E::IS_64 { 64 } else { 52 }
    }

    pub(crate) fn decode<E: Encoding>(b: &[u8]) -> FileHeader {
        // Offsets of e_shoff and of what follows the three address-sized fields.
        let (shoff, rest) = if E::IS_64 { (40, 48) } else { (32, 36) };
        FileHeader {
            kind: E::u16(b, 16),
            machine: E::u16(b, 18),
            section_table: E::word(b, shoff),
            flags: E::u32(b, rest),
            section_header_size: E::u16(b, rest + 10),
            section_count: E::u16(b, rest + 12),
            section_names: E::u16(b, rest + 14),
        }
    }
}

/// A section header, the same for every format once decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SectionHeader {
    pub(crate) name: u32,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) address: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) link: u32,
    pub(crate) info: u32,
    pub(crate) alignment: u64,
    pub(crate) entry_size: u64,
}

impl SectionHeader {
    pub(crate) const fn size<E: Encoding>() -> usize {
        if E::IS_64 { 64 } else { 40 }
    }

    pub(crate) fn decode<E: Encoding>(b: &[u8]) -> SectionHeader {
        let word = if E::IS_64 { 8 } else { 4 };
        SectionHeader {
            name: E::u32(b, 0),
            kind: E::u32(b, 4),
            flags: E::word(b, 8),
            address: E::word(b, 8 + word),
            offset: E::word(b, 8 + 2 * word),
            size: E::word(b, 8 + 3 * word),
            link: E::u32(b, 8 + 4 * word),
            info: E::u32(b, 12 + 4 * word),
            alignment: E::word(b, 16 + 4 * word),
            entry_size: E::word(b, 16 + 5 * word),
        }
    }
}

/// A symbol table entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SymbolRecord {
    pub(crate) name: u32,
    pub(crate) info: u8,
    pub(crate) section: u16,
    pub(crate) value: u64,
    pub(crate) size: u64,
}

impl SymbolRecord {
    #[inline(always)]
    pub(crate) fn decode<E: Encoding>(b: &[u8]) -> SymbolRecord {
        if E::IS_64 {
            SymbolRecord {
                name: E::u32(b, 0),
                info: b[4],
                section: E::u16(b, 6),
                value: E::u64(b, 8),
                size: E::u64(b, 16),
            }
        } else {
            SymbolRecord {
                name: E::u32(b, 0),
                value: E::word(b, 4),
                size: E::word(b, 8),
                info: b[12],
                section: E::u16(b, 14),
            }
        }
    }

    /// Writes `st_name` of a copy of a record.
    #[inline(always)]
    pub(crate) fn put_name<E: Encoding>(record: &mut [u8], name: u32) {
        E::put_u32(record, 0, name);
    }

    /// Writes `st_value` of a copy of a record.
    #[inline(always)]
    pub(crate) fn put_value<E: Encoding>(record: &mut [u8], value: u64) {
        E::put_word(record, if E::IS_64 { 8 } else { 4 }, value);
    }

    pub(crate) fn binding(&self) -> u8 {
        self.info >> 4
    }

    pub(crate) fn kind(&self) -> u8 {
        self.info & 15
    }
}
