//! Ranges that go back where they came from when they are dropped.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use spin::Mutex;

use super::chunked::OutOfMemory;
use super::free_list::FreeList;
use crate::address::RunAddr;

/// A free list that its holders share, so that they can return what they hold without being told where to.
#[derive(Clone)]
pub(super) struct SharedRanges(Arc<Mutex<FreeList>>);

impl SharedRanges {
    pub(super) fn new(free: FreeList) -> SharedRanges {
        SharedRanges(Arc::new(Mutex::new(free)))
    }

    pub(super) fn take(
        &self,
        size: u64,
        alignment: u64,
        within: Range<u64>,
    ) -> Result<Option<HeldRange>, OutOfMemory> {
        self.take_from_hole(size, alignment, within, size)
    }

    /// The same from a hole of at least `hole` bytes.
    pub(super) fn take_from_hole(
        &self,
        size: u64,
        alignment: u64,
        within: Range<u64>,
        hole: u64,
    ) -> Result<Option<HeldRange>, OutOfMemory> {
        let start = self.0.lock().allocate_in_hole(size, alignment, within, hole)?;
        Ok(start.map(|start| HeldRange { shared: self.clone(), range: start..start + size }))
    }

    pub(super) fn reserve(&self, range: Range<u64>) -> Result<bool, OutOfMemory> {
        self.0.lock().reserve(range)
    }

    pub(super) fn holes(&self) -> Vec<Range<RunAddr>> {
        let free = self.0.lock();
        let mut holes = Vec::with_capacity(free.len());
        holes.extend(free.iter().map(|hole| RunAddr(hole.start)..RunAddr(hole.end)));
        holes
    }
}

/// A range that is taken for as long as this lives.
pub(super) struct HeldRange {
    shared: SharedRanges,
    range: Range<u64>,
}

impl HeldRange {
    pub(super) fn range(&self) -> &Range<u64> {
        &self.range
    }
}

impl Drop for HeldRange {
    fn drop(&mut self) {
        // Without memory to remember a hole its addresses stay taken: never handed out twice.
        let _ = self.shared.0.lock().release(self.range.clone());
    }
}

impl fmt::Debug for HeldRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldRange({:#x}..{:#x})", self.range.start, self.range.end)
    }
}
