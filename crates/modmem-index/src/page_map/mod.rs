//! The default map: one entry a page.
//!
//! An entry is four bytes: nobody, the owner of the whole page (id, generation and type of memory, so that no second
//! look is needed), or, where ranges share the page or cover it in part, the number of a record that says who owns
//! which bytes of it. A look-up is a subtraction, a shift and one load; on a shared page one more cache line.
//!
//! Take it unless memory or caches are scarce: an entry for every page of a window is four bytes for each 4 KiB of
//! address space in use, and the page of entries that a look-up needs may not be in memory yet, which costs the first
//! one there a page fault. [`PackedMap`](crate::PackedMap) is for contexts that may not fault.
//!
//! The address space declares its *windows*, the ranges that memory comes from: an entry is found in the window's own
//! array, and an address in no window is refused by one comparison for each. A window is [`Form::Flat`], one array,
//! or [`Form::TwoLevel`], a directory of leaves that exist once something was inserted there, for windows of which
//! little is used, up to whole spaces of 47 or 57 bits.
//!
//! Readers are wait-free: one load answers for a whole page; for a shared page they try three times without a word to
//! anybody, and the fourth time (the writer has then changed that very page three times) they make the writer keep its
//! hands off retired records and cannot fail. Entries never move while the map lives.

mod window;
mod writer;

use core::fmt;

pub use window::{Form, Window};

use crate::address::Address;
use crate::memory::{Pool, PoolWriter};
use crate::owner::Cell;
use crate::shared_page::{MAX_PAGE_SHIFT, Record};
use crate::sync::{AtomicU32, Ordering, WriterLock, fence};
use crate::{AddressIndex, Extent, IndexError, Owner};
use window::{OpenWindow, WINDOWS};

/// Set in an entry that is the number of a record; otherwise it is a [`Cell`].
const SHARED: u32 = 1 << 31;

/// The default map from addresses to owners: see the crate's table of structures.
///
/// A page is `1 << page_shift` bytes: the page size of the memory that is indexed, so that most memories begin and end
/// with pages; where that is 64 KiB, half of it. To insert or remove on a shared page takes time in proportion to the
/// ranges there.
pub struct PageMap<A> {
    /// The first two, which most maps have no more than.
    near: [OpenWindow<A>; 2],
    later: [spin::Once<OpenWindow<A>>; WINDOWS - 2],
    page_shift: u32,
    pool: Pool,
    writer: WriterLock<PoolWriter>,
}

impl<A: Address> PageMap<A> {
    /// A map without ranges. Six windows can be added later, or fewer if it is made with more than two.
    ///
    /// # Errors
    /// A window is empty or wraps around, or overlaps another (both rounded to pages); there are more than eight; or
    /// there is no memory.
    ///
    /// # Panics
    /// `page_shift` is not from 4 to 15.
    pub fn new(windows: &[Window<A>], page_shift: u32) -> Result<PageMap<A>, IndexError> {
        assert!((4..=MAX_PAGE_SHIFT).contains(&page_shift), "a page of 2^{page_shift} bytes");
        let form = windows.first().map_or(Form::Flat, |window| window.form);
        let near = |index: usize| match windows.get(index) {
            Some(&window) => OpenWindow::new(window, page_shift),
            None => OpenWindow::none(form, page_shift),
        };
        let near = [near(0)?, near(1)?];
        if near[0].overlaps(&near[1]) {
            return Err(IndexError::Overlap);
        }
        let later = [const { spin::Once::new() }; WINDOWS - 2];
        let map = PageMap {
            near,
            later,
            page_shift,
            pool: Pool::new(),
            writer: WriterLock::new(PoolWriter::default()),
        };
        windows.iter().skip(2).try_for_each(|&window| map.add_window(window))?;
        Ok(map)
    }

    /// Adds a window, for memory that comes from somewhere else than was thought at first. Readers may run. Addresses of
    /// the two windows that a map was made with are found somewhat faster.
    ///
    /// # Errors
    /// As for [`PageMap::new`]; nothing has changed.
    pub fn add_window(&self, window: Window<A>) -> Result<(), IndexError> {
        let _writer = self.writer.lock();
        let open = OpenWindow::new(window, self.page_shift)?;
        if self.open_windows().any(|other| other.overlaps(&open)) {
            return Err(IndexError::Overlap);
        }
        let vacant = self.later.iter().find(|window| window.get().is_none());
        vacant.ok_or(IndexError::TooManyWindows)?.call_once(|| open);
        Ok(())
    }

    /// Bytes of memory that the map has asked for. What a flat window has asked for is resident only where entries
    /// were written, if the allocator hands out memory that the system commits when it is touched.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.pool.bytes() + self.open_windows().map(OpenWindow::bytes).sum::<usize>()
    }

    fn open_windows(&self) -> impl Iterator<Item = &OpenWindow<A>> {
        self.near
            .iter()
            .filter(|window| window.exists())
            .chain(self.later.iter().map_while(|slot| slot.get()))
    }

    #[inline(never)]
    fn find_in_two_windows(&self, address: A) -> Option<Owner> {
        match OpenWindow::slot_in_two(&self.near, address) {
            Some(slot) => self.owner_in(slot, address),
            None if self.later[0].get().is_none() => None,
            None => self.find_in_later_windows(address),
        }
    }

    #[inline(never)]
    fn find_in_later_windows(&self, address: A) -> Option<Owner> {
        let window =
            self.later.iter().map_while(|slot| slot.get()).find(|window| window.contains(address))?;
        self.owner_in(window.entry(window.position(address).0)?, address)
    }

    /// The owner of a byte of the page whose entry that is.
    #[inline]
    fn owner_in(&self, slot: &AtomicU32, address: A) -> Option<Owner> {
        // Acquire: pairs with the store that inserted the range, so that what the writer did before (publish the owner)
        // is seen by whoever finds it.
        let entry = slot.load(Ordering::Acquire);
        match entry & SHARED {
            0 => Cell(entry).owner(),
            _ => self.find_shared(slot, entry, address),
        }
    }

    /// The owner of a byte of a page whose entry was found to be `entry`, the number of a record: what is asked most
    /// often, and nothing that needs a call.
    #[inline(never)]
    fn find_shared(&self, slot: &AtomicU32, entry: u32, address: A) -> Option<Owner> {
        let offset = address.offset_in_page(self.page_shift);
        match self.attempt(slot, entry, |record| record.find_among_few(offset)) {
            Some(Some(cell)) => cell.owner(),
            _ => self.find_thoroughly(slot, offset),
        }
    }

    /// What `find` reads from the page's record, unless a writer has used that for something else meanwhile.
    #[inline]
    fn attempt<T>(&self, slot: &AtomicU32, entry: u32, find: impl Fn(Record<'_>) -> T) -> Option<T> {
        let record = Record::of(&self.pool, entry & !SHARED)?;
        let version = record.version();
        // The record is this page's at this moment (Acquire: the version was read before), so that its contents are
        // right unless it is retired, and with it gets another version, before they are read. The entry alone would not
        // tell: the record may serve another page and then this one again.
        if slot.load(Ordering::Acquire) != entry {
            return None;
        }
        let found = find(record);
        // Acquire: whoever has read what a later user of the record wrote sees its retirement below. Pairs with the
        // fence in `Pool::is_held`.
        fence(Ordering::Acquire);
        (record.version() == version).then_some(found)
    }

    /// Any page that was shared a moment ago.
    #[inline(never)]
    fn find_thoroughly(&self, slot: &AtomicU32, offset: u32) -> Option<Owner> {
        for _attempt in 0..2 {
            // Acquire: the owner, as in `owner_in`.
            let entry = slot.load(Ordering::Acquire);
            if entry & SHARED == 0 {
                return Cell(entry).owner();
            }
            if let Some(cell) = self.attempt(slot, entry, |record| record.find(offset)) {
                return cell.owner();
            }
        }
        let _hold = self.pool.hold();
        // Acquire: the record's contents, and the owner.
        match slot.load(Ordering::Acquire) {
            entry if entry & SHARED != 0 => Record::of(&self.pool, entry & !SHARED)?.find(offset).owner(),
            entry => Cell(entry).owner(),
        }
    }
}

impl<A: Address> AddressIndex<A> for PageMap<A> {
    fn insert(&self, extent: Extent<A>, owner: Owner) -> Result<(), IndexError> {
        self.insert_range(extent, owner)
    }

    fn remove(&self, start: A) -> Option<(Extent<A>, Owner)> {
        self.remove_range(start)
    }

    #[inline]
    fn find(&self, address: A) -> Option<Owner> {
        if self.near[1].exists() {
            return self.find_in_two_windows(address);
        }
        match self.near[0].slot(address) {
            Some(slot) => self.owner_in(slot, address),
            // Whoever is in no window is told so by a subtraction and a comparison, and this.
            None if self.later[0].get().is_none() => None,
            None => self.find_in_later_windows(address),
        }
    }

    fn next(&self, address: A) -> Option<(Extent<A>, Owner)> {
        self.next_range(address)
    }
}

impl<A: Address> fmt::Debug for PageMap<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageMap").field("windows", &self.open_windows().count()).finish_non_exhaustive()
    }
}
