//! Finding a symbol's entry in `__versions`.
//!
//! Linux searches the whole section for each symbol (kernel/module/version.c:check_version). Symbols and versions
//! come in unrelated orders, so here the section is hashed once for each module.

use alloc::vec::Vec;

use crate::image::Versions;
use crate::name::{HashedName, hash};

/// Index of a module's versions by name; memory is kept from one module to the next.
#[derive(Debug, Default)]
pub(super) struct VersionJoin {
    /// Open addressing with linear probing, at most half full: an entry's number plus one and part of its hash.
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tag: u32,
    /// 0 for a free slot.
    entry: u32,
}

impl VersionJoin {
    /// Forgets the last module and indexes `versions`; `None` without memory.
    pub(super) fn fill(&mut self, versions: Versions<'_>) -> Option<()> {
        let size = (versions.len().checked_mul(2)?).checked_next_power_of_two()?;
        self.slots.clear();
        self.slots.try_reserve(size).ok()?;
        self.slots.resize(size, Slot::default());
        for (version, entry) in versions.iter().zip(1..) {
            let (mut at, tag) = self.start(hash(&version.name));
            while let Some(other) = self.slots[at].entry.checked_sub(1) {
                // Linux finds the first entry of a name: later ones have no place here.
                let same = self.slots[at].tag == tag
                    && versions.get(other as usize).is_some_and(|other| other.name == version.name);
                if same {
                    break;
                }
                at = (at + 1) & (size - 1);
            }
            if self.slots[at].entry == 0 {
                self.slots[at] = Slot { tag, entry };
            }
        }
        Some(())
    }

    /// Where the search for a hash starts, and the part of the hash that its slot has.
    fn start(&self, hash: u64) -> (usize, u32) {
        (hash as usize & (self.slots.len() - 1), (hash >> 32) as u32)
    }

    /// The CRC that the module was built against, of the first entry of that name; `versions` as in `fill`.
    pub(super) fn find(&self, versions: Versions<'_>, name: HashedName<'_>) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let (mut at, tag) = self.start(name.hash());
        loop {
            let slot = self.slots[at];
            let entry = slot.entry.checked_sub(1)?;
            if slot.tag == tag
                && let Some(version) = versions.get(entry as usize)
                && version.name == name.name()
            {
                return Some(version.crc);
            }
            at = (at + 1) & mask;
        }
    }
}
