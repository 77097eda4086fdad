//! What can be wrong with a file, said so that its maker can find it.

use alloc::boxed::Box;
use core::fmt;

use crate::name::Name;

/// A section named in an error: its index in the header table and its name, if that much could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionLabel {
    /// Index in the section header table.
    pub index: usize,
    /// Name as shown, empty if it has none.
    pub name: Box<str>,
}

impl SectionLabel {
    pub(crate) fn new(index: usize, name: Name<'_>) -> SectionLabel {
        SectionLabel { index, name: name.to_text().into() }
    }
}

impl fmt::Display for SectionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "section {}", self.index)
        } else {
            write!(f, "section {} ({})", self.index, self.name)
        }
    }
}

/// Why a file is not a module that Linux, or anybody, could load.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// The file ends before a structure that its header promises.
    Truncated {
        /// What does not fit.
        what: &'static str,
        /// First byte after it.
        end: u64,
        /// Bytes that the file has (without the signature trailer).
        length: u64,
    },
    /// The first four bytes are not those of ELF.
    NotElf,
    /// `e_ident` names a class or byte order that does not exist, or a version that is not 1.
    BadIdent {
        /// Which byte of `e_ident`.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// An ELF file, but not a relocatable one.
    NotRelocatable {
        /// `e_type`
        kind: u16,
    },
    /// A header field has a value that the format does not allow.
    BadHeader {
        /// Its name in the gABI.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        expected: &'static str,
    },
    /// A section's bytes lie outside the file.
    SectionOutsideFile {
        /// Which section.
        section: SectionLabel,
        /// `sh_offset`
        offset: u64,
        /// `sh_size`
        size: u64,
        /// Bytes that the file has.
        length: u64,
    },
    /// Two sections claim the same bytes of the file.
    SectionsOverlap {
        /// The earlier one.
        first: SectionLabel,
        /// The later one.
        second: SectionLabel,
        /// First byte that both claim.
        offset: u64,
    },
    /// A section header field has a value that cannot be.
    BadSection {
        /// Which section.
        section: SectionLabel,
        /// Field, in the gABI's words.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        expected: &'static str,
    },
    /// A string table that names depend on does not end with a NUL.
    Unterminated {
        /// Which section.
        section: SectionLabel,
    },
    /// A string table has a name that is longer than any that Linux takes.
    LongName {
        /// Which section.
        section: SectionLabel,
        /// Where in it the name starts, or earlier.
        offset: u64,
        /// Bytes that a name may have.
        bound: u64,
    },
    /// Linux needs this section exactly once and the file has none.
    MissingSection {
        /// Its name or type.
        name: &'static str,
        /// What its absence means.
        meaning: &'static str,
    },
    /// Linux needs this section at most once and the file has two.
    DuplicateSection {
        /// Its name or type.
        name: &'static str,
        /// Index of the first one.
        first: usize,
        /// Index of the second one.
        second: usize,
    },
    /// A symbol's field points outside what it indexes.
    BadSymbol {
        /// Index in the symbol table.
        index: usize,
        /// Its name, if that is not what is wrong.
        name: Box<str>,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// First value that is too large.
        bound: u64,
    },
    /// A relocation points outside its target section or the symbol table.
    BadRelocation {
        /// The relocation section.
        section: SectionLabel,
        /// Which of its entries.
        entry: usize,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// First value that is too large.
        bound: u64,
    },
    /// The file ends with Linux's signature marker but what stands before it is no signature.
    BadSignature {
        /// What is wrong.
        problem: &'static str,
    },
    /// No memory for the section table.
    OutOfMemory,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ImageError::*;
        match self {
            Truncated { what, end, length } => {
                write!(f, "truncated: the {what} would end at byte {end:#x}, the file has {length:#x}")
            }
            NotElf => f.write_str("not an ELF file"),
            BadIdent { field, value } => write!(f, "ELF header: {field} is {value}, which no ELF file has"),
            NotRelocatable { kind } => {
                let what = match kind {
                    2 => "an executable",
                    3 => "a shared object",
                    4 => "a core dump",
                    _ => "of unknown kind",
                };
                write!(f, "ELF header: e_type is {kind} ({what}); a module is relocatable (ET_REL, 1)")
            }
            BadHeader { field, value, expected } => {
                write!(f, "ELF header: {field} is {value:#x}, must be {expected}")
            }
            SectionOutsideFile { section, offset, size, length } => write!(
                f,
                "{section}: {size:#x} bytes at {offset:#x} do not lie in the file of {length:#x} bytes (truncated?)"
            ),
            SectionsOverlap { first, second, offset } => {
                write!(f, "{first} and {second} both claim the file's byte {offset:#x}")
            }
            BadSection { section, field, value, expected } => {
                write!(f, "{section}: {field} is {value:#x}, must be {expected}")
            }
            Unterminated { section } => write!(f, "{section}: does not end with a NUL byte"),
            LongName { section, offset, bound } => {
                write!(f, "{section}: the name at {offset:#x} has more than {bound} bytes")
            }
            MissingSection { name, meaning } => write!(f, "no {name} section: {meaning}"),
            DuplicateSection { name, first, second } => {
                write!(f, "two {name} sections ({first} and {second}); Linux takes a module with exactly one")
            }
            BadSymbol { index, name, field, value, bound } => {
                write!(f, "symbol {index}")?;
                if !name.is_empty() {
                    write!(f, " (\"{name}\")")?;
                }
                write!(f, ": {field} is {value:#x}, must be less than {bound:#x}")
            }
            BadRelocation { section, entry, field, value, bound } => {
                write!(f, "{section} entry {entry}: {field} is {value:#x}, must be less than {bound:#x}")
            }
            BadSignature { problem } => write!(f, "signature trailer: {problem}"),
            OutOfMemory => f.write_str("out of memory while reading the section table"),
        }
    }
}

impl core::error::Error for ImageError {}
