//! An array in two levels: a directory, and leaves that exist once somebody needed one of their elements.
#![expect(unsafe_code, reason = "a leaf is published through an atomic pointer")]

use core::fmt;
use core::ptr::NonNull;

use super::{Array, OutOfMemory, Zeroable};
use crate::sync::{AtomicPtr, LoadOwn, Ordering};

/// An array of which only the leaves that were asked for exist.
pub(crate) struct Sparse<T> {
    /// For each leaf null, or the start of `1 << leaf_bits` elements that live as long as this.
    directory: Array<AtomicPtr<T>>,
    leaf_bits: u32,
    len: usize,
}

impl<T: Zeroable> Sparse<T> {
    /// An array of `len` elements, none of which exists.
    pub(crate) fn new(len: usize, leaf_bits: u32) -> Result<Sparse<T>, OutOfMemory> {
        let leaves = len.div_ceil(1 << leaf_bits);
        Ok(Sparse { directory: Array::zeroed(leaves)?, leaf_bits, len })
    }

    /// The element, if it exists.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let leaf = self.directory.get(index >> self.leaf_bits)?;
        // Acquire: pairs with the store in `grow`, behind which the leaf is all zero.
        let start = NonNull::new(leaf.load(Ordering::Acquire))?;
        let offset = index & ((1 << self.leaf_bits) - 1);
        // SAFETY: a leaf has `1 << leaf_bits` elements, more than `offset`.
        let element = unsafe { start.add(offset) };
        // SAFETY: the element was valid when its leaf was published, is only ever borrowed shared, and lives as long
        // as `self`.
        Some(unsafe { element.as_ref() })
    }

    /// Makes sure that the element exists. One writer at a time.
    pub(crate) fn grow(&self, index: usize) -> Result<(), OutOfMemory> {
        let leaf = self.directory.get(index >> self.leaf_bits).ok_or(OutOfMemory)?;
        if leaf.load_own().is_null() {
            let (start, _) = Array::<T>::zeroed(1 << self.leaf_bits)?.into_raw();
            // Release: who finds the leaf finds it zeroed.
            leaf.store(start.as_ptr(), Ordering::Release);
        }
        Ok(())
    }

    /// The first index from `index` on whose leaf exists.
    pub(crate) fn skip_missing(&self, index: usize) -> Option<usize> {
        let first = index >> self.leaf_bits;
        let leaves = self.directory.get(first..)?;
        let found = leaves.iter().position(|leaf| !leaf.load(Ordering::Acquire).is_null())?;
        Some(if found == 0 { index } else { (first + found) << self.leaf_bits })
    }

    /// Bytes of the directory and of the leaves that exist.
    pub(crate) fn bytes(&self) -> usize {
        let leaves = self.directory.iter().filter(|leaf| !leaf.load(Ordering::Acquire).is_null());
        size_of_val(&*self.directory) + (leaves.count() << self.leaf_bits) * size_of::<T>()
    }
}

impl<T> Drop for Sparse<T> {
    fn drop(&mut self) {
        for leaf in self.directory.iter() {
            // Relaxed: whoever has the only reference knows of all that happened before.
            if let Some(start) = NonNull::new(leaf.load(Ordering::Relaxed)) {
                // SAFETY: the pointer came from `into_raw` of an array of that length, and nobody uses it after this.
                drop(unsafe { Array::<T>::from_raw(start, 1 << self.leaf_bits) });
            }
        }
    }
}

impl<T> fmt::Debug for Sparse<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sparse({})", self.len)
    }
}
