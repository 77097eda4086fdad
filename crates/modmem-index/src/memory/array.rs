//! A zeroed array: allocated fallibly, all at once, touched by nobody until it is used.
//!
//! Large arrays that an allocator takes fresh from the operating system cost address space only, until a page of them
//! is first written. That is so where no alignment is asked for: of memory that is aligned specially, std's allocators
//! write every byte.
#![expect(unsafe_code, reason = "there is no safe fallible allocation of zeroed memory")]

use core::fmt;
use core::hint::select_unpredictable;
use core::ops::Deref;
use core::ptr::NonNull;

use super::OutOfMemory;
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize};

/// Types whose all-zero bytes are what [`Default`] gives.
///
/// # Safety
/// `Self` is valid when all of its bytes are zero, and needs no drop.
pub(crate) unsafe trait Zeroable: Default {}

// SAFETY: an integer; nothing to drop.
unsafe impl Zeroable for AtomicU32 {}
// SAFETY: an integer; nothing to drop.
unsafe impl Zeroable for AtomicUsize {}
#[cfg(target_has_atomic = "64")]
// SAFETY: an integer; nothing to drop.
unsafe impl Zeroable for crate::sync::AtomicU64 {}
// SAFETY: a null pointer is all zero; what is pointed to is not owned.
unsafe impl<T> Zeroable for AtomicPtr<T> {}

/// An array of `T`, zero at first.
pub(crate) struct Array<T, const ALIGNMENT: usize = 1> {
    /// The memory: ours alone, aligned to `ALIGNMENT` at least.
    start: NonNull<T>,
    len: usize,
}

// SAFETY: an Array is an owned slice; what may be sent or shared is decided by its elements.
unsafe impl<T: Send, const ALIGNMENT: usize> Send for Array<T, ALIGNMENT> {}
// SAFETY: as above.
unsafe impl<T: Sync, const ALIGNMENT: usize> Sync for Array<T, ALIGNMENT> {}

impl<T: Zeroable, const ALIGNMENT: usize> Array<T, ALIGNMENT> {
    pub(crate) fn zeroed(len: usize) -> Result<Array<T, ALIGNMENT>, OutOfMemory> {
        if len == 0 {
            return Ok(Array { start: NonNull::dangling(), len: 0 });
        }
        let layout = Self::layout(len).ok_or(OutOfMemory)?;
        // SAFETY: the layout's size is not zero: neither the length nor the size of an atomic is.
        let start = unsafe { alloc::alloc::alloc_zeroed(layout) };
        let start = NonNull::new(start.cast::<T>()).ok_or(OutOfMemory)?;
        #[cfg(loom)]
        for index in 0..len {
            // SAFETY: `index` is below the length that was allocated.
            let element = unsafe { start.add(index) };
            // SAFETY: the element is ours and holds nothing yet: loom's atomics are no plain integers.
            unsafe { element.write(T::default()) };
        }
        Ok(Array { start, len })
    }
}

impl<T, const ALIGNMENT: usize> Array<T, ALIGNMENT> {
    /// Size and alignment of an array.
    fn layout(len: usize) -> Option<core::alloc::Layout> {
        core::alloc::Layout::array::<T>(len).ok()?.align_to(ALIGNMENT).ok()
    }

    /// The one array or the other, without a branch, and without a load that waits for the choice.
    #[inline]
    pub(crate) fn either<'a>(first: bool, a: &'a Self, b: &'a Self) -> &'a [T] {
        // As volatile reads these stay before the choice; the compiler would rather choose an array and then read, which
        // makes every look-up wait for one more load.
        // SAFETY: it is a valid field that nobody writes.
        let of_a = unsafe { (&raw const a.start).read_volatile() };
        // SAFETY: as above.
        let of_b = unsafe { (&raw const b.start).read_volatile() };
        let start = select_unpredictable(first, of_a, of_b);
        let len = select_unpredictable(first, a.len, b.len);
        // SAFETY: as in `deref`; pointer and length are those of the same array.
        unsafe { core::slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// Gives up the array: whoever has the pair gives it back to [`Array::from_raw`].
    pub(crate) fn into_raw(self) -> (NonNull<T>, usize) {
        let array = core::mem::ManuallyDrop::new(self);
        (array.start, array.len)
    }

    /// The array that [`Array::into_raw`] gave up.
    ///
    /// # Safety
    /// The pair came from `into_raw` and is not used again.
    pub(crate) unsafe fn from_raw(start: NonNull<T>, len: usize) -> Array<T, ALIGNMENT> {
        Array { start, len }
    }
}

impl<T, const ALIGNMENT: usize> Deref for Array<T, ALIGNMENT> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `start` and `len` are those of one allocation of valid elements (all zero, which Zeroable says is
        // valid), or dangling and 0; it lives until drop, and is only ever borrowed shared.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T, const ALIGNMENT: usize> Drop for Array<T, ALIGNMENT> {
    fn drop(&mut self) {
        let Some(layout) = Self::layout(self.len).filter(|_| self.len > 0) else { return };
        #[cfg(loom)]
        for index in 0..self.len {
            // SAFETY: `index` is below the length that was allocated.
            let element = unsafe { self.start.add(index) };
            // SAFETY: the element is valid, and this is the last that anybody does with it.
            unsafe { element.drop_in_place() };
        }
        // SAFETY: allocated in `zeroed` with this very layout, which depends on the length alone, and not freed since.
        unsafe { alloc::alloc::dealloc(self.start.as_ptr().cast(), layout) };
    }
}

impl<T, const ALIGNMENT: usize> fmt::Debug for Array<T, ALIGNMENT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array({})", self.len)
    }
}
