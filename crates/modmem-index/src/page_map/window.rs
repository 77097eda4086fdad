//! A window: the entries of a stretch of address space.

use crate::address::Address;
use crate::memory::{Array, OutOfMemory, Sparse};
use crate::sync::AtomicU32;
use crate::{Extent, IndexError};

/// Windows that a map can have.
pub(super) const WINDOWS: usize = 8;

/// How the entries of a window are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// One array, asked for at once: 4 bytes a page of the window. For the module window of a kernel.
    Flat,
    /// A directory and leaves, each asked for when something is first inserted there: one more load. For windows of
    /// which little is used, and for allocators that commit what they hand out at once.
    TwoLevel,
}

/// A stretch of address space that memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window<A> {
    /// Its addresses; rounded outwards to pages.
    pub extent: Extent<A>,
    /// How its entries are kept.
    pub form: Form,
}

/// A window with its entries.
#[derive(Debug)]
pub(super) struct OpenWindow<A> {
    base: A,
    page_shift: u32,
    pages: usize,
    entries: Entries,
    /// Page numbers in the whole space.
    first_page: u64,
    last_page: u64,
}

#[derive(Debug)]
enum Entries {
    Flat(Array<AtomicU32>),
    TwoLevel(Sparse<AtomicU32>),
}

impl<A: Address> OpenWindow<A> {
    pub(super) fn new(window: Window<A>, page_shift: u32) -> Result<OpenWindow<A>, IndexError> {
        let last = window.extent.last().ok_or(IndexError::BadRange)?;
        let first_page = window.extent.start.to_u64() >> page_shift;
        let last_page = last.to_u64() >> page_shift;
        let pages = usize::try_from(last_page - first_page + 1).map_err(|_| IndexError::OutOfMemory)?;
        let entries = match window.form {
            Form::Flat => Entries::Flat(Array::zeroed(pages)?),
            Form::TwoLevel => {
                // Leaves of 4 KiB for a kernel's window; in a whole 47- or 57-bit space as many leaves as entries in
                // one, of which the system commits what is touched.
                let bits = usize::BITS - (pages - 1).leading_zeros();
                Entries::TwoLevel(Sparse::new(pages, bits.div_ceil(2).max(10))?)
            }
        };
        let base = A::from_u64(first_page << page_shift);
        Ok(OpenWindow { base, page_shift, pages, entries, first_page, last_page })
    }

    pub(super) fn base(&self) -> A {
        self.base
    }

    /// The number of the last page in the whole space.
    pub(super) fn last_page(&self) -> u64 {
        self.last_page
    }

    #[inline]
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// The page of an address, counted from the window's start, and the offset in it. Not below [`Self::pages`] if the
    /// address lies outside.
    pub(super) fn position(&self, address: A) -> (usize, u32) {
        let distance = address.wrapping_sub(self.base);
        (distance.page(self.page_shift), distance.offset_in_page(self.page_shift))
    }

    /// Whether the two have a page in common. Both count pages of the same size.
    pub(super) fn overlaps(&self, other: &OpenWindow<A>) -> bool {
        self.first_page <= other.last_page && other.first_page <= self.last_page
    }

    /// `None` if the address lies outside; otherwise the entry of its page, if that exists.
    #[inline]
    pub(super) fn slot(&self, address: A) -> Option<Option<&AtomicU32>> {
        let page = address.wrapping_sub(self.base).page(self.page_shift);
        match &self.entries {
            Entries::Flat(entries) => entries.get(page).map(Some),
            Entries::TwoLevel(entries) => (page < self.pages).then(|| entries.get(page)),
        }
    }

    /// The entry of a page of the window, if it exists.
    pub(super) fn entry(&self, page: usize) -> Option<&AtomicU32> {
        match &self.entries {
            Entries::Flat(entries) => entries.get(page),
            Entries::TwoLevel(entries) => entries.get(page),
        }
    }

    /// Makes the entries of these pages exist.
    pub(super) fn grow(&self, mut pages: core::ops::RangeInclusive<usize>) -> Result<(), OutOfMemory> {
        match &self.entries {
            Entries::Flat(_) => Ok(()),
            Entries::TwoLevel(entries) => pages.try_for_each(|page| entries.grow(page)),
        }
    }

    /// The first page from `page` on that may have an entry that is not zero.
    pub(super) fn skip_missing(&self, page: usize) -> Option<usize> {
        match &self.entries {
            Entries::Flat(entries) => (page < entries.len()).then_some(page),
            Entries::TwoLevel(entries) => entries.skip_missing(page),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.entries {
            Entries::Flat(entries) => size_of_val(&**entries),
            Entries::TwoLevel(entries) => entries.bytes(),
        }
    }
}
