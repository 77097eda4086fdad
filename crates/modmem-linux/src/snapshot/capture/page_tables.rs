//! What is mapped by x86-64's page tables, whatever any list of the kernel says.
//!
//! `/proc/kcore` shows what lies between areas of vmalloc as zeros (mm/vmalloc.c:vread_iter), so memory whose area was
//! taken out of the kernel's lists is not seen there. The page tables are what the CPU goes by. They lie in memory that
//! kcore shows under its own address, and so does what they map.

use std::ops::Range;

use super::kcore::Kcore;
use crate::snapshot::{MemoryRecord, Snapshot, merged};

const PAGE: u64 = 4096;
/// The entry maps or leads on (_PAGE_PRESENT).
const PRESENT: u64 = 1;
/// The entry maps a large page (_PAGE_PSE).
const LARGE: u64 = 1 << 7;
/// Bits of a physical address in an entry (__PHYSICAL_MASK).
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Entries of a table.
const ENTRIES: u64 = 512;
/// Pages of one range that are looked at: no kernel has so many in the range of modules.
const MOST_PAGES: usize = 1 << 19;

/// A page of physical memory.
type Page = [u8; PAGE as usize];

/// Page tables: where the first one is, and how many levels there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tables {
    root: u64,
    levels: u32,
}

/// Pages in a row, and where they are in physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapped {
    address: u64,
    physical: u64,
    pages: u64,
}

/// Memory that is mapped in `ranges` and that `records`, which were read there, do not have: records of the pages that
/// hold anything.
pub(super) fn unseen(
    snapshot: &Snapshot,
    kcore: &mut Kcore,
    ranges: &[Range<u64>],
    records: &[MemoryRecord],
) -> Vec<MemoryRecord> {
    if snapshot.machine != "x86_64" {
        return Vec::new();
    }
    let symbol = |name| snapshot.symbols.kernel(name);
    let Some((root, text)) = symbol("init_top_pgt").zip(symbol("_text")) else { return Vec::new() };
    let Some((root, text_at)) = kcore.physical(root).zip(kcore.physical(text)) else { return Vec::new() };
    let mut read = |physical: u64| {
        let mut page = [0; PAGE as usize];
        let address = kcore.mapped_at(physical)?;
        kcore.page(address, &mut page).then_some(page)
    };
    let Some(tables) = Tables::of(root, text, text_at, &mut read) else { return Vec::new() };
    let seen = merged(records.iter().map(|record| record.address..record.end()).collect());
    let is_seen = |address: u64| {
        let behind = seen.partition_point(|range| range.end <= address);
        seen.get(behind).is_some_and(|range| range.contains(&address))
    };
    let mut found: Vec<MemoryRecord> = Vec::new();
    let mapped: Vec<Mapped> = ranges.iter().flat_map(|range| tables.mapped(range, &mut read)).collect();
    for Mapped { address, physical, pages } in mapped {
        for number in (0..pages).filter(|number| !is_seen(address + number * PAGE)) {
            let (at, bytes) = (address + number * PAGE, read(physical + number * PAGE));
            let Some(bytes) = bytes.filter(|bytes| bytes.iter().any(|byte| *byte != 0)) else { continue };
            match found.last_mut().filter(|last| last.end() == at) {
                Some(last) => last.bytes.extend_from_slice(&bytes),
                None => found.push(MemoryRecord { address: at, bytes: bytes.to_vec() }),
            }
        }
    }
    found
}

impl Tables {
    /// The tables that begin at `root`, if they map `text` where it is known to be; that tells how many levels there are.
    fn of(root: u64, text: u64, text_at: u64, read: &mut impl FnMut(u64) -> Option<Page>) -> Option<Tables> {
        let candidates = [4, 5].map(|levels| Tables { root, levels });
        let page = text / PAGE * PAGE;
        candidates.into_iter().find(|tables| {
            let mapped = tables.mapped(&(page..page + PAGE), read);
            matches!(mapped[..], [Mapped { physical, .. }] if physical == text_at / PAGE * PAGE)
        })
    }

    /// What is mapped of a range of whole pages, by address.
    fn mapped(&self, range: &Range<u64>, read: &mut impl FnMut(u64) -> Option<Page>) -> Vec<Mapped> {
        let mut mapped = Vec::new();
        walk(self.root, self.levels - 1, 0, range, read, &mut mapped);
        mapped
    }
}

/// Adds what one table maps of a range. `start` is the first address that the table is for, without what all share.
fn walk(
    table: u64,
    level: u32,
    start: u64,
    range: &Range<u64>,
    read: &mut impl FnMut(u64) -> Option<Page>,
    mapped: &mut Vec<Mapped>,
) {
    let Some(page) = read(table) else { return };
    let covers = PAGE << (9 * level);
    for (number, entry) in (0..ENTRIES).zip(page.chunks_exact(8)) {
        let entry = entry.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let first = extended(start.wrapping_add(number * covers), level);
        let (from, to) = (first.max(range.start), first.saturating_add(covers - 1).min(range.end - 1));
        if entry & PRESENT == 0 || from > to || mapped.len() >= MOST_PAGES {
            continue;
        }
        let physical = entry & ADDRESS;
        if level > 0 && entry & LARGE == 0 {
            walk(physical, level - 1, first, range, read, mapped);
            continue;
        }
        // Of large pages, bits below their size are flags.
        let physical = physical & !(covers - 1) | (from - first);
        mapped.push(Mapped { address: from, physical, pages: (to - from) / PAGE + 1 });
    }
}

/// An address with its highest bit made that of all above it, where a table of the first level begins to count.
fn extended(address: u64, level: u32) -> u64 {
    let bits = 12 + 9 * (level + 1);
    if bits >= 48 && address >> (bits - 1) & 1 != 0 { address | u64::MAX << (bits - 1) } else { address }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const TEXT: u64 = 0xffff_ffff_8100_0000;
    const TEXT_AT: u64 = 0x0100_0000;
    const MODULES: Range<u64> = 0xffff_ffff_c000_0000..0xffff_ffff_ff00_0000;
    const ROOT: u64 = 0x1000;

    /// Physical memory: words by address.
    #[derive(Default)]
    struct Memory(HashMap<u64, u64>);

    impl Memory {
        /// Maps a page of 4 KiB, or of 2 MiB where a large one is wanted.
        fn map(&mut self, levels: u32, address: u64, physical: u64, large: bool) {
            let mut table = ROOT;
            let last = u32::from(large);
            for level in (last + 1..levels).rev() {
                let entry = table + (address >> (12 + 9 * level) & 511) * 8;
                let next = 0x10_0000 + 0x1000 * self.0.len() as u64;
                table = *self.0.entry(entry).or_insert(next | 0x63) & ADDRESS;
            }
            let flags = if large { 1 << 63 | 0xe3 } else { 0x63 };
            self.0.insert(table + (address >> (12 + 9 * last) & 511) * 8, physical | flags);
        }

        fn reader(&self) -> impl FnMut(u64) -> Option<Page> + '_ {
            |page| {
                let mut bytes = [0; PAGE as usize];
                for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
                    let value = self.0.get(&(page + 8 * at as u64)).copied().unwrap_or_default();
                    word.copy_from_slice(&value.to_le_bytes());
                }
                Some(bytes)
            }
        }
    }

    #[test]
    fn pages_are_found_behind_four_levels_and_behind_five() {
        for levels in [4, 5] {
            let mut memory = Memory::default();
            memory.map(levels, TEXT, TEXT_AT, true);
            memory.map(levels, MODULES.start + 0x5000, 0x777_7000, false);
            memory.map(levels, MODULES.start + 0x40_0000, 0x800_0000, true);
            // Elsewhere, and not of modules.
            memory.map(levels, 0xffff_8880_0000_0000, 0x1_0000, false);
            let mut read = memory.reader();
            let tables = Tables::of(ROOT, TEXT, TEXT_AT, &mut read).unwrap();
            assert_eq!(tables, Tables { root: ROOT, levels });
            let expected = [
                Mapped { address: MODULES.start + 0x5000, physical: 0x777_7000, pages: 1 },
                Mapped { address: MODULES.start + 0x40_0000, physical: 0x800_0000, pages: 512 },
            ];
            assert_eq!(tables.mapped(&MODULES, &mut read), expected);
            // A part of a large page.
            let part = MODULES.start + 0x40_1000..MODULES.start + 0x40_3000;
            let expected = [Mapped { address: part.start, physical: 0x800_1000, pages: 2 }];
            assert_eq!(tables.mapped(&part, &mut read), expected);
        }
    }

    #[test]
    fn tables_that_do_not_map_the_kernel_where_it_is_are_not_believed() {
        let mut memory = Memory::default();
        memory.map(4, TEXT, TEXT_AT, true);
        assert_eq!(Tables::of(ROOT, TEXT, TEXT_AT + 0x1000, &mut memory.reader()), None);
        assert_eq!(Tables::of(ROOT, TEXT + 0x20_0000, TEXT_AT, &mut memory.reader()), None);
        assert_eq!(Tables::of(ROOT, TEXT, TEXT_AT, &mut |_| None), None);
    }
}
