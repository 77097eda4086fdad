//! From address to owner.
//!
//! The interface is the one that all structures of this module will share; [`SortedIndex`], the only one so far, is
//! a two-level sorted array.

use core::ops::Range;

use crate::address::RunAddr;
use crate::layout::MemoryKind;
use crate::modules::ModuleId;
use crate::space::ChunkedMap;
use crate::space::Summary;

/// Who owns an address: a module, and which of its memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The module.
    pub module: ModuleId,
    /// The memory.
    pub kind: MemoryKind,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Who owns the address.
    pub owner: Owner,
    /// How far into that memory it lies.
    pub offset: u64,
}

/// Why a range was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexError {
    /// The range is empty or wraps around the top of the address space.
    BadRange,
    /// Part of the range has an owner already.
    Overlap,
    /// No memory to grow into.
    OutOfMemory,
}

/// A map from address ranges to owners. Ranges never overlap; the answer is exact to the byte.
pub trait AddressIndex {
    /// Gives `range` to `owner`.
    ///
    /// # Errors
    /// See [`IndexError`]; nothing has changed.
    fn insert(&mut self, range: Range<RunAddr>, owner: Owner) -> Result<(), IndexError>;

    /// Takes the range that starts at `start` from its owner, whom it returns.
    fn remove(&mut self, start: RunAddr) -> Option<Owner>;

    /// The owner of `address`.
    fn find(&self, address: RunAddr) -> Option<Hit>;

    /// The owner of `address`, if it lies in text.
    fn find_text(&self, address: RunAddr) -> Option<Hit> {
        self.find(address).filter(|hit| hit.owner.kind.is_text())
    }

    /// All ranges in address order.
    fn iter(&self) -> impl Iterator<Item = (Range<RunAddr>, Owner)>;
}

/// A sorted array in chunks: two binary searches to find, half a chunk to move to insert.
#[derive(Clone, Debug)]
pub struct SortedIndex {
    ranges: ChunkedMap<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    end: u64,
    owner: Owner,
}

impl Summary for Entry {
    fn summary(&self, _start: u64) -> u64 {
        0
    }
}

impl Default for SortedIndex {
    fn default() -> SortedIndex {
        SortedIndex::new()
    }
}

impl SortedIndex {
    /// An empty index.
    pub const fn new() -> SortedIndex {
        SortedIndex { ranges: ChunkedMap::new() }
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.len() == 0
    }
}

impl AddressIndex for SortedIndex {
    fn insert(&mut self, range: Range<RunAddr>, owner: Owner) -> Result<(), IndexError> {
        let (start, end) = (range.start.0, range.end.0);
        if start >= end {
            return Err(IndexError::BadRange);
        }
        let before = self.ranges.at_or_before(start).is_some_and(|(_, entry)| entry.end > start);
        let after = self.ranges.at_or_after(start).is_some_and(|(next, _)| next < end);
        if before || after {
            return Err(IndexError::Overlap);
        }
        self.ranges.insert(start, Entry { end, owner }).map_err(|_| IndexError::OutOfMemory)
    }

    fn remove(&mut self, start: RunAddr) -> Option<Owner> {
        self.ranges.remove(start.0).map(|entry| entry.owner)
    }

    fn find(&self, address: RunAddr) -> Option<Hit> {
        let (start, entry) = self.ranges.at_or_before(address.0)?;
        (address.0 < entry.end).then_some(Hit { owner: entry.owner, offset: address.0 - start })
    }

    fn iter(&self) -> impl Iterator<Item = (Range<RunAddr>, Owner)> {
        self.ranges.iter().map(|(start, entry)| (RunAddr(start)..RunAddr(entry.end), entry.owner))
    }
}
