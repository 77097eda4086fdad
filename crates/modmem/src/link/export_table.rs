//! Reading the export tables of a linked module, as the kernel will read them from memory.
//!
//! `__ksymtab` entries are three 32-bit offsets, each relative to itself (value, name, namespace), or three pointers
//! without HAVE_ARCH_PREL32_RELOCATIONS (include/linux/export-internal.h). CRCs lie beside them, 4 bytes each. From
//! 7.x on there is one table and a flag byte for each symbol instead of a second table for GPL-only symbols.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::admission::Taints;
use super::error::LinkError;
use super::exports::Export;
use super::placement::Placement;
use crate::address::RunAddr;
use crate::image::elf::Encoding;
use crate::image::{Image, Section};
use crate::layout::MemoryKind;
use crate::name::Name;
use crate::profile::Profile;
use crate::space::Block;

/// Bit 0 of a `__kflagstab` byte: for GPL-compatible modules only.
const FLAG_GPL_ONLY: u8 = 1;

/// Bytes that a name may have (include/linux/kallsyms.h:KSYM_NAME_LEN). Names may share their ends: without a bound a
/// small file could have more bytes of names than anybody has memory.
const LONGEST_NAME: usize = 512;

/// A module's exports; names stay in the module's own memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExportTable {
    entries: Vec<Entry>,
    /// How many of the entries are `__ksymtab`'s; they come first.
    plain: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    value: u64,
    name: Text,
    namespace: Text,
    crc: Option<u32>,
    gpl_only: bool,
}

/// A string in a module's memory.
#[derive(Clone, Copy, Debug)]
struct Text {
    kind: MemoryKind,
    start: u32,
    length: u32,
}

struct Table<'i, 'a> {
    symbols: &'i Section<'a>,
    versions: Option<&'i Section<'a>>,
    flags: Option<&'i Section<'a>>,
    gpl_only: bool,
}

/// Bytes of `struct kernel_symbol`: three offsets, or three pointers.
fn entry_size<E: Encoding>(prel32: bool) -> usize {
    3 * if prel32 || !E::IS_64 { 4 } else { 8 }
}

impl ExportTable {
    pub(super) fn read<E: Encoding, B: Block>(
        image: &Image<'_>,
        profile: &Profile,
        placement: &Placement<B>,
        taints: &mut Taints,
    ) -> Result<ExportTable, LinkError> {
        let known = image.known();
        let section = |index: Option<usize>| index.map(|index| &image.sections()[index]);
        let plain = (section(known.ksymtab), section(known.kcrctab), section(known.kflagstab), false);
        let gpl = (section(known.ksymtab_gpl), section(known.kcrctab_gpl), None, true);
        let mut exports = ExportTable::default();
        for (symbols, versions, flags, gpl_only) in [plain, gpl] {
            let Some(symbols) = symbols.filter(|symbols| symbols.size() > 0) else { continue };
            // main.c:find_module_sections, check_export_symbol_sections
            if profile.export_flags {
                if gpl_only {
                    continue;
                }
                // Less than an entry is none.
                if flags.is_none() && symbols.size() >= entry_size::<E>(profile.switches.prel32) as u64 {
                    return Err(LinkError::ExportsWithoutFlags { section: symbols.label() });
                }
            }
            // main.c:check_export_symbol_versions
            if versions.is_none() && profile.switches.modversions && !taints.force_load(profile) {
                return Err(LinkError::ExportsWithoutVersions { section: symbols.label() });
            }
            let table = Table { symbols, versions, flags, gpl_only };
            exports.read_table::<E, B>(&table, profile.switches.prel32, placement)?;
            if !gpl_only {
                exports.plain = exports.entries.len();
            }
        }
        Ok(exports)
    }

    fn read_table<E: Encoding, B: Block>(
        &mut self,
        table: &Table<'_, '_>,
        prel32: bool,
        placement: &Placement<B>,
    ) -> Result<(), LinkError> {
        let bytes = |section: &Section<'_>| {
            let place = placement.layout().place(section.index())?;
            Some((placement.section_address(place), placement.section_bytes(place, section.size())))
        };
        let Some((address, entries)) = bytes(table.symbols) else { return Ok(()) };
        let versions = table.versions.and_then(bytes).map(|(_, bytes)| bytes);
        let flags = table.flags.and_then(bytes).map(|(_, bytes)| bytes);
        let word = if prel32 || !E::IS_64 { 4 } else { 8 };
        let size = entry_size::<E>(prel32);
        let bad = |entry, problem| LinkError::BadExport { section: table.symbols.label(), entry, problem };
        if entries.len() % size != 0 {
            return Err(bad(entries.len() / size, "the table does not end with a whole entry"));
        }
        self.entries.try_reserve(entries.len() / size).map_err(|_| LinkError::OutOfMemory)?;
        for (index, entry) in entries.chunks_exact(size).enumerate() {
            let start = address + (index * size) as u64;
            let pointer = |field: usize| {
                let at = field * word;
                match prel32 {
                    true => (start + at as u64) + i64::from(E::u32(entry, at) as i32) as u64,
                    false => RunAddr(E::word(entry, at)),
                }
            };
            let text = |address| string::<B>(placement, address);
            let name = text(pointer(1)).ok_or_else(|| bad(index, "its name is no string of the module's"))?;
            let namespace = pointer(2);
            let namespace = match namespace.0 {
                // Without self-relative offsets, no namespace is a null pointer.
                0 if !prel32 => Text { kind: name.kind, start: 0, length: 0 },
                _ => {
                    text(namespace).ok_or_else(|| bad(index, "its namespace is no string of the module's"))?
                }
            };
            let crc = versions.and_then(|crcs| crcs.get(index * 4..index * 4 + 4)).map(|crc| E::u32(crc, 0));
            let flag = flags.and_then(|flags| flags.get(index)).copied().unwrap_or(0);
            let gpl_only = table.gpl_only || flag & FLAG_GPL_ONLY != 0;
            self.entries.push(Entry { value: pointer(0).0, name, namespace, crc, gpl_only });
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The exports, with names read from where the module lies.
    pub(crate) fn iter<'p, B: Block>(
        &'p self,
        placement: &'p Placement<B>,
    ) -> impl Iterator<Item = Export<'p>> {
        self.entries.iter().map(move |entry| Export {
            name: entry.name.read(placement),
            namespace: entry.namespace.read(placement),
            value: entry.value,
            crc: entry.crc,
            gpl_only: entry.gpl_only,
        })
    }

    /// Those that somebody who needs a name finds (main.c:find_symbol): `__ksymtab` is searched first, then
    /// `__ksymtab_gpl`.
    pub(crate) fn offered<'p, B: Block>(
        &'p self,
        placement: &'p Placement<B>,
    ) -> impl Iterator<Item = Export<'p>> {
        let (plain, gpl) = self.entries.split_at(self.plain);
        let in_order = [plain, gpl].map(|table| is_sorted(table, placement));
        self.iter(placement)
            .enumerate()
            .filter(move |(index, export)| {
                let (table, sorted, at) = match index.checked_sub(plain.len()) {
                    None => (plain, in_order[0], *index),
                    Some(at) => (gpl, in_order[1], at),
                };
                let found = sorted || search(table, placement, export.name) == Some(at);
                let hidden = *index >= plain.len()
                    && !plain.is_empty()
                    && search(plain, placement, export.name).is_some();
                found && !hidden
            })
            .map(|(_, export)| export)
    }

    /// Whether `__ksymtab` has that name with that value.
    pub(crate) fn has_plain<B: Block>(&self, placement: &Placement<B>, name: Name<'_>, value: u64) -> bool {
        let plain = self.entries.get(..self.plain).unwrap_or_default();
        search(plain, placement, name).is_some_and(|index| plain[index].value == value)
    }
}

impl Text {
    fn read<B: Block>(self, placement: &Placement<B>) -> Name<'_> {
        let bytes = placement.bytes(self.kind).get(self.start as usize..).unwrap_or_default();
        Name(bytes.get(..self.length as usize).unwrap_or_default())
    }
}

/// Whether each name stands behind one that is less, as it does in tables that the kernel's linker script made.
fn is_sorted<B: Block>(table: &[Entry], placement: &Placement<B>) -> bool {
    table.is_sorted_by(|before, after| before.name.read(placement) < after.name.read(placement))
}

/// Where Linux's search finds a name (include/linux/bsearch.h). In a table that is not sorted it finds some names, of
/// equal ones it finds one.
fn search<B: Block>(table: &[Entry], placement: &Placement<B>, name: Name<'_>) -> Option<usize> {
    let (mut base, mut count) = (0, table.len());
    while count > 0 {
        let middle = base + count / 2;
        match name.cmp(&table.get(middle)?.name.read(placement)) {
            Ordering::Equal => return Some(middle),
            Ordering::Greater => {
                base = middle + 1;
                count -= 1;
            }
            Ordering::Less => {}
        }
        count /= 2;
    }
    None
}

/// The string that ends with a NUL at `address` of the module's own memory.
fn string<B: Block>(placement: &Placement<B>, address: RunAddr) -> Option<Text> {
    let (kind, offset) = placement.locate(address)?;
    let bytes = placement.bytes(kind).get(offset as usize..)?;
    let length = memchr::memchr(0, bytes.get(..=LONGEST_NAME).unwrap_or(bytes))?;
    Some(Text { kind, start: u32::try_from(offset).ok()?, length: u32::try_from(length).ok()? })
}
