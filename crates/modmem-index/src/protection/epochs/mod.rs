//! Readers that store to memory of their own, and a writer that makes all threads pass a barrier.
//!
//! Counters cost a reader two atomic additions. A thread that is registered has a word of its own instead, which nobody
//! else writes: it enters and leaves by plain stores. What is missing then is the fence between "I am here" and the
//! first look. The writer has membarrier(2) put it into every thread when it needs it, which is seldom.
//!
//! # Why it is right
//!
//! A writer hides an object, calls membarrier, and waits for each slot in which it then sees a guard. The system call
//! (PRIVATE_EXPEDITED) returns after each thread of the process that runs has executed a full barrier at some point
//! of its program; a thread that does not run passes one when it is switched to. Let a reader store its word and then
//! look, in that order for the compiler too.
//!
//! * If the barrier hits the reader before it looks, all its looks see what the writer did before the call: it does not
//!   find the object.
//! * If the barrier hits it after a look, then after the store as well, which the writer sees when the call has
//!   returned: it waits until the count of that word is zero or the turn is another, which both mean that the guard
//!   is gone, and both are stored with release and loaded with acquire.
//!
//! Nothing else is shared among readers and writer, and there are no halves: a writer waits for the guards that it sees
//! at the beginning, each in its own slot, and not for those that come later.
//!
//! Loom knows no membarrier. The models put a fence in its place, on both sides; that the system call does as much is
//! what the kernel's documentation says and is not modelled.

mod slot;
mod system;

use core::fmt;
use core::marker::PhantomData;

use super::{CounterGuard, Counters, Protection};
use crate::memory::{Array, OutOfMemory};
use crate::sync::{AtomicUsize, Ordering, spin_loop};

/// Slots that one thread may have: their keys share a cache line.
#[cfg(not(loom))]
const BUCKET: usize = 8;
#[cfg(loom)]
const BUCKET: usize = 2;

/// Words from one slot to the next: one of 64 bytes in each cache line.
#[cfg(not(loom))]
const STRIDE: usize = 64 / size_of::<usize>();
#[cfg(loom)]
const STRIDE: usize = 1;

/// Protection by epochs: a thread that has [registered](Epochs::register) enters and leaves by plain stores to a word
/// of its own. Threads that have not, or for which there was no slot, are counted as [`Counters`] do.
///
/// A writer waits for a system call of a few microseconds, and looks at all slots.
///
/// A signal handler may enter, on a thread in whatever state. It drops the guards that it took before it returns.
///
/// # Examples
/// ```
/// use modmem_index::protection::{Epochs, EpochsError, Protection};
///
/// let epochs = match Epochs::new(16) {
///     Ok(epochs) => epochs.with_relax(std::thread::yield_now),
///     Err(EpochsError::Unsupported) => return, // A sandbox without membarrier(2): use Counters.
///     Err(error) => panic!("{error}"),
/// };
/// std::thread::scope(|threads| {
///     threads.spawn(|| {
///         let _registration = epochs.register();
///         let guard = epochs.enter();
///         // Whatever is found now stays until the guard is dropped.
///         drop(guard);
///     });
///     epochs.synchronize();
/// });
/// ```
pub struct Epochs {
    /// For each slot its thread, or zero. Only that thread writes, except to take a slot that has none.
    keys: Array<AtomicUsize>,
    /// For each slot a word, `STRIDE` apart.
    words: Array<AtomicUsize>,
    /// Readers without a slot.
    others: Counters,
    relax: fn(),
}

/// Why there are no epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EpochsError {
    /// This kernel, or this sandbox, has no membarrier(2) with private expedited barriers.
    Unsupported,
    /// No memory for the slots.
    OutOfMemory,
}

impl fmt::Display for EpochsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EpochsError::Unsupported => "the kernel refuses membarrier(2)",
            EpochsError::OutOfMemory => "no memory for the slots of the threads",
        })
    }
}

impl core::error::Error for EpochsError {}

impl From<OutOfMemory> for EpochsError {
    fn from(_: OutOfMemory) -> EpochsError {
        EpochsError::OutOfMemory
    }
}

impl Epochs {
    /// Epochs for about that many threads at a time, at 144 bytes each.
    ///
    /// # Errors
    /// See [`EpochsError`].
    pub fn new(threads: usize) -> Result<Epochs, EpochsError> {
        if !system::prepare() {
            return Err(EpochsError::Unsupported);
        }
        // Twice as many slots, since a thread can have those of one bucket only.
        let slots =
            threads.max(BUCKET / 2).checked_next_power_of_two().and_then(|threads| threads.checked_mul(2));
        let slots = slots.ok_or(OutOfMemory)?;
        let words = slots.checked_mul(STRIDE).ok_or(OutOfMemory)?;
        Ok(Epochs {
            keys: Array::zeroed(slots)?,
            words: Array::zeroed(words)?,
            others: Counters::new(),
            relax: spin_loop,
        })
    }

    /// What a writer does again and again while it waits; at first [`core::hint::spin_loop`]. A process whose readers
    /// may lose the processor passes `std::thread::yield_now`.
    #[must_use]
    pub fn with_relax(self, relax: fn()) -> Epochs {
        Epochs { relax, others: self.others.with_relax(relax), ..self }
    }

    /// Gives this thread a slot for as long as the registration lives. `None` if the thread has one already, or if
    /// there is none left: it can read nevertheless, as slowly as with [`Counters`]. Not for signal handlers.
    pub fn register(&self) -> Option<Registration<'_>> {
        let thread = system::this_thread();
        if self.slot_of(thread).is_some() {
            return None;
        }
        let home = self.home(thread);
        for key in self.keys.get(home).into_iter().chain(self.bucket(home)?) {
            // Acquire: pairs with the release in the drop of the registration that had the slot before, whose thread's
            // last store to the word has to be seen by this thread.
            if key.compare_exchange(0, thread, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Some(Registration { epochs: self, key, _thread: PhantomData });
            }
        }
        None
    }

    /// The slot that a thread should have.
    #[inline]
    fn home(&self, thread: usize) -> usize {
        // Threads' addresses are multiples of large powers of two: an odd factor spreads them over the high bits.
        let hash = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> (usize::BITS / 2);
        // The number of slots is a power of two.
        hash & (self.keys.len() - 1)
    }

    /// The keys of all slots that a thread may have.
    fn bucket(&self, home: usize) -> Option<&[AtomicUsize]> {
        self.keys.chunks_exact(BUCKET).nth(home / BUCKET)
    }

    /// The word of a thread; for that thread.
    #[inline]
    fn slot_of(&self, thread: usize) -> Option<&AtomicUsize> {
        let home = self.home(thread);
        // Relaxed: a key that is this thread's was written by this thread.
        if self.keys.get(home)?.load(Ordering::Relaxed) == thread {
            return self.words.get(home * STRIDE);
        }
        self.slot_away_from_home(thread, home)
    }

    #[cold]
    fn slot_away_from_home(&self, thread: usize, home: usize) -> Option<&AtomicUsize> {
        // Relaxed: as above.
        let place = self.bucket(home)?.iter().position(|key| key.load(Ordering::Relaxed) == thread)?;
        self.words.get((home / BUCKET * BUCKET + place) * STRIDE)
    }
}

#[expect(unsafe_code, reason = "the trait is unsafe")]
// SAFETY: see the text at the top of the file; readers without a slot are waited for by `Counters`.
unsafe impl Protection for Epochs {
    type Guard<'p> = EpochGuard<'p>;

    #[inline]
    fn enter(&self) -> EpochGuard<'_> {
        let place = match self.slot_of(system::this_thread()) {
            Some(word) => {
                slot::enter(word);
                // Pairs with the barrier in `synchronize`.
                system::light_barrier();
                Place::Slot(word)
            }
            None => Place::Others(self.others.enter()),
        };
        EpochGuard { place, _thread: PhantomData }
    }

    fn synchronize(&self) {
        // Pairs with the light barrier in `enter`.
        system::barrier();
        for word in self.words.iter().step_by(STRIDE) {
            slot::wait(word, self.relax);
        }
        self.others.synchronize();
    }
}

/// While it lives, its thread has a slot of [`Epochs`].
#[must_use]
#[derive(Debug)]
pub struct Registration<'e> {
    epochs: &'e Epochs,
    key: &'e AtomicUsize,
    /// It is about the thread that it was made on.
    _thread: PhantomData<*const ()>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let word = self.epochs.slot_of(system::this_thread());
        if word.is_some_and(slot::in_use) {
            // A guard will write to the word when it is dropped. The slot stays this thread's, and is used by it again,
            // or by a thread that is given the same number when this one has ended.
            return;
        }
        // Release: pairs with the acquire in `register`.
        self.key.store(0, Ordering::Release);
    }
}

/// While it lives, a reader of [`Epochs`] uses something. It stays on its thread.
#[must_use]
pub struct EpochGuard<'p> {
    place: Place<'p>,
    /// The word is its thread's own.
    _thread: PhantomData<*const ()>,
}

/// Where a guard is counted.
enum Place<'p> {
    Slot(&'p AtomicUsize),
    Others(#[expect(dead_code, reason = "its drop is what it is for")] CounterGuard<'p>),
}

impl Drop for EpochGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Place::Slot(word) = self.place {
            slot::leave(word);
        }
    }
}

impl fmt::Debug for EpochGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochGuard")
    }
}

impl fmt::Debug for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.keys.iter().filter(|key| key.load(Ordering::Relaxed) != 0).count();
        f.debug_struct("Epochs")
            .field("slots", &self.keys.len())
            .field("registered", &taken)
            .field("others", &self.others)
            .finish_non_exhaustive()
    }
}
