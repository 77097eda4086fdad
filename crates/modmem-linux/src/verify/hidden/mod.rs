//! A module that is in no list, told as one: its `struct module` is in its own memory, and tells its name, where its
//! memories are, and its symbols.
//!
//! Where the fields lie depends on the kernel's configuration. A description is known by its own consistency instead: a
//! name that ends within its field, memories that are those that nobody owns, and words that lead back to itself. All of
//! it was written by whom it describes: it names, and excuses nothing.

mod imports;
mod structure;
mod symbols;
#[cfg(test)]
mod tests;

use std::ops::Range;

use modmem::layout::MemoryKind;
use modmem::profile::Profile;

pub use self::imports::Import;
pub use self::symbols::HiddenSymbol;
use super::{Stray, StrayKind};
use crate::snapshot::{MemoryRecords, Snapshot};

/// More of them than anybody hides.
const MOST: usize = 64;

/// A module that is in no list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenModule {
    /// The name that it gives itself.
    pub name: String,
    /// Where its `struct module` lies.
    pub address: u64,
    /// Its memories, by what they are where that is known; those that it has no more are left out.
    pub memories: Vec<(Option<MemoryKind>, Range<u64>)>,
    /// Its symbols, by address, as its own table has them.
    pub symbols: Vec<HiddenSymbol>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What its code calls of the kernel and of other modules.
    pub imports: Vec<Import>,
}

impl HiddenModule {
    /// Whether an address is in its memory.
    pub fn contains(&self, address: u64) -> bool {
        self.memories.iter().any(|(_, range)| range.contains(&address))
    }
}

/// Words of a snapshot's memory.
#[derive(Clone, Copy)]
struct Words<'s> {
    memory: &'s MemoryRecords,
    format: modmem::image::elf::Format,
}

impl Words<'_> {
    fn size(&self) -> u64 {
        self.format.word() as u64
    }

    fn word(&self, address: u64) -> Option<u64> {
        self.format.read_word(self.memory.bytes(address, self.format.word())?)
    }

    /// A word, by its number from an address on.
    fn field(&self, address: u64, index: u64) -> Option<u64> {
        self.word(address.checked_add(index.checked_mul(self.size())?)?)
    }

    fn half(&self, address: u64) -> Option<u32> {
        let bytes = self.memory.bytes(address, 4)?.first_chunk()?;
        Some(self.format.order.u32(*bytes))
    }
}

/// The modules that the memory of nobody describes.
pub(super) fn find(snapshot: &Snapshot, profile: &Profile, strays: &[Stray]) -> Vec<HiddenModule> {
    let Ok(format) = profile.machine.format() else { return Vec::new() };
    let words = Words { memory: &snapshot.memory, format };
    let nobodys = strays.iter().filter(|stray| matches!(stray.kind, StrayKind::NoOwner | StrayKind::Between));
    let mut nobodys: Vec<Range<u64>> = nobodys.map(|stray| stray.range.clone()).collect();
    nobodys.sort_unstable_by_key(|range| range.start);
    let mut found: Vec<HiddenModule> = Vec::new();
    for range in &nobodys {
        for structure in structure::all_in(&words, profile, range, &nobodys) {
            // One that lies in another's memory is that one's data.
            let is_known = found.iter().any(|module| module.contains(structure.address));
            if is_known || found.len() == MOST {
                continue;
            }
            let symbols = symbols::read(&words, &structure);
            let exports = symbols::exports(&symbols);
            let imports = imports::find(snapshot, profile.machine, &structure.memories);
            let structure::Structure { name, address, memories, .. } = structure;
            found.push(HiddenModule { name, address, memories, symbols, exports, imports });
        }
    }
    found
}
