//! A window: the blocks of a stretch of address space.

use super::word::Word;
use crate::address::{Address, AtomicCell};
use crate::memory::Array;
use crate::sync::Ordering;
use crate::{Extent, IndexError};

/// Windows that a map can have.
pub(super) const WINDOWS: usize = 8;

/// A window and its blocks.
#[derive(Debug)]
pub(super) struct Window<A, W: Word> {
    base: A,
    page_shift: u32,
    pages: usize,
    blocks: Array<W::Atomic>,
    /// Page numbers in the whole space.
    first_page: u64,
    last_page: u64,
}

impl<A: Address, W: Word> Window<A, W> {
    pub(super) fn new(extent: Extent<A>, page_shift: u32) -> Result<Window<A, W>, IndexError> {
        let last = extent.last().ok_or(IndexError::BadRange)?;
        let first_page = extent.start.to_u64() >> page_shift;
        let last_page = last.to_u64() >> page_shift;
        let pages = usize::try_from(last_page - first_page + 1).map_err(|_| IndexError::OutOfMemory)?;
        let blocks: Array<W::Atomic> = Array::zeroed(pages.div_ceil(W::PAGES))?;
        // Written although they are zero, so that no look-up is the first to touch a page of them.
        blocks.iter().for_each(|block| block.store(W::EMPTY, Ordering::Relaxed));
        let base = A::from_u64(first_page << page_shift);
        Ok(Window { base, page_shift, pages, blocks, first_page, last_page })
    }

    pub(super) fn base(&self) -> A {
        self.base
    }

    /// The number of the last page in the whole space.
    pub(super) fn last_page(&self) -> u64 {
        self.last_page
    }

    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// The page of an address, counted from the window's start. Not below [`Self::pages`] if it lies outside.
    #[inline]
    pub(super) fn page(&self, address: A) -> usize {
        address.wrapping_sub(self.base).page(self.page_shift)
    }

    /// The page of an address and the offset in it.
    pub(super) fn position(&self, address: A) -> (usize, u32) {
        (self.page(address), address.offset_in_page(self.page_shift))
    }

    /// Whether the two have a page in common. Both count pages of the same size.
    pub(super) fn overlaps(&self, other: &Window<A, W>) -> bool {
        self.first_page <= other.last_page && other.first_page <= self.last_page
    }

    /// The word of a page's block, if the window reaches so far.
    #[inline]
    pub(super) fn block(&self, page: usize) -> Option<&W::Atomic> {
        self.blocks.get(page / W::PAGES)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.blocks)
    }
}
