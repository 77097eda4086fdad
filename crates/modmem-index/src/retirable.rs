//! A value that its owner gives up while readers may still look at it.
//!
//! A module's init memory goes when init has returned; the module stays, with readers that hold a reference to it. So
//! the value lies inline, and is given up in the three steps of all unloading: [`hide`](Retirable::hide) it, wait for
//! the readers (as [`Registry::synchronize`](crate::Registry::synchronize) does), [`free`](Retirable::free) it.
#![expect(unsafe_code, reason = "a value is dropped behind a shared reference")]

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;

use crate::sync::{AtomicU32, Ordering};

/// A bit of the state: `get` gives nobody the value.
const HIDDEN: u32 = 1;
/// A bit of the state: the value has been dropped.
const FREED: u32 = 2;

/// A value that can be hidden, and later dropped in place, while shared references to this exist.
///
/// # Examples
/// ```
/// use modmem_index::{Registry, Retirable};
/// use modmem_index::protection::Counters;
///
/// struct Module {
///     core: Vec<u8>,
///     init: Retirable<Vec<u8>>,
/// }
///
/// let mut registry = Registry::new(Counters::new());
/// let place = registry.reserve()?;
/// let id = registry.publish(place, Module { core: vec![1; 8], init: Retirable::new(vec![2; 8]) });
///
/// // Init has returned: hide, wait, free.
/// let module = registry.get(id).expect("published above");
/// module.init.hide();
/// registry.synchronize();
/// // SAFETY: readers reach the module by pins of this registry alone, which were waited for after hiding.
/// unsafe { module.init.free() };
/// assert!(module.init.get().is_none());
/// assert_eq!(module.core.len(), 8);
/// # Ok::<(), modmem_index::RegistryError>(())
/// ```
pub struct Retirable<T> {
    /// Initialised unless the state says that it is freed. Shared references to it are made only while the state is 0,
    /// and an exclusive one either through `&mut self` or by the one call of `free` that sets FREED.
    value: UnsafeCell<MaybeUninit<T>>,
    state: AtomicU32,
}

// SAFETY: what several threads get is a `&T`, so that T has to be Sync; and one of them may drop the value, so that it
// has to be Send. The state is atomic.
unsafe impl<T: Send + Sync> Sync for Retirable<T> {}

impl<T> Retirable<T> {
    /// A value that has not been given up.
    pub fn new(value: T) -> Retirable<T> {
        Retirable { value: UnsafeCell::new(MaybeUninit::new(value)), state: AtomicU32::new(0) }
    }

    /// The value, unless it is hidden. Any context may call it. Readers enter the protection before, and leave when
    /// they are done with the value.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Relaxed: the value was there before anybody had a reference to this; and that a reader who is not waited for
        // sees it hidden is what `synchronize` promises.
        if self.state.load(Ordering::Relaxed) != 0 {
            return None;
        }
        // SAFETY: the pointer is that of a live cell, and nobody has an exclusive reference to the value: `get_mut`
        // would need `self`, and `free` comes when those who saw 0 here are done, as its caller promises.
        let value = unsafe { &*self.value.get() };
        // SAFETY: it is not freed: FREED is never set alone.
        Some(unsafe { value.assume_init_ref() })
    }

    /// The value, unless it is hidden, for whoever has this alone.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // Relaxed: whoever has the only reference knows of all that happened before.
        if self.state.load(Ordering::Relaxed) != 0 {
            return None;
        }
        // SAFETY: it is not freed, or the state would not be 0.
        Some(unsafe { self.value.get_mut().assume_init_mut() })
    }

    /// Hides the value from all who look from now on. It can be called again.
    pub fn hide(&self) {
        // Relaxed: readers who must see it see it by what `synchronize` promises.
        self.state.fetch_or(HIDDEN, Ordering::Relaxed);
    }

    /// Drops the value, unless that has been done.
    ///
    /// # Safety
    /// The value was hidden, and after that all readers were waited for that can have had a reference to it: nobody
    /// uses what [`get`](Retirable::get) gave.
    pub unsafe fn free(&self) {
        // Acquire and release: of two callers one drops the value, after what the other knew of it.
        let state = self.state.fetch_or(HIDDEN | FREED, Ordering::AcqRel);
        if state & FREED != 0 {
            return;
        }
        // SAFETY: the pointer is that of a live cell. No reference to the value exists, as the caller says, and none
        // is made any more; nobody else comes here.
        let value = unsafe { &mut *self.value.get() };
        // SAFETY: it was not freed before.
        unsafe { value.assume_init_drop() };
    }
}

impl<T> Drop for Retirable<T> {
    fn drop(&mut self) {
        // Relaxed: as in `get_mut`.
        if self.state.load(Ordering::Relaxed) & FREED == 0 {
            // SAFETY: it is not freed, and this is the last that anybody does with it.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}

impl<T> fmt::Debug for Retirable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state.load(Ordering::Relaxed) {
            0 => "shown",
            HIDDEN => "hidden",
            _ => "freed",
        };
        write!(f, "Retirable({state})")
    }
}
