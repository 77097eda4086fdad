//! A block as its writer sees it: stretches of pages that have one value each.

use super::word::Word;

/// A block's word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Bit `n` is set where page `n` begins another stretch. Bit 0 is clear: page 0 always does.
    pub(super) changes: u32,
    /// Where the values of the stretches are.
    pub(super) run: u32,
    /// Pages of the block.
    pages: usize,
}

impl Block {
    pub(super) fn of<W: Word>(word: W) -> Block {
        Block { changes: word.changes(), run: word.run(), pages: W::PAGES }
    }

    /// How many stretches there are.
    pub(super) fn values(self) -> usize {
        self.changes.count_ones() as usize + 1
    }

    /// Where the value of a page is.
    pub(super) fn index(self, page: usize) -> u32 {
        self.run + (self.changes << (31 - page)).count_ones()
    }

    /// The first page and the last one of the stretch that a page lies in.
    pub(super) fn stretch(self, page: usize) -> (usize, usize) {
        let up_to = (self.changes | 1) << (31 - page);
        let behind = self.changes >> page >> 1;
        let last = if behind == 0 { self.pages - 1 } else { page + behind.trailing_zeros() as usize };
        (page - up_to.leading_zeros() as usize, last)
    }

    /// The pages at which stretches begin.
    pub(super) fn begins(self) -> impl Iterator<Item = usize> {
        let mut left = self.changes | 1;
        core::iter::from_fn(move || {
            let page = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (page < 32).then_some(page)
        })
    }

    /// The change bits of the same block after `cuts` have been made in it, without the ones between two stretches that
    /// nobody owns, which a removal leaves behind. `value` says what a stretch has that begins at a page.
    pub(super) fn with_cuts(self, cuts: u32, value: impl Fn(usize) -> u32) -> u32 {
        let mut changes = self.changes;
        let mut before = None;
        for page in self.begins() {
            let this = value(page);
            if before == Some(0) && this == 0 {
                changes &= !(1 << page);
            }
            before = Some(this);
        }
        (changes | cuts) & !1
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn stretches_reach_from_change_to_change() {
        let block = Block::of::<u32>(Word::new(0b1000_0001_0010, 40));
        assert_eq!((block.values(), block.run), (4, 40));
        assert_eq!(block.begins().collect::<Vec<_>>(), [0, 1, 4, 11]);
        let stretches: Vec<_> = (0..16).map(|page| block.stretch(page)).collect();
        assert_eq!(stretches[0], (0, 0));
        assert_eq!(stretches[1..4], [(1, 3); 3]);
        assert_eq!(stretches[4..11], [(4, 10); 7]);
        assert_eq!(stretches[11..], [(11, 15); 5]);
        assert_eq!([0, 1, 3, 4, 15].map(|page| block.index(page)), [40, 41, 41, 42, 43]);
    }

    #[test]
    fn a_cut_divides_a_stretch_and_free_neighbours_become_one() {
        let block = Block::of::<u32>(Word::new(0b1000_0001_0010, 40));
        let free = |page| u32::from(page == 11);
        assert_eq!(block.with_cuts(0, free), 0b1000_0000_0000);
        assert_eq!(block.with_cuts(0b1101, free), 0b1000_0000_1100);
        // Two stretches with one owner are two ranges.
        assert_eq!(block.with_cuts(0, |_| 1), block.changes);
    }
}
