//! Owners by id: published for readers, pinned while they are used, freed when nobody does.
//!
//! An index answers with an id. The registry says what the id stands for. There is one writer, the [`Registry`], and
//! as many [`Reader`]s as you like. Unloading takes three steps, all in [`Registry::remove`]: the owner is hidden; the
//! writer waits until the readers that may have found it are done, by the registry's
//! [protection](crate::protection::Protection); the owner is freed.

mod ids;
mod reader;
mod shared;

use alloc::sync::Arc;
use core::fmt;

pub use reader::{Entered, Pinned, Reader};

use self::shared::{Room, Shared};
use crate::OwnerId;
use crate::memory::OutOfMemory;
use crate::protection::{Counters, Protection};

/// Why there is no place for another owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryError {
    /// No memory for another owner.
    OutOfMemory,
    /// All slots have owners.
    Full,
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RegistryError::OutOfMemory => "no memory for another owner",
            RegistryError::Full => "all slots of the registry have owners",
        })
    }
}

impl core::error::Error for RegistryError {}

impl From<OutOfMemory> for RegistryError {
    fn from(_: OutOfMemory) -> RegistryError {
        RegistryError::OutOfMemory
    }
}

/// The owners, for the one who loads and unloads them.
///
/// Dropping it hides all owners, waits for all readers, and drops the owners; a [`Reader`] that outlives it finds
/// nobody. Neither that nor [`remove`](Registry::remove) returns while this very thread has a pin.
///
/// A registry and its readers can be sent to other threads if `T` is `Send` and `Sync`: readers on several threads have
/// a `&T` at once, and the writer drops what it may have been given on another thread.
///
/// # Examples
/// ```
/// use modmem_index::Registry;
/// use modmem_index::protection::Counters;
///
/// let mut registry = Registry::new(Counters::new().with_relax(std::thread::yield_now));
/// let reader = registry.reader();
/// let place = registry.reserve()?;
/// // Whatever can fail, and ranges that go into an index under `place.id()`, before anybody sees the owner.
/// let id = registry.publish(place, String::from("nf_tables"));
///
/// std::thread::scope(|threads| {
///     threads.spawn(|| {
///         // The module stays as long as the pin lives. Which comes first, this or `remove`, nobody knows.
///         if let Some(module) = reader.pin(id) {
///             assert_eq!(*module, "nf_tables");
///         }
///     });
///     let module = registry.remove(id, |_| { /* take its ranges out of the index */ });
///     assert_eq!(module.as_deref(), Some("nf_tables"));
/// });
/// assert!(reader.pin(id).is_none());
/// # Ok::<(), modmem_index::RegistryError>(())
/// ```
pub struct Registry<T, P: Protection = Counters> {
    shared: Arc<Shared<T, P>>,
    /// How many owners are published.
    len: usize,
}

impl<T, P: Protection> Registry<T, P> {
    /// Bits of a slot's number, unless you say otherwise: 32,768 owners at a time, and 4,096 generations of each slot.
    pub const SLOT_BITS: u32 = 15;

    /// An empty registry.
    pub fn new(protection: P) -> Registry<T, P> {
        Registry { shared: Arc::new(Shared::new(protection, Self::SLOT_BITS)), len: 0 }
    }

    /// An empty registry for up to 2 to the power of `slot_bits` owners at a time. What is left of an id's
    /// [27 bits](OwnerId::BITS) tells the owners apart that had the same slot. `None` if there are not so many bits.
    pub fn with_slot_bits(protection: P, slot_bits: u32) -> Option<Registry<T, P>> {
        let shared = || Arc::new(Shared::new(protection, slot_bits));
        (slot_bits <= OwnerId::BITS).then(|| Registry { shared: shared(), len: 0 })
    }

    /// A reader, to be cloned and given away.
    pub fn reader(&self) -> Reader<T, P> {
        Reader::new(&self.shared)
    }

    /// Finds an id and memory for another owner, whom nobody sees yet.
    ///
    /// # Errors
    /// See [`RegistryError`]; nothing has changed.
    pub fn reserve(&mut self) -> Result<Reservation<T, P>, RegistryError> {
        let room = shared::room()?;
        let id = self.shared.ids.lock().take(|slot| self.shared.grow(slot))?;
        Ok(Reservation { shared: Arc::clone(&self.shared), id, room: Some(room) })
    }

    /// Shows an owner to all readers. It needs no memory and cannot fail.
    ///
    /// # Panics
    /// If the reservation is another registry's.
    pub fn publish(&mut self, mut reservation: Reservation<T, P>, value: T) -> OwnerId {
        assert!(Arc::ptr_eq(&self.shared, &reservation.shared), "the reservation is another registry's");
        let id = reservation.id;
        if let Some(room) = reservation.room.take() {
            self.shared.show(id, room, value);
            self.len += 1;
        }
        id
    }

    /// Hides the owner with that id, calls `hidden`, waits until no reader uses the owner, and gives it back. `None` if
    /// there is none of that id.
    ///
    /// Take the owner's ranges out of the index in `hidden`: then an id that a reader finds in the index, having
    /// entered before, cannot come to mean somebody else while it looks.
    ///
    /// If `hidden` panics, or the protection does, the owner is shown again and stays.
    pub fn remove(&mut self, id: OwnerId, hidden: impl FnOnce(&T)) -> Option<T> {
        let owner = self.shared.hide(id)?;
        hidden(owner.value());
        self.shared.protection.synchronize();
        #[expect(unsafe_code, reason = "this is where an owner is freed")]
        // SAFETY: the protection was waited for in the line above.
        let value = unsafe { owner.take() };
        self.shared.ids.lock().give_back(id);
        self.len -= 1;
        Some(value)
    }

    /// The owner with that id. It needs no pin: to remove an owner takes a mutable borrow of the registry.
    pub fn get(&self, id: OwnerId) -> Option<&T> {
        #[expect(unsafe_code, reason = "owners are freed by `remove` and `drop` alone")]
        // SAFETY: the result borrows the writer.
        unsafe {
            self.shared.value(id)
        }
    }

    /// All owners with their ids, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (OwnerId, &T)> {
        let slots = self.shared.ids.lock().made();
        (0..slots).filter_map(|slot| {
            #[expect(unsafe_code, reason = "owners are freed by `remove` and `drop` alone")]
            // SAFETY: the result borrows the writer.
            unsafe {
                self.shared.entry(slot)
            }
        })
    }

    /// How many owners there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot of an id: a small number that no other owner has at the same time, for tables beside this one.
    pub fn slot(&self, id: OwnerId) -> u32 {
        self.shared.slot(id)
    }

    /// Waits until all readers that are using something now are done: for what was hidden in other places than here,
    /// as in a [`Retirable`](crate::Retirable).
    pub fn synchronize(&self) {
        self.shared.protection.synchronize();
    }

    /// The protection of this registry.
    pub fn protection(&self) -> &P {
        &self.shared.protection
    }
}

impl<T, P: Protection> Drop for Registry<T, P> {
    fn drop(&mut self) {
        let slots = self.shared.ids.lock().made();
        let hidden = self.shared.hide_all(slots);
        if !hidden.is_empty() {
            self.shared.protection.synchronize();
            #[expect(unsafe_code, reason = "this is where owners are freed")]
            // SAFETY: the protection was waited for in the line above.
            unsafe {
                hidden.free();
            }
        }
    }
}

impl<T, P: Protection> fmt::Debug for Registry<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("len", &self.len).finish_non_exhaustive()
    }
}

/// An id and memory for an owner. If it is dropped, both are given back.
pub struct Reservation<T, P: Protection = Counters> {
    shared: Arc<Shared<T, P>>,
    id: OwnerId,
    /// None once it is used.
    room: Option<Room<T>>,
}

impl<T, P: Protection> Reservation<T, P> {
    /// The id that the owner will have.
    pub fn id(&self) -> OwnerId {
        self.id
    }
}

impl<T, P: Protection> Drop for Reservation<T, P> {
    fn drop(&mut self) {
        if self.room.is_some() {
            self.shared.ids.lock().give_back(self.id);
        }
    }
}

impl<T, P: Protection> fmt::Debug for Reservation<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("id", &self.id).finish_non_exhaustive()
    }
}
