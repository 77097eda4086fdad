//! The compact map: change bits for 32 pages and values behind them.
//!
//! A block stands for 32 pages (for 16 on targets without 64-bit atomics). It is one word: a bit for each page that has
//! another value than the page before it, and the place of a *run* with the values one after the other. The value of a
//! page is as many places into the run as bits are set up to the page: a look-up loads the word, counts bits, and loads
//! the value. A value is what an entry of [`PageMap`](crate::PageMap) is: nobody, an owner, or the number of a record
//! that says who owns which bytes of the page, and is as exact.
//!
//! Take it where caches are small, and where a look-up may not fault. A window costs a quarter of a byte a page. A range
//! costs two values of four bytes, its own and that of the gap behind it, and each block in use one or two more: about
//! a hundred bytes, all in all, for a module with seven memories in a window that is well filled, a third of what
//! [`PageMap`](crate::PageMap) touches. Everything that a look-up reads was written when it was made, so that it is in
//! memory if the system does not take memory back (which `mlock` or being a kernel sees to). What it is not made for is
//! a window that is far larger than what is in use: its words are written all at once.
//!
//! Readers are wait-free: they read without a word to anybody, and look afterwards whether a writer has unlinked
//! something meanwhile; when that has happened three times, they make writers keep their hands off what
//! was unlinked, and cannot fail. A writer never changes a run so that a reader could see a mixture: it publishes a new
//! one by one store, or stores one value.

mod block;
mod map;
mod rank;
mod runs;
#[cfg(all(test, not(loom)))]
mod tests;
mod window;
mod word;
mod writer;

use core::fmt;

use crate::address::Address;
use crate::shared_page::MAX_PAGE_SHIFT;
use crate::{AddressIndex, Extent, IndexError, Owner};
use map::Map;
use word::Native;

/// The compact map from addresses to owners: see the crate's table of structures.
pub struct PackedMap<A>(Map<A, Native>);

impl<A: Address> PackedMap<A> {
    /// A map without ranges, for memory that comes from these windows (rounded outwards to pages). A page is
    /// `1 << page_shift` bytes: the page size of the memory that is indexed, so that most memories begin and end with
    /// pages.
    ///
    /// # Errors
    /// A window is empty or wraps around, or overlaps another (both rounded to pages); there are more than eight; or
    /// there is no memory.
    ///
    /// # Panics
    /// `page_shift` is not from 4 to 15.
    pub fn new(windows: &[Extent<A>], page_shift: u32) -> Result<PackedMap<A>, IndexError> {
        assert!((4..=MAX_PAGE_SHIFT).contains(&page_shift), "a page of 2^{page_shift} bytes");
        Map::new(windows, page_shift).map(PackedMap)
    }

    /// Bytes of memory that the map has asked for. One byte a page of that, the room for values, is asked for at once
    /// and written as ranges come: see [`resident_bytes`](PackedMap::resident_bytes).
    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    /// Bytes of memory that the map has written, and that therefore are in memory, where the system commits what is
    /// touched: all that look-ups read, and the writer's own notes.
    pub fn resident_bytes(&self) -> usize {
        self.0.resident_bytes()
    }

    /// What `find` does after it has lost against writers, which takes more switches between threads than a model can
    /// explore.
    #[cfg(loom)]
    #[doc(hidden)]
    pub fn find_holding(&self, address: A) -> Option<Owner> {
        let (page, block) = self.0.block_of(address)?;
        self.0.find_holding(block, page, address)
    }
}

impl<A: Address> AddressIndex<A> for PackedMap<A> {
    fn insert(&self, extent: Extent<A>, owner: Owner) -> Result<(), IndexError> {
        self.0.insert_range(extent, owner)
    }

    fn remove(&self, start: A) -> Option<(Extent<A>, Owner)> {
        self.0.remove_range(start)
    }

    #[inline]
    fn find(&self, address: A) -> Option<Owner> {
        self.0.find(address)
    }

    fn next(&self, address: A) -> Option<(Extent<A>, Owner)> {
        self.0.next_range(address)
    }
}

impl<A: Address> fmt::Debug for PackedMap<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedMap").field("windows", &self.0.open_windows().count()).finish_non_exhaustive()
    }
}
