//! The readers' side of a registry.
#![expect(unsafe_code, reason = "what a guard protects is used through a pointer")]

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use super::shared::Shared;
use crate::protection::{Counters, Protection};
use crate::{Address, AddressIndex, Owner, OwnerId};

/// Finds and pins the owners of a [`Registry`](super::Registry), in any context: no lock, no allocation, no
/// thread-local storage, no panic. To make, clone or drop a reader is for ordinary contexts; a signal handler finds one
/// in a static `OnceLock`.
pub struct Reader<T, P: Protection = Counters> {
    shared: Arc<Shared<T, P>>,
}

impl<T, P: Protection> Reader<T, P> {
    pub(super) fn new(shared: &Arc<Shared<T, P>>) -> Reader<T, P> {
        Reader { shared: Arc::clone(shared) }
    }

    /// Pins the owner with that id: it stays until the result is dropped. `None` if it was never published, or is
    /// being removed, or has gone.
    ///
    /// An id that was kept from earlier is told from its slot's later owners by its generation. Generations come round
    /// after many thousand owners in the same slot; who looks an address up and pins what was found does better with
    /// [`Reader::pin_at`].
    #[inline]
    pub fn pin(&self, id: OwnerId) -> Option<Pinned<'_, T, P>> {
        let guard = self.shared.protection.enter();
        // SAFETY: the guard was there before, and the pin keeps both.
        let value = NonNull::from(unsafe { self.shared.value(id) }?);
        Some(Pinned { value, _guard: guard, _borrow: PhantomData })
    }

    /// Pins the owner of `address`. An id that the index has now is its owner's until the pin is dropped, however often
    /// slots were used again, if the ranges of an owner leave the index before it is freed: see
    /// [`Registry::remove`](super::Registry::remove).
    #[inline]
    pub fn pin_at<A: Address>(
        &self,
        index: &impl AddressIndex<A>,
        address: A,
    ) -> Option<(Pinned<'_, T, P>, Owner)> {
        let guard = self.shared.protection.enter();
        let owner = index.find(address)?;
        // SAFETY: the guard was there before, and the pin keeps both.
        let value = NonNull::from(unsafe { self.shared.value(owner.id()) }?);
        Some((Pinned { value, _guard: guard, _borrow: PhantomData }, owner))
    }

    /// Enters once, to look for several: all that is found stays until the result is dropped. It is for a walk along a
    /// stack, say.
    #[inline]
    pub fn enter(&self) -> Entered<'_, T, P> {
        Entered { reader: self, _guard: self.shared.protection.enter() }
    }

    /// The protection of this registry.
    pub fn protection(&self) -> &P {
        &self.shared.protection
    }
}

impl<T, P: Protection> Clone for Reader<T, P> {
    fn clone(&self) -> Reader<T, P> {
        Reader::new(&self.shared)
    }
}

impl<T, P: Protection> fmt::Debug for Reader<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

/// An owner that stays as long as this lives.
pub struct Pinned<'r, T, P: Protection + 'r> {
    /// Valid while the guard lives. A reference would claim to be valid until the whole pin has been dropped, and the
    /// owner may go when the guard has.
    value: NonNull<T>,
    _guard: P::Guard<'r>,
    _borrow: PhantomData<&'r T>,
}

// SAFETY: it is a shared reference and a guard.
unsafe impl<'r, T: Sync, P: Protection + 'r> Send for Pinned<'r, T, P> where P::Guard<'r>: Send {}
// SAFETY: as above.
unsafe impl<'r, T: Sync, P: Protection + 'r> Sync for Pinned<'r, T, P> where P::Guard<'r>: Sync {}

impl<'r, T, P: Protection + 'r> Deref for Pinned<'r, T, P> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: it was found under the guard, which lives at least as long as the result is borrowed.
        unsafe { self.value.as_ref() }
    }
}

impl<'r, T: fmt::Debug, P: Protection + 'r> fmt::Debug for Pinned<'r, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A reader that has entered: what it finds stays as long as this lives.
pub struct Entered<'r, T, P: Protection> {
    reader: &'r Reader<T, P>,
    _guard: P::Guard<'r>,
}

impl<T, P: Protection> Entered<'_, T, P> {
    /// The owner with that id, as [`Reader::pin`] finds it.
    #[inline]
    pub fn get(&self, id: OwnerId) -> Option<&T> {
        // SAFETY: the guard was there before, and the result borrows what has it.
        unsafe { self.reader.shared.value(id) }
    }

    /// The owner of `address`, as [`Reader::pin_at`] finds it.
    #[inline]
    pub fn find<A: Address>(&self, index: &impl AddressIndex<A>, address: A) -> Option<(&T, Owner)> {
        let owner = index.find(address)?;
        Some((self.get(owner.id())?, owner))
    }
}

impl<T, P: Protection> fmt::Debug for Entered<'_, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entered")
    }
}
