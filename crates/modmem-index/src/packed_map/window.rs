//! A window: the blocks of a stretch of address space.

use core::hint::select_unpredictable;

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

    /// No window: it has no blocks.
    pub(super) fn none() -> Result<Window<A, W>, IndexError> {
        let blocks = Array::zeroed(0)?;
        Ok(Window { base: A::ZERO, page_shift: 0, pages: 0, blocks, first_page: 0, last_page: 0 })
    }

    #[inline]
    pub(super) fn exists(&self) -> bool {
        self.pages > 0
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
        let meet = self.first_page <= other.last_page && other.first_page <= self.last_page;
        self.exists() && other.exists() && meet
    }

    /// Of two windows the one that an address lies in: its page there, and the word of the page's block.
    ///
    /// Which of the two it is, no processor can guess if addresses come from both: nothing here depends on a guess.
    #[inline]
    pub(super) fn block_in_two([first, second]: &[Self; 2], address: A) -> Option<(usize, &W::Atomic)> {
        let pages = (first.page(address), second.page(address));
        let in_first = pages.0 < first.pages;
        let page = select_unpredictable(in_first, pages.0, pages.1);
        let blocks = select_unpredictable(in_first, &*first.blocks, &*second.blocks);
        Some((page, blocks.get(page / W::PAGES)?))
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
