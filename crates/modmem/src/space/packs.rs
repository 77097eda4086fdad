//! Packs: large blocks that text is cut from, module behind module without guards between them.
//!
//! Source: mm/execmem.c, what it does under EXECMEM_ROX_CACHE. A pack is as large as a huge page, or several, so that
//! the processor can translate the addresses of much text with one entry. It stays until the last text in it has gone; one
//! that is no whole huge page stays for good.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use spin::Mutex;

use super::chunked::OutOfMemory;
use super::free_list::FreeList;
use super::held::HeldRange;
use crate::address::RunAddr;

/// The packs of an address space.
#[derive(Clone)]
pub(super) struct Packs {
    /// Bytes of a huge page: a pack has a multiple of them, and lies at one.
    size: u64,
    /// Whether a pack that is none lies at one all the same.
    keep_alignment: bool,
    shared: Arc<Mutex<State>>,
}

struct State {
    /// Bytes of a huge page.
    size: u64,
    /// What no text takes of the packs.
    free: FreeList,
    /// By address.
    packs: Vec<Pack>,
}

struct Pack {
    range: Range<u64>,
    #[expect(dead_code, reason = "holds the pack's addresses until it is dropped")]
    held: HeldRange,
}

impl Packs {
    pub(super) fn new(size: u64, keep_alignment: bool) -> Packs {
        let state = State { size, free: FreeList::new(), packs: Vec::new() };
        Packs { size, keep_alignment, shared: Arc::new(Mutex::new(state)) }
    }

    /// Takes the lowest `size` bytes that are free in a pack and lie inside one of `ranges`; if there are none, of a new
    /// pack. `new` is asked for its addresses, by size and alignments, of which it takes the first that it can have: for
    /// whole huge pages, and if they cannot be had, for as much as is needed.
    pub(super) fn take(
        &self,
        size: u64,
        alignment: u64,
        ranges: impl Iterator<Item = Range<u64>> + Clone,
        new: impl Fn(u64, &[u64]) -> Result<Option<HeldRange>, OutOfMemory>,
    ) -> Result<Option<PackedRange>, OutOfMemory> {
        let mut state = self.shared.lock();
        let packed = |start| Some(PackedRange { packs: self.clone(), range: start..start + size });
        if let Some(start) = state.allocate(size, alignment, ranges.clone())? {
            return Ok(packed(start));
        }
        let huge = self.size.max(alignment);
        let alignments: [&[u64]; 2] = match self.keep_alignment {
            true => [&[huge], &[huge]],
            // vmalloc tries again with small pages.
            false => [&[huge, alignment], &[alignment]],
        };
        let mut found = None;
        for (length, alignments) in
            [size.checked_next_multiple_of(self.size), Some(size)].iter().zip(alignments)
        {
            if let Some(length) = *length
                && found.is_none()
            {
                found = new(length, alignments)?.map(|held| (held, length));
            }
        }
        let Some((held, length)) = found else { return Ok(None) };
        let start = held.range().start;
        state.packs.try_reserve(1).map_err(|_| OutOfMemory)?;
        state.free.release(start..start + length)?;
        let at = state.packs.partition_point(|pack| pack.range.start < start);
        state.packs.insert(at, Pack { range: start..start + length, held });
        Ok(state.allocate(size, alignment, ranges)?.and_then(packed))
    }

    /// What no text takes of the packs, ascending.
    pub(super) fn holes(&self) -> Vec<Range<RunAddr>> {
        let state = self.shared.lock();
        let mut holes = Vec::with_capacity(state.free.len());
        holes.extend(state.free.iter().map(|hole| RunAddr(hole.start)..RunAddr(hole.end)));
        holes
    }
}

impl State {
    /// Takes the lowest part of a pack that ends before its range does: what ends with it counts as outside
    /// (mm/execmem.c:within_range).
    fn allocate(
        &mut self,
        size: u64,
        alignment: u64,
        mut ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<Option<u64>, OutOfMemory> {
        let inside = |range: Range<u64>| range.start..range.end.saturating_sub(1);
        ranges.find_map(|range| self.free.allocate(size, alignment, inside(range)).transpose()).transpose()
    }

    /// Gives a part of a pack back, and the pack if that was the last one and it is made of whole huge pages
    /// (mm/execmem.c:execmem_cache_clean).
    fn release(&mut self, range: Range<u64>) {
        let start = range.start;
        // Without memory to remember a hole its addresses stay taken: never handed out twice.
        if self.free.release(range).is_err() {
            return;
        }
        let Some(at) = self.packs.partition_point(|pack| pack.range.start <= start).checked_sub(1) else {
            return;
        };
        let range = self.packs[at].range.clone();
        let huge = [range.start, range.end].into_iter().all(|end| end.is_multiple_of(self.size));
        if huge && self.free.reserve(range) == Ok(true) {
            self.packs.remove(at);
        }
    }
}

/// A part of a pack that is taken for as long as this lives.
pub(super) struct PackedRange {
    packs: Packs,
    range: Range<u64>,
}

impl PackedRange {
    pub(super) fn range(&self) -> &Range<u64> {
        &self.range
    }
}

impl Drop for PackedRange {
    fn drop(&mut self) {
        self.packs.shared.lock().release(self.range.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::SharedRanges;
    use super::*;

    const PAGE: u64 = 0x1000;
    const PACK: u64 = 0x20_0000;

    struct Space {
        ranges: SharedRanges,
        packs: Packs,
    }

    impl Space {
        fn new(range: Range<u64>) -> Space {
            Space::with(range, false)
        }

        fn with(range: Range<u64>, keep_alignment: bool) -> Space {
            let mut free = FreeList::new();
            free.release(range).unwrap();
            Space { ranges: SharedRanges::new(free), packs: Packs::new(PACK, keep_alignment) }
        }

        fn take(&self, size: u64) -> Option<PackedRange> {
            self.take_inside(size, 0..u64::MAX)
        }

        fn take_inside(&self, size: u64, range: Range<u64>) -> Option<PackedRange> {
            let new = |size, alignments: &[u64]| {
                let mut taken = alignments
                    .iter()
                    .filter_map(|&by| self.ranges.take(size + PAGE, by, range.clone()).transpose());
                taken.next().transpose()
            };
            self.packs.take(size, PAGE, core::iter::once(range.clone()), new).unwrap()
        }
    }

    #[test]
    fn text_lies_behind_text_and_a_pack_goes_with_the_last_of_it() {
        let space = Space::new(0x1000..0x100_0000);
        let before = space.ranges.holes();
        let first = space.take(3 * PAGE).unwrap();
        let second = space.take(PAGE).unwrap();
        assert_eq!((first.range().start, second.range().start), (PACK, PACK + 3 * PAGE));
        drop(first);
        let large = space.take(4 * PAGE).unwrap();
        assert_eq!(large.range().start, PACK + 4 * PAGE, "the hole is too small");
        assert_eq!(space.take(2 * PAGE).unwrap().range().start, PACK);
        drop((second, large));
        assert_eq!((space.ranges.holes(), space.packs.holes().len()), (before, 0));
    }

    #[test]
    fn what_fits_no_pack_gets_a_larger_one_of_its_own() {
        let space = Space::new(0..0x100_0000);
        let small = space.take(PAGE).unwrap();
        let large = space.take(PACK + PAGE).unwrap();
        assert_eq!(large.range().start, 2 * PACK, "a guard lies behind the first pack");
        assert_eq!(space.take(PACK - PAGE).unwrap().range().start, PAGE);
        assert_eq!(space.take(PACK - PAGE).unwrap().range().start, PAGE);
        drop(small);
        assert_eq!(space.packs.holes(), [RunAddr(3 * PACK + PAGE)..RunAddr(4 * PACK)]);
    }

    #[test]
    fn without_room_for_a_huge_page_text_gets_what_it_needs() {
        let space = Space::new(PAGE..PACK);
        let first = space.take(4 * PAGE).unwrap();
        let second = space.take(PAGE).unwrap();
        assert_eq!((first.range().start, second.range().start), (PAGE, 6 * PAGE));
        assert!(space.take(PACK).is_none());
    }

    #[test]
    fn until_6_18_what_is_no_huge_page_lies_at_one_all_the_same() {
        let space = Space::with(PAGE..PACK, true);
        assert!(space.take(4 * PAGE).is_none());
        let space = Space::with(PAGE..PACK + 16 * PAGE, true);
        assert_eq!(space.take(4 * PAGE).unwrap().range().start, PACK);
    }

    #[test]
    fn a_whole_pack_lies_at_a_small_page_where_no_huge_one_is_free() {
        let space = Space::new(PAGE..PACK + 2 * PAGE);
        let first = space.take(PAGE).unwrap();
        assert_eq!(first.range().start, PAGE);
        assert_eq!(space.packs.holes(), [RunAddr(2 * PAGE)..RunAddr(PACK + PAGE)]);
    }

    #[test]
    fn a_pack_that_is_no_whole_huge_page_stays_for_good() {
        let space = Space::new(PAGE..PACK);
        drop(space.take(4 * PAGE).unwrap());
        assert_eq!(space.packs.holes(), [RunAddr(PAGE)..RunAddr(5 * PAGE)]);
        assert_eq!(space.ranges.holes(), [RunAddr(6 * PAGE)..RunAddr(PACK)]);
        assert_eq!(space.take(2 * PAGE).unwrap().range().start, PAGE);
        // A whole one goes.
        let space = Space::new(PAGE..3 * PACK);
        drop(space.take(4 * PAGE).unwrap());
        assert_eq!(space.packs.holes(), []);
    }

    #[test]
    fn what_ends_with_the_range_counts_as_outside() {
        let space = Space::new(0..4 * PACK);
        let range = 0..PACK + PAGE;
        let first = space.take_inside(PAGE, range).unwrap();
        // Two pages are left of the pack by a range that ends there, and one of them is given.
        let within = first.range().start..first.range().start + 3 * PAGE;
        assert_eq!(space.take_inside(PAGE, within.clone()).unwrap().range().start, PAGE);
        assert!(space.take_inside(2 * PAGE, within).is_none());
    }
}
