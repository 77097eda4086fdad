//! The map for any word of blocks, and how readers read it.

use super::rank::Rank;
use super::runs::{RunWriter, Runs};
use super::window::{WINDOWS, Window};
use super::word::Word;
use crate::address::{Address, AtomicCell};
use crate::memory::{Pool, PoolWriter};
use crate::owner::Cell;
use crate::shared_page::Record;
use crate::sync::{AtomicU32, Ordering, WriterLock, fence};
use crate::{Extent, IndexError, Owner};

/// Set in a value that is the number of a record; otherwise it is a [`Cell`].
pub(super) const SHARED: u32 = 1 << 31;

/// How many versions there are, block by block in turn.
#[cfg(not(loom))]
const VERSIONS: usize = 64;
#[cfg(loom)]
const VERSIONS: usize = 2;

#[derive(Debug)]
pub(super) struct Map<A, W: Word> {
    pub(super) windows: [Option<Window<A, W>>; WINDOWS],
    pub(super) page_shift: u32,
    rank: Rank,
    /// How often a run or a record of a page was unlinked, in the blocks that have this version. It is all the same to a
    /// reader whose block has not changed, unless one that has the same version changes while it reads: then it reads
    /// twice.
    versions: [AtomicU32; VERSIONS],
    pub(super) runs: Runs,
    pub(super) pool: Pool,
    pub(super) writer: WriterLock<Writer>,
}

/// What only the writer knows.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) pool: PoolWriter,
    pub(super) runs: RunWriter,
}

impl<A: Address, W: Word> Map<A, W> {
    pub(super) fn new(extents: &[Extent<A>], page_shift: u32) -> Result<Map<A, W>, IndexError> {
        let mut windows: [Option<Window<A, W>>; WINDOWS] = Default::default();
        let mut pages = 0;
        for (n, &extent) in extents.iter().enumerate() {
            let window = Window::new(extent, page_shift)?;
            if windows.iter().flatten().any(|other| other.overlaps(&window)) {
                return Err(IndexError::Overlap);
            }
            pages += window.pages();
            *windows.get_mut(n).ok_or(IndexError::TooManyWindows)? = Some(window);
        }
        // Room for a value for every four pages: ranges of seven pages on average with a gap behind each.
        let (runs, run_writer) = Runs::new(pages / 4)?;
        let writer = WriterLock::new(Writer { pool: PoolWriter::default(), runs: run_writer });
        let versions = core::array::from_fn(|_| AtomicU32::new(0));
        Ok(Map { windows, page_shift, rank: Rank::new(), versions, runs, pool: Pool::new(), writer })
    }

    pub(super) fn open_windows(&self) -> impl Iterator<Item = &Window<A, W>> {
        self.windows.iter().flatten()
    }

    /// What is asked most often, and nothing that needs a call: a page with one owner, in one of the first two windows,
    /// whose value lies near, and no writer at work there.
    #[inline]
    pub(super) fn find(&self, address: A) -> Option<Owner> {
        for window in &self.windows[..2] {
            let Some(window) = window else { return None };
            let page = window.page(address);
            let Some(block) = window.block(page) else { continue };
            let version = self.version(page);
            // The orderings are those of `attempt`.
            let before = version.load(Ordering::Acquire);
            let Some(value) = self.near_value(block.load(Ordering::Acquire), page) else { break };
            let value = value.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if value & SHARED != 0 || version.load(Ordering::Relaxed) != before {
                break;
            }
            return Cell(value).owner();
        }
        self.find_thoroughly(address)
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
        self.find_holding(address)
    }

    /// The page of an address, counted from its window's start, and the word of the page's block.
    fn block_of(&self, address: A) -> Option<(usize, &W::Atomic)> {
        self.open_windows().find_map(|window| {
            let page = window.page(address);
            Some((page, window.block(page)?))
        })
    }

    /// What no writer can disturb: whoever has lost against writers comes here.
    #[cold]
    pub(super) fn find_holding(&self, address: A) -> Option<Owner> {
        let (page, block) = self.block_of(address)?;
        // No run and no record that is found from here on is used again before the hold ends.
        let _hold = self.pool.hold();
        // Acquire, both: the contents of the run and of the record.
        let value = self.value(block.load(Ordering::Acquire), page)?.load(Ordering::Acquire);
        self.cell(value, address).owner()
    }

    /// The cell, unless a writer unlinked something of the block meanwhile.
    ///
    /// What is read is right unless the run or the record that it lies in was unlinked *and* used again before it was
    /// read. The block's word alone would not tell: the same run, with the same change bits, may have served another
    /// block and then this one again. The version does. Let P be the store that the reader's load of the word found. To
    /// use the run again, the writer 1. stores another word over P, 2. changes the version, 3. passes the fence in
    /// `Pool::is_held`, 4. writes into the run. A reader that has seen something of 4 sees 2 behind its own fence. But
    /// when it loaded the version first, it had not seen 2: by acquire and release it would have seen 1 too, and not
    /// found P any more, whatever was stored later and however much that looks like P. So the two loads of the version
    /// differ (unless exactly 2^32 changes of one version lie between them). Of a record the same is true: where 1 is
    /// not a store over the value that the reader found, but over that value's copy in a later run, P had been stored
    /// over and the version changed before.
    fn attempt(&self, block: &W::Atomic, page: usize, address: A) -> Option<Cell> {
        let version = self.version(page);
        // Acquire: pairs with `Map::unlinked`; see above.
        let before = version.load(Ordering::Acquire);
        // Acquire: the values of the run that is found were written before. Pairs with `Map::publish`.
        let word = block.load(Ordering::Acquire);
        let value = self.value(word, page)?.load(Ordering::Relaxed);
        let cell = self.cell(value, address);
        // Acquire: pairs with the fence in `Pool::is_held`; see above. It also pairs with the store that inserted the
        // range, so that what the writer did before (publish the owner) is seen by whoever finds it.
        fence(Ordering::Acquire);
        (version.load(Ordering::Relaxed) == before).then_some(cell)
    }

    /// The version of a page's block.
    #[inline]
    pub(super) fn version(&self, page: usize) -> &AtomicU32 {
        &self.versions[page / W::PAGES % VERSIONS]
    }

    /// Where a page's value is in its run.
    #[inline]
    fn index(&self, word: W, page: usize) -> u32 {
        word.run() + self.rank.up_to(word.changes(), page % W::PAGES)
    }

    /// The place of a page's value, if it is one of those that are found fastest.
    #[inline]
    fn near_value(&self, word: W, page: usize) -> Option<&AtomicU32> {
        self.runs.near(self.index(word, page))
    }

    /// The place of a page's value.
    pub(super) fn value(&self, word: W, page: usize) -> Option<&AtomicU32> {
        self.runs.value(self.index(word, page))
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
        let writer = self.writer.lock();
        let notes = writer.runs.bytes() + writer.pool.bytes();
        size_of::<Self>() + windows + self.runs.bytes() + self.pool.bytes() + notes
    }

    pub(super) fn resident_bytes(&self) -> usize {
        let touched = self.writer.lock().runs.touched();
        self.memory_bytes() - self.runs.bytes() + touched
    }
}
