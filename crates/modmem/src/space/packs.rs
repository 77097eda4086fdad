//! Packs: large blocks that text is cut from, module behind module without guards between them.
//!
//! Source: mm/execmem.c, what it does under EXECMEM_ROX_CACHE. A pack is as large as a huge page, or several, so that
//! the processor can translate the addresses of much text with one entry. It stays until the last text in it has gone.

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
    shared: Arc<Mutex<State>>,
}

struct State {
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
    pub(super) fn new(size: u64) -> Packs {
        let state = State { free: FreeList::new(), packs: Vec::new() };
        Packs { size, shared: Arc::new(Mutex::new(state)) }
    }

    /// Takes the lowest `size` bytes that are free in a pack; if there are none, of a new pack. `new` is asked for its
    /// addresses, by size and alignment: for whole huge pages, and if they cannot be had, for as much as is needed.
    pub(super) fn take(
        &self,
        size: u64,
        alignment: u64,
        new: impl Fn(u64, u64) -> Result<Option<HeldRange>, OutOfMemory>,
    ) -> Result<Option<PackedRange>, OutOfMemory> {
        let mut state = self.shared.lock();
        let packed = |start| Some(PackedRange { packs: self.clone(), range: start..start + size });
        if let Some(start) = state.free.allocate(size, alignment, 0..u64::MAX)? {
            return Ok(packed(start));
        }
        let whole = size.checked_next_multiple_of(self.size);
        let held = whole.map(|whole| Ok(new(whole, self.size.max(alignment))?.map(|held| (held, whole))));
        let Some((held, length)) = (match held.transpose()?.flatten() {
            Some(found) => Some(found),
            None => new(size, alignment)?.map(|held| (held, size)),
        }) else {
            return Ok(None);
        };
        let start = held.range().start;
        state.packs.try_reserve(1).map_err(|_| OutOfMemory)?;
        if size < length {
            state.free.release(start + size..start + length)?;
        }
        let at = state.packs.partition_point(|pack| pack.range.start < start);
        state.packs.insert(at, Pack { range: start..start + length, held });
        Ok(packed(start))
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
    /// Gives a part of a pack back, and the pack if that was the last one.
    fn release(&mut self, range: Range<u64>) {
        let start = range.start;
        // Without memory to remember a hole its addresses stay taken: never handed out twice.
        if self.free.release(range).is_err() {
            return;
        }
        let Some(at) = self.packs.partition_point(|pack| pack.range.start <= start).checked_sub(1) else {
            return;
        };
        if self.free.reserve(self.packs[at].range.clone()) == Ok(true) {
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
            let mut free = FreeList::new();
            free.release(range).unwrap();
            Space { ranges: SharedRanges::new(free), packs: Packs::new(PACK) }
        }

        fn take(&self, size: u64) -> Option<PackedRange> {
            let new = |size, alignment| self.ranges.take(size + PAGE, alignment, 0..u64::MAX);
            self.packs.take(size, PAGE, new).unwrap()
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
}
