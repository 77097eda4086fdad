//! The map for any word of blocks, and how readers read it.

use super::rank::Rank;
use super::runs::{RunWriter, Runs};
use super::window::{WINDOWS, Window};
use super::word::Word;
use crate::address::{Address, AtomicCell};
use crate::memory::{Pool, PoolWriter};
use crate::owner::Cell;
use crate::shared_page::Record;
use crate::sync::{AtomicU32, AtomicUsize, Ordering, WriterLock, fence};
use crate::{Extent, IndexError, Owner};

/// Set in a value that is the number of a record; otherwise it is a [`Cell`].
pub(super) const SHARED: u32 = 1 << 31;

/// What writers write lies in cache lines of its own: readers would wait for theirs otherwise. (Processors fetch lines
/// in pairs.)
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

#[derive(Debug)]
pub(super) struct Map<A, W: Word> {
    /// The first two, which most maps have no more than.
    near: [Window<A, W>; 2],
    later: [Option<Window<A, W>>; WINDOWS - 2],
    pub(super) page_shift: u32,
    rank: Rank,
    pub(super) runs: Runs,
    pub(super) pool: Pool,
    /// How often a run or a record of a page was unlinked. All blocks have it in common: a writer's change takes a
    /// hundred times as long as a look-up, so that one look-up in a hundred is done twice, if writers never stop.
    pub(super) version: Apart<AtomicUsize>,
    pub(super) writer: Apart<WriterLock<Writer>>,
}

/// What only the writer knows.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) pool: PoolWriter,
    pub(super) runs: RunWriter,
}

impl<A: Address, W: Word> Map<A, W> {
    pub(super) fn new(extents: &[Extent<A>], page_shift: u32) -> Result<Map<A, W>, IndexError> {
        if extents.len() > WINDOWS {
            return Err(IndexError::TooManyWindows);
        }
        let window = |n: usize| extents.get(n).map(|&extent| Window::new(extent, page_shift)).transpose();
        let near = [window(0)?.map_or_else(Window::none, Ok)?, window(1)?.map_or_else(Window::none, Ok)?];
        let mut later = [const { None }; WINDOWS - 2];
        for (n, slot) in later.iter_mut().enumerate() {
            *slot = window(n + 2)?;
        }
        let windows = || near.iter().chain(later.iter().flatten());
        if windows().enumerate().any(|(n, window)| windows().take(n).any(|other| other.overlaps(window))) {
            return Err(IndexError::Overlap);
        }
        // Room for eight values in a block of 32 pages: three ranges with gaps between them.
        let (runs, run_writer) = Runs::new(windows().map(Window::pages).sum::<usize>() / 4)?;
        let writer = WriterLock::new(Writer { pool: PoolWriter::default(), runs: run_writer });
        Ok(Map {
            near,
            later,
            page_shift,
            rank: Rank::new(),
            runs,
            pool: Pool::new(),
            version: Apart(AtomicUsize::new(0)),
            writer: Apart(writer),
        })
    }

    pub(super) fn open_windows(&self) -> impl Iterator<Item = &Window<A, W>> {
        self.near.iter().filter(|window| window.exists()).chain(self.later.iter().flatten())
    }

    #[inline]
    pub(super) fn find(&self, address: A) -> Option<Owner> {
        let [window, second] = &self.near;
        if second.exists() {
            return self.find_in_two_windows(address);
        }
        let page = window.page(address);
        match self.whole_page(window.block(page)?, page) {
            Some(cell) => cell.owner(),
            None => self.find_thoroughly(address),
        }
    }

    #[inline(never)]
    fn find_in_two_windows(&self, address: A) -> Option<Owner> {
        match Window::block_in_two(&self.near, address) {
            Some((page, block)) => match self.whole_page(block, page) {
                Some(cell) => cell.owner(),
                None => self.find_thoroughly(address),
            },
            None if self.later[0].is_none() => None,
            None => self.find_thoroughly(address),
        }
    }

    /// What is asked most often, and nothing that needs a call: the cell of a page with one owner, whose value lies near,
    /// while no writer is at work.
    #[inline]
    fn whole_page(&self, block: &W::Atomic, page: usize) -> Option<Cell> {
        // The orderings are those of `attempt`.
        let before = self.version.0.load(Ordering::Acquire);
        let word = block.load(Ordering::Acquire);
        let rank = self.rank.up_to_quickly(word.changes(), page % W::PAGES)?;
        let value = self.runs.near(word.run() + rank)?.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let right = value & SHARED == 0 && self.version.0.load(Ordering::Relaxed) == before;
        right.then_some(Cell(value))
    }

    /// Everything else.
    #[inline(never)]
    fn find_thoroughly(&self, address: A) -> Option<Owner> {
        let (page, block) = self.block_of(address)?;
        for _attempt in 0..2 {
            if let Some(cell) = self.attempt(block, page, address) {
                return cell.owner();
            }
        }
        self.find_holding(block, page, address)
    }

    /// The page of an address, counted from its window's start, and the word of the page's block.
    pub(super) fn block_of(&self, address: A) -> Option<(usize, &W::Atomic)> {
        self.open_windows().find_map(|window| {
            let page = window.page(address);
            Some((page, window.block(page)?))
        })
    }

    /// What no writer can disturb: whoever has lost against writers comes here.
    #[cold]
    pub(super) fn find_holding(&self, block: &W::Atomic, page: usize, address: A) -> Option<Owner> {
        // No run and no record that is found from here on is used again before the hold ends.
        let _hold = self.pool.hold();
        // Acquire, both: the contents of the run and of the record.
        let value = self.value(block.load(Ordering::Acquire), page)?.load(Ordering::Acquire);
        self.cell(value, address).owner()
    }

    /// The cell, unless a writer unlinked something meanwhile.
    ///
    /// What is read is right unless the run or the record that it lies in was unlinked *and* used again before it was
    /// read. The block's word alone would not tell: the same run, with the same change bits, may have served another
    /// block and then this one again. The version does. Let P be the store that the reader's load of the word found. To
    /// use the run again, the writer 1. stores another word over P, 2. changes the version, 3. passes the fence in
    /// `Pool::is_held`, 4. writes into the run. A reader that has seen something of 4 sees 2 behind its own fence. But
    /// when it loaded the version first, it had not seen 2: by acquire and release it would have seen 1 too, and not
    /// found P any more, whatever was stored later and however much that looks like P. So the two loads of the version
    /// differ (unless exactly 2^32 changes lie between them, where a word is so short). Of a record the same is true: where 1 is
    /// not a store over the value that the reader found, but over that value's copy in a later run, P had been stored
    /// over and the version changed before.
    fn attempt(&self, block: &W::Atomic, page: usize, address: A) -> Option<Cell> {
        // Acquire: pairs with `Map::unlinked`; see above.
        let before = self.version.0.load(Ordering::Acquire);
        // Acquire: the values of the run that is found were written before. Pairs with `Map::publish`.
        let word = block.load(Ordering::Acquire);
        let value = self.value(word, page)?.load(Ordering::Relaxed);
        let cell = self.cell(value, address);
        // Acquire: pairs with the fence in `Pool::is_held`; see above. It also pairs with the store that inserted the
        // range, so that what the writer did before (publish the owner) is seen by whoever finds it.
        fence(Ordering::Acquire);
        (self.version.0.load(Ordering::Relaxed) == before).then_some(cell)
    }

    /// The place of a page's value.
    pub(super) fn value(&self, word: W, page: usize) -> Option<&AtomicU32> {
        self.runs.value(word.run() + self.rank.up_to(word.changes(), page % W::PAGES))
    }

    /// The cell of an address in a page that has this value.
    fn cell(&self, value: u32, address: A) -> Cell {
        if value & SHARED == 0 {
            return Cell(value);
        }
        // Acquire: the record was written before the value that names it was stored. Pairs with `Map::link`.
        fence(Ordering::Acquire);
        let record = Record::of(&self.pool, value & !SHARED);
        record.map_or(Cell::EMPTY, |record| record.find(address.offset_in_page(self.page_shift)))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let windows = self.open_windows().map(Window::bytes).sum::<usize>();
        let writer = self.writer.0.lock();
        let notes = writer.runs.bytes() + writer.pool.bytes();
        size_of::<Self>() + windows + self.runs.bytes() + self.pool.bytes() + notes
    }

    pub(super) fn resident_bytes(&self) -> usize {
        let touched = self.writer.0.lock().runs.touched();
        self.memory_bytes() - self.runs.bytes() + touched
    }
}
