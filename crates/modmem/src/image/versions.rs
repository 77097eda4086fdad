//! The CRC of each symbol that a module was built against (CONFIG_MODVERSIONS): `__versions`, and its extended form.

use super::elf::{Encoding, Format, with_encoding};
use crate::name::{Name, length_to_nul};

/// Size of `struct modversion_info` on every machine (include/linux/module.h): a long and a name that fills it up.
const ENTRY: usize = 64;

/// The entries of `__versions`.
#[derive(Clone, Copy, Debug)]
pub struct Versions<'a> {
    /// `None` without such a section.
    data: Option<&'a [u8]>,
    format: Format,
}

/// One symbol's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// The symbol.
    pub name: Name<'a>,
    /// CRC of its type, as genksyms or gendwarfksyms computed it: an `unsigned long`, all of which Linux compares.
    pub crc: u64,
}

impl<'a> Versions<'a> {
    pub(super) fn new(data: Option<&'a [u8]>, format: Format) -> Versions<'a> {
        Versions { data, format }
    }

    /// Whether the module has such a section. One that is there and empty has no version for any symbol, which is not
    /// the same as having no versions.
    pub fn is_present(&self) -> bool {
        self.data.is_some()
    }

    /// Number of entries; bytes after the last whole one do not count, as in Linux.
    pub fn len(&self) -> usize {
        self.bytes().len() / ENTRY
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at `index`.
    pub fn get(&self, index: usize) -> Option<Version<'a>> {
        let start = index.checked_mul(ENTRY)?;
        self.bytes().get(start..)?.first_chunk().map(|entry| self.version(entry))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = Version<'a>> + use<'a> {
        let versions = *self;
        self.bytes().as_chunks().0.iter().map(move |entry| versions.version(entry))
    }

    fn bytes(&self) -> &'a [u8] {
        self.data.unwrap_or_default()
    }

    #[inline]
    fn version(&self, entry: &'a [u8; ENTRY]) -> Version<'a> {
        with_encoding!(self.format, E => {
            let name = &entry[if E::IS_64 { 8 } else { 4 }..];
            let length = length_to_nul(name);
            Version { name: Name(&name[..length]), crc: E::word(entry, 0) }
        })
    }
}

/// Versions in their extended form, for names of any length: `__version_ext_crcs` has four bytes for each string of
/// `__version_ext_names`. Kernels from 6.14 on read it, and where it is there nothing else.
#[derive(Clone, Copy, Debug)]
pub struct ExtendedVersions<'a> {
    crcs: &'a [u8],
    names: &'a [u8],
    format: Format,
}

impl<'a> ExtendedVersions<'a> {
    pub(super) fn new(crcs: &'a [u8], names: &'a [u8], format: Format) -> ExtendedVersions<'a> {
        ExtendedVersions { crcs, names, format }
    }

    /// Number of CRCs.
    pub fn len(&self) -> usize {
        self.crcs.len() / 4
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether each CRC has a name that ends, without which Linux refuses the module
    /// (main.c:elf_validity_cache_index_versions).
    pub fn is_complete(&self) -> bool {
        memchr::memchr_iter(0, self.names).take(self.len()).count() == self.len()
    }

    /// The symbols and their CRCs, as many as have both.
    pub fn iter(&self) -> impl Iterator<Item = Version<'a>> + use<'a> {
        let versions = *self;
        self.starts().zip(0..).map(move |(start, index)| versions.at(index, start))
    }

    /// Where in the table of names that of each CRC starts.
    pub(crate) fn starts(&self) -> impl Iterator<Item = u32> + use<'a> {
        let ends = memchr::memchr_iter(0, self.names).map(|end| end + 1);
        core::iter::once(0).chain(ends).map(|start| start as u32).take(self.len())
    }

    /// The CRC at `index`, whose name starts at `start`.
    pub(crate) fn at(&self, index: usize, start: u32) -> Version<'a> {
        let crc = self.crcs.get(index * 4..).and_then(|rest| rest.first_chunk().copied());
        let crc = crc.map_or(0, |crc| u64::from(self.format.order.u32(crc)));
        Version { name: self.name_at(start), crc }
    }

    pub(crate) fn name_at(&self, start: u32) -> Name<'a> {
        crate::name::string_at(self.names, start)
    }
}
