//! Free address ranges, and first fit among them.

use core::ops::Range;

use super::chunked::{ChunkedMap, OutOfMemory, Summary};
use crate::address::align_up;

/// The holes of an address space: disjoint, never empty, never adjacent.
#[derive(Clone, Debug)]
pub(super) struct FreeList {
    /// Start of a hole to its end.
    holes: ChunkedMap<HoleEnd>,
}

#[derive(Clone, Copy, Debug)]
struct HoleEnd(u64);

impl Summary for HoleEnd {
    /// The hole's size: a chunk whose largest hole is too small is skipped whole.
    fn summary(&self, start: u64) -> u64 {
        self.0 - start
    }
}

impl FreeList {
    pub(super) const fn new() -> FreeList {
        FreeList { holes: ChunkedMap::new() }
    }

    /// Takes the lowest `size` bytes inside `within` whose start is a multiple of `alignment`. `Ok(None)` if there is no
    /// such hole.
    pub(super) fn allocate(
        &mut self,
        size: u64,
        alignment: u64,
        within: Range<u64>,
    ) -> Result<Option<u64>, OutOfMemory> {
        self.allocate_in_hole(size, alignment, within, size)
    }

    /// The same in holes of at least `hole` bytes: mm/vmalloc.c:find_vmap_lowest_match goes past those that are too small
    /// for the worst alignment, even if theirs is good, but for the few that lie on its way through the tree.
    pub(super) fn allocate_in_hole(
        &mut self,
        size: u64,
        alignment: u64,
        within: Range<u64>,
        hole: u64,
    ) -> Result<Option<u64>, OutOfMemory> {
        let fits = |start: u64, end: u64| {
            if end - start < hole {
                return None;
            }
            let start = align_up(start.max(within.start), alignment)?;
            let last = start.checked_add(size)?;
            (last <= end.min(within.end)).then_some(start)
        };
        let before = self.holes.at_or_before(within.start).and_then(|(start, end)| fits(start, end.0));
        let found = match before {
            Some(start) => Some(start),
            None => self
                .holes
                .find_from(within.start, size.max(hole), |start, end| {
                    // Once past the range, stop: any answer ends the search, and this one is "none".
                    if start >= within.end { Some(None) } else { fits(start, end.0).map(Some) }
                })
                .flatten(),
        };
        match found {
            Some(start) => self.take(start..start + size).map(|()| Some(start)),
            None => Ok(None),
        }
    }

    /// Takes exactly `range`, which must be free; `false` if it is not.
    pub(super) fn reserve(&mut self, range: Range<u64>) -> Result<bool, OutOfMemory> {
        match self.holes.at_or_before(range.start) {
            Some((_, end)) if range.start < range.end && range.end <= end.0 => {
                self.take(range).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Cuts `range` out of the hole that it lies in.
    fn take(&mut self, range: Range<u64>) -> Result<(), OutOfMemory> {
        let Some((start, HoleEnd(end))) = self.holes.at_or_before(range.start) else { return Ok(()) };
        match (start < range.start, range.end < end) {
            (false, false) => {
                self.holes.remove(start);
            }
            (false, true) => self.holes.replace(start, range.end, HoleEnd(end)),
            (true, false) => self.holes.replace(start, start, HoleEnd(range.start)),
            (true, true) => {
                self.holes.insert(range.end, HoleEnd(end))?;
                self.holes.replace(start, start, HoleEnd(range.start));
            }
        }
        Ok(())
    }

    /// Gives a range back and joins it with its neighbours.
    pub(super) fn release(&mut self, range: Range<u64>) -> Result<(), OutOfMemory> {
        let before = self.holes.at_or_before(range.start).filter(|(_, end)| end.0 == range.start);
        let after = self.holes.at_or_after(range.end).filter(|&(start, _)| start == range.end);
        match (before, after) {
            (Some((start, _)), Some((next, end))) => {
                self.holes.remove(next);
                self.holes.replace(start, start, end);
            }
            (Some((start, _)), None) => self.holes.replace(start, start, HoleEnd(range.end)),
            (None, Some((next, end))) => self.holes.replace(next, range.start, end),
            (None, None) => self.holes.insert(range.start, HoleEnd(range.end))?,
        }
        Ok(())
    }

    /// The holes, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.holes.iter().map(|(start, end)| start..end.0)
    }

    /// How many holes there are.
    pub(super) fn len(&self) -> usize {
        self.holes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_fit_takes_the_lowest_hole_and_a_release_joins_its_neighbours() {
        let mut free = FreeList::new();
        free.release(0x1000..0x9000).unwrap();
        assert_eq!(free.allocate(0x2000, 0x1000, 0..u64::MAX), Ok(Some(0x1000)));
        assert_eq!(free.allocate(0x2000, 0x1000, 0..u64::MAX), Ok(Some(0x3000)));
        assert_eq!(free.allocate(0x2000, 0x1000, 0x6000..u64::MAX), Ok(Some(0x6000)));
        free.release(0x1000..0x3000).unwrap();
        assert_eq!(free.allocate(0x3000, 0x1000, 0..u64::MAX), Ok(None));
        assert_eq!(free.allocate(0x1000, 0x2000, 0..u64::MAX), Ok(Some(0x2000)));
        free.release(0x3000..0x5000).unwrap();
        free.release(0x2000..0x3000).unwrap();
        free.release(0x6000..0x8000).unwrap();
        let mut holes = free.iter();
        assert_eq!((holes.next(), holes.next()), (Some(0x1000..0x9000), None));
    }

    #[test]
    fn a_hole_that_fits_exactly_can_be_passed_over() {
        let mut free = FreeList::new();
        free.release(0x2000..0x4000).unwrap();
        free.release(0x6000..0x1_0000).unwrap();
        let mut take = |hole| free.allocate_in_hole(0x2000, 0x2000, 0..u64::MAX, hole);
        assert_eq!(take(0x2000 + 0x1fff), Ok(Some(0x6000)));
        assert_eq!(take(0x2000), Ok(Some(0x2000)));
        assert_eq!(take(0x9000), Ok(None));
    }

    #[test]
    fn a_range_narrower_than_the_hole_is_honoured_at_both_ends() {
        let mut free = FreeList::new();
        free.release(0..0x10_000).unwrap();
        assert_eq!(free.allocate(0x1000, 0x1000, 0x4000..0x5000), Ok(Some(0x4000)));
        assert_eq!(free.allocate(0x1000, 0x1000, 0x4000..0x5000), Ok(None));
        assert_eq!(free.allocate(0x1000, 0x1000, 0x3000..0x5000), Ok(Some(0x3000)));
        assert_eq!(free.reserve(0x5000..0x6000), Ok(true));
        assert_eq!(free.reserve(0x5000..0x6000), Ok(false));
    }
}
