//! A window: the entries of a stretch of address space.

use core::hint::select_unpredictable;

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
    /// The first address, and how far the last one is from it.
    base: A,
    reach: A,
    page_shift: u32,
    pages: usize,
    entries: Entries,
}

#[derive(Debug)]
enum Entries {
    Flat(Array<AtomicU32>),
    TwoLevel(Sparse<AtomicU32>),
}

impl Entries {
    fn new(form: Form, pages: usize) -> Result<Entries, OutOfMemory> {
        Ok(match form {
            Form::Flat => Entries::Flat(Array::zeroed(pages)?),
            Form::TwoLevel => {
                // Leaves of 4 KiB for a kernel's window; in a whole 47- or 57-bit space as many leaves as entries in
                // one, of which the system commits what is touched.
                let bits = usize::BITS - pages.saturating_sub(1).leading_zeros();
                Entries::TwoLevel(Sparse::new(pages, bits.div_ceil(2).max(10))?)
            }
        })
    }
}

impl<A: Address> OpenWindow<A> {
    pub(super) fn new(window: Window<A>, page_shift: u32) -> Result<OpenWindow<A>, IndexError> {
        let last = window.extent.last().ok_or(IndexError::BadRange)?;
        let first_page = window.extent.start.to_u64() >> page_shift;
        let pages = (last.to_u64() >> page_shift) - first_page + 1;
        let base = A::from_u64(first_page << page_shift);
        let reach = A::from_u64(((pages - 1) << page_shift) | ((1 << page_shift) - 1));
        let pages = usize::try_from(pages).map_err(|_| IndexError::OutOfMemory)?;
        let entries = Entries::new(window.form, pages)?;
        Ok(OpenWindow { base, reach, page_shift, pages, entries })
    }

    /// No window. It claims the last address of the space, but has no entry for it.
    pub(super) fn none(form: Form, page_shift: u32) -> Result<OpenWindow<A>, IndexError> {
        let entries = Entries::new(form, 0)?;
        Ok(OpenWindow { base: A::MAX, reach: A::ZERO, page_shift, pages: 0, entries })
    }

    #[inline]
    pub(super) fn exists(&self) -> bool {
        self.pages > 0
    }

    pub(super) fn base(&self) -> A {
        self.base
    }

    pub(super) fn last(&self) -> A {
        A::from_u64(self.base.to_u64() + self.reach.to_u64())
    }

    pub(super) fn contains(&self, address: A) -> bool {
        self.exists() && address.wrapping_sub(self.base) <= self.reach
    }

    /// The page of an address of the window, counted from the window's start, and the offset in it.
    pub(super) fn position(&self, address: A) -> (usize, u32) {
        let distance = address.wrapping_sub(self.base);
        (distance.page(self.page_shift), distance.offset_in_page(self.page_shift))
    }

    /// Whether the two have an address in common.
    pub(super) fn overlaps(&self, other: &OpenWindow<A>) -> bool {
        self.exists() && other.exists() && (self.contains(other.base) || other.contains(self.base))
    }

    /// The entry of a page of the window, if it exists.
    pub(super) fn entry(&self, page: usize) -> Option<&AtomicU32> {
        match &self.entries {
            Entries::Flat(entries) => entries.get(page),
            Entries::TwoLevel(entries) => entries.get(page),
        }
    }

    /// The entry of an address, if that lies in the window and has one.
    #[inline]
    pub(super) fn slot(&self, address: A) -> Option<&AtomicU32> {
        let distance = address.wrapping_sub(self.base);
        let page = distance.page(self.page_shift);
        match &self.entries {
            // It has exactly the window's pages.
            Entries::Flat(entries) => entries.get(page),
            Entries::TwoLevel(_) if distance > self.reach => None,
            Entries::TwoLevel(entries) => entries.get(page),
        }
    }

    /// The entry of an address, if that lies in one of the two windows and has one.
    ///
    /// Which of the two it is, no processor can guess if addresses come from both: nothing here depends on a guess.
    #[inline]
    pub(super) fn slot_in_two([first, second]: &[Self; 2], address: A) -> Option<&AtomicU32> {
        let distances = (address.wrapping_sub(first.base), address.wrapping_sub(second.base));
        let in_first = distances.0 <= first.reach;
        let distance = select_unpredictable(in_first, distances.0, distances.1);
        if distance > select_unpredictable(in_first, first.reach, second.reach) {
            return None;
        }
        let page = distance.page(first.page_shift);
        match (&first.entries, &second.entries) {
            (Entries::Flat(first), Entries::Flat(second)) => Array::either(in_first, first, second).get(page),
            (Entries::TwoLevel(first), Entries::TwoLevel(second)) => {
                select_unpredictable(in_first, first, second).get(page)
            }
            _ => select_unpredictable(in_first, first, second).entry(page),
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
