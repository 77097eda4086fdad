//! Finding a symbol's entry among a module's versions.
//!
//! Linux searches the whole section for each symbol (kernel/module/version.c:check_version). Symbols and versions
//! come in unrelated orders, so here the section is hashed once for each module.

use alloc::vec::Vec;

use crate::image::{ExtendedVersions, Version, Versions};
use crate::name::{HashedName, Name, hash};

/// The versions that a module is compared by.
#[derive(Clone, Copy, Debug)]
pub(super) enum VersionTable<'a> {
    /// `__versions`
    Plain(Versions<'a>),
    /// Its extended form.
    Extended(ExtendedVersions<'a>),
}

/// Index of a module's versions by name; memory is kept from one module to the next.
#[derive(Debug, Default)]
pub(super) struct VersionJoin {
    /// Open addressing with linear probing, at most half full: an entry's number plus one and part of its hash.
    slots: Vec<Slot>,
    /// Where names start that stand one behind the other, by entry.
    starts: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tag: u32,
    /// 0 for a free slot.
    entry: u32,
}

impl VersionJoin {
    /// Forgets the last module and indexes `table`; `None` without memory.
    pub(super) fn fill(&mut self, table: VersionTable<'_>) -> Option<()> {
        self.starts.clear();
        let count = match table {
            VersionTable::Plain(versions) => versions.len(),
            VersionTable::Extended(versions) => {
                self.starts.try_reserve(versions.len()).ok()?;
                self.starts.extend(versions.starts());
                self.starts.len()
            }
        };
        let size = count.checked_mul(2)?.checked_next_power_of_two()?;
        self.slots.clear();
        self.slots.try_reserve(size).ok()?;
        self.slots.resize(size, Slot::default());
        for entry in 0..count {
            let Some(name) = self.name(table, entry) else { continue };
            let (mut at, tag) = self.start(hash(&name));
            while let Some(other) = self.slots[at].entry.checked_sub(1) {
                // Linux finds the first entry of a name: later ones have no place here.
                let same = self.slots[at].tag == tag && self.name(table, other as usize) == Some(name);
                if same {
                    break;
                }
                at = (at + 1) & (size - 1);
            }
            if self.slots[at].entry == 0 {
                self.slots[at] = Slot { tag, entry: entry as u32 + 1 };
            }
        }
        Some(())
    }

    #[inline]
    fn name<'a>(&self, table: VersionTable<'a>, entry: usize) -> Option<Name<'a>> {
        match table {
            VersionTable::Plain(versions) => versions.get(entry).map(|version| version.name),
            VersionTable::Extended(versions) => self.starts.get(entry).map(|&start| versions.name_at(start)),
        }
    }

    #[inline]
    fn version<'a>(&self, table: VersionTable<'a>, entry: usize) -> Option<Version<'a>> {
        match table {
            VersionTable::Plain(versions) => versions.get(entry),
            VersionTable::Extended(versions) => {
                self.starts.get(entry).map(|&start| versions.at(entry, start))
            }
        }
    }

    /// Where the search for a hash starts, and the part of the hash that its slot has.
    fn start(&self, hash: u64) -> (usize, u32) {
        (hash as usize & (self.slots.len() - 1), (hash >> 32) as u32)
    }

    /// The CRC that the module was built against, of the first entry of that name; `table` as in `fill`.
    pub(super) fn find(&self, table: VersionTable<'_>, name: HashedName<'_>) -> Option<u64> {
        let mask = self.slots.len().checked_sub(1)?;
        let (mut at, tag) = self.start(name.hash());
        loop {
            let slot = self.slots[at];
            let entry = slot.entry.checked_sub(1)? as usize;
            if slot.tag == tag
                && let Some(version) = self.version(table, entry)
                && version.name == name.name()
            {
                return Some(version.crc);
            }
            at = (at + 1) & mask;
        }
    }
}
