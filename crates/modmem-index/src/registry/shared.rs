//! What the writer and the readers of a registry have in common: a table from slots to owners.
#![expect(unsafe_code, reason = "owners are published, and freed, through atomic pointers")]

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use super::ids::Ids;
use crate::OwnerId;
use crate::memory::{OutOfMemory, Segments};
use crate::sync::{AtomicPtr, Ordering, WriterLock};

/// The table, the protection of its readers, and the ids that are free.
#[derive(Debug)]
pub(super) struct Shared<T, P> {
    /// For each slot null, or an entry that came from `Box::into_raw` and that only the writer frees, after hiding it
    /// here and waiting for the protection.
    slots: Segments<AtomicPtr<Entry<T>>>,
    slot_bits: u32,
    /// Locked by the writer, and by reservations that are dropped.
    pub(super) ids: WriterLock<Ids>,
    pub(super) protection: P,
    /// An atomic pointer may be sent whatever it points to. Here it may if readers on other threads may have a `&T`,
    /// and if the writer's thread may drop what another one published.
    _owners: PhantomData<T>,
}

/// An owner as it is published.
#[derive(Debug)]
pub(super) struct Entry<T> {
    id: OwnerId,
    /// Links what is hidden when the whole registry goes.
    next: AtomicPtr<Entry<T>>,
    value: T,
}

/// Memory for an entry.
pub(super) type Room<T> = Box<MaybeUninit<Entry<T>>>;

/// Memory for an entry, if there is any.
pub(super) fn room<T>() -> Result<Room<T>, OutOfMemory> {
    let layout = core::alloc::Layout::new::<Entry<T>>();
    // SAFETY: the layout's size is not zero: an entry has an id.
    let start = unsafe { alloc::alloc::alloc(layout) };
    let start = NonNull::new(start.cast::<MaybeUninit<Entry<T>>>()).ok_or(OutOfMemory)?;
    // SAFETY: the global allocator gave this memory for this layout just now, which is what a Box has; uninitialised
    // memory is valid for MaybeUninit.
    Ok(unsafe { Box::from_raw(start.as_ptr()) })
}

impl<T, P> Shared<T, P> {
    /// `slot_bits` is at most [`OwnerId::BITS`].
    pub(super) fn new(protection: P, slot_bits: u32) -> Shared<T, P> {
        Shared {
            slots: Segments::new(),
            slot_bits,
            ids: WriterLock::new(Ids::new(slot_bits)),
            protection,
            _owners: PhantomData,
        }
    }

    /// The slot of an id.
    #[inline]
    pub(super) fn slot(&self, id: OwnerId) -> u32 {
        id.number() & ((1 << self.slot_bits) - 1)
    }

    /// Makes sure that a slot exists. One writer at a time.
    pub(super) fn grow(&self, slot: u32) -> Result<(), OutOfMemory> {
        self.slots.grow(slot)
    }

    /// Shows an owner in its slot, which is its alone and exists.
    pub(super) fn show(&self, id: OwnerId, room: Room<T>, value: T) {
        let Some(slot) = self.slots.get(self.slot(id)) else { return };
        let entry = Box::write(room, Entry { id, next: AtomicPtr::new(ptr::null_mut()), value });
        // Release: pairs with the acquire in `entry`; who finds the entry finds it written.
        slot.store(Box::into_raw(entry), Ordering::Release);
    }

    /// The id and the value of whoever is in that slot.
    ///
    /// # Safety
    /// Either the caller entered the protection before, and uses the result while it has that guard; or it borrows the
    /// writer for as long as it uses the result.
    #[inline]
    pub(super) unsafe fn entry(&self, slot: u32) -> Option<(OwnerId, &T)> {
        // Acquire: pairs with the release in `show`.
        let entry = NonNull::new(self.slots.get(slot)?.load(Ordering::Acquire))?;
        // SAFETY: entries in the table are valid, and are freed only by the writer, after it has hidden them here and
        // waited. If the caller is the writer, it does not do that now. If not, the caller's guard was there before
        // the load, so that the writer, if it had hidden the entry and did not wait for that guard, would have been
        // seen to have hidden it; this is what Protection promises.
        let entry = unsafe { entry.as_ref() };
        Some((entry.id, &entry.value))
    }

    /// The value of the owner with that id.
    ///
    /// # Safety
    /// As for [`Shared::entry`].
    #[inline]
    pub(super) unsafe fn value(&self, id: OwnerId) -> Option<&T> {
        // SAFETY: the caller's promise is the same.
        let (found, value) = unsafe { self.entry(self.slot(id)) }?;
        (found == id).then_some(value)
    }

    /// Hides the owner with that id from all who look from now on. Only for the writer, who has to borrow itself
    /// mutably for as long as it has the result.
    pub(super) fn hide(&self, id: OwnerId) -> Option<Hidden<'_, T>> {
        let slot = self.slots.get(self.slot(id))?;
        // SAFETY: this is the writer, and the result is not used beyond this line.
        unsafe { self.value(id) }?;
        // Relaxed: the writer reads what it wrote itself.
        let entry = NonNull::new(slot.load(Ordering::Relaxed))?;
        // Relaxed: readers who must see it see it by what `synchronize` promises.
        slot.store(ptr::null_mut(), Ordering::Relaxed);
        Some(Hidden { slot, entry })
    }

    /// Hides all owners at once. As `hide`, it is for the writer.
    pub(super) fn hide_all(&self, slots: u32) -> HiddenList<T> {
        let mut list = HiddenList { first: ptr::null_mut() };
        for slot in (0..slots).filter_map(|slot| self.slots.get(slot)) {
            // Relaxed, all: as in `hide`.
            let Some(entry) = NonNull::new(slot.load(Ordering::Relaxed)) else { continue };
            slot.store(ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: entries in the table are valid, and this is the writer, who frees them.
            unsafe { entry.as_ref() }.next.store(list.first, Ordering::Relaxed);
            list.first = entry.as_ptr();
        }
        list
    }
}

/// An owner that is hidden and may still be in use. It is shown again unless it is taken.
pub(super) struct Hidden<'s, T> {
    slot: &'s AtomicPtr<Entry<T>>,
    /// Came out of the slot; nobody else frees it.
    entry: NonNull<Entry<T>>,
}

impl<T> Hidden<'_, T> {
    pub(super) fn value(&self) -> &T {
        // SAFETY: the entry is valid until it is freed by `take`, which consumes this.
        unsafe { &self.entry.as_ref().value }
    }

    /// Frees the entry and keeps the value.
    ///
    /// # Safety
    /// The protection was waited for since the owner was hidden.
    pub(super) unsafe fn take(self) -> T {
        let entry = core::mem::ManuallyDrop::new(self).entry;
        // SAFETY: it came from `Box::into_raw` and is in the table no more; no reader that looked before it was hidden
        // is still there, as the caller says, and none that came later found it.
        let entry = unsafe { Box::from_raw(entry.as_ptr()) };
        entry.value
    }
}

impl<T> Drop for Hidden<'_, T> {
    /// What the writer did while the owner was hidden has panicked: the owner stays.
    fn drop(&mut self) {
        // Release: as in `show`.
        self.slot.store(self.entry.as_ptr(), Ordering::Release);
    }
}

/// Owners that are hidden and may still be in use. They are never freed unless by [`HiddenList::free`].
#[must_use]
pub(super) struct HiddenList<T> {
    first: *mut Entry<T>,
}

impl<T> HiddenList<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Drops the owners.
    ///
    /// # Safety
    /// The protection was waited for since the owners were hidden.
    pub(super) unsafe fn free(self) {
        let mut next = self.first;
        while let Some(entry) = NonNull::new(next) {
            // SAFETY: as in `take`; each is in the list once.
            let entry = unsafe { Box::from_raw(entry.as_ptr()) };
            next = entry.next.load(Ordering::Relaxed);
        }
    }
}
