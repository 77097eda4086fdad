//! `__versions`: the CRC of each symbol that a module was built against (CONFIG_MODVERSIONS).

use super::elf::{Encoding, Format, with_encoding};
use crate::name::{Name, length_to_nul};

/// Size of `struct modversion_info` on every machine (include/linux/module.h): a long and a name that fills it up.
const ENTRY: usize = 64;

/// The entries of `__versions`.
#[derive(Clone, Copy, Debug)]
pub struct Versions<'a> {
    data: &'a [u8],
    format: Format,
}

/// One symbol's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// The symbol.
    pub name: Name<'a>,
    /// CRC of its type, as genksyms or gendwarfksyms computed it.
    pub crc: u32,
}

impl<'a> Versions<'a> {
    pub(super) fn new(data: &'a [u8], format: Format) -> Versions<'a> {
        Versions { data, format }
    }

    /// Number of entries; bytes after the last whole one do not count, as in Linux.
    pub fn len(&self) -> usize {
        self.data.len() / ENTRY
    }

    /// Whether the module has no versions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at `index`.
    pub fn get(&self, index: usize) -> Option<Version<'a>> {
        let start = index.checked_mul(ENTRY)?;
        self.data.get(start..)?.first_chunk().map(|entry| self.version(entry))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = Version<'a>> + use<'a> {
        let versions = *self;
        self.data.as_chunks().0.iter().map(move |entry| versions.version(entry))
    }

    #[inline]
    fn version(&self, entry: &'a [u8; ENTRY]) -> Version<'a> {
        with_encoding!(self.format, E => {
            let name = &entry[if E::IS_64 { 8 } else { 4 }..];
            let length = length_to_nul(name);
            Version { name: Name(&name[..length]), crc: E::word(entry, 0) as u32 }
        })
    }
}
