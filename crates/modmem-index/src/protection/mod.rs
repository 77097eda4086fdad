//! Keeping what was found alive while it is used.
//!
//! To look an address up needs no protection: the answer is a number. To *use* the owner while another thread unloads
//! it needs an agreement, which is [`Protection`]: a reader enters before it looks and leaves when it is done; a writer
//! hides what it unloads, waits for the readers, and frees.
//!
//! | protection | take it when |
//! |---|---|
//! | your own | you have RCU, or readers that cannot be preempted: implement [`Protection`], see its example |
//! | [`Counters`] | you have not: no registration, no thread-local storage, two atomic additions a use |
//! | [`Counters`] with `Rdpid` | many threads on many processors read at once, on x86-64 |
//! | `Epochs` | a Linux process whose threads read very often: plain stores instead of atomic additions |
//!
//! `Epochs` is there with the feature `membarrier`.

mod counters;
mod cpu;
#[cfg(all(feature = "membarrier", target_os = "linux"))]
mod epochs;
#[cfg(target_arch = "x86_64")]
mod rdpid;

use alloc::sync::Arc;

pub use counters::{CounterGuard, Counters};
pub use cpu::{CpuNumber, Plain};
#[cfg(all(feature = "membarrier", target_os = "linux"))]
pub use epochs::{EpochGuard, Epochs, EpochsError, Registration};
#[cfg(target_arch = "x86_64")]
pub use rdpid::Rdpid;

/// A way for readers to say "I am using something" and for a writer to wait until nobody uses what it has hidden.
///
/// A writer unloads in three steps: it hides the object, so that no reader that comes later finds it; it waits, by
/// [`synchronize`](Protection::synchronize); it frees. A reader enters before it looks, and holds the guard for as
/// long as it uses what it found. A guard that is forgotten instead of dropped makes the next writer wait for ever.
///
/// # Examples
/// A kernel that has RCU says so:
/// ```
/// # mod kernel { pub fn rcu_read_lock() {} pub fn rcu_read_unlock() {} pub fn synchronize_rcu() {} }
/// use modmem_index::protection::Protection;
/// use std::marker::PhantomData;
///
/// struct Rcu;
///
/// /// Ends the read-side critical section that `enter` began, and on the same processor: it cannot be sent.
/// struct ReadSide(PhantomData<*const ()>);
///
/// impl Drop for ReadSide {
///     fn drop(&mut self) {
///         kernel::rcu_read_unlock();
///     }
/// }
///
/// // SAFETY: synchronize_rcu returns when all read-side critical sections that had begun have ended, and orders
/// // memory on both sides as RCU promises; each guard is one such section.
/// unsafe impl Protection for Rcu {
///     type Guard<'p> = ReadSide;
///
///     fn enter(&self) -> ReadSide {
///         kernel::rcu_read_lock();
///         ReadSide(PhantomData)
///     }
///
///     fn synchronize(&self) {
///         kernel::synchronize_rcu();
///     }
/// }
///
/// let guard = Rcu.enter();
/// // Whatever is found now stays until the guard is dropped.
/// drop(guard);
/// Rcu.synchronize();
/// ```
///
/// # Safety
/// A call of `synchronize` returns only after every guard that [`enter`](Protection::enter) had returned before the
/// call was dropped. What happened before such a guard was dropped is visible to the caller of `synchronize` once that
/// has returned; and a reader whose guard is not waited for sees all that the caller did before it called
/// `synchronize`.
#[expect(unsafe_code, reason = "what readers use is freed on the word of an implementation")]
pub unsafe trait Protection {
    /// While it lives, its reader uses something.
    type Guard<'p>
    where
        Self: 'p;

    /// Begins to use something. Any context may call it, again while it holds a guard too; it never waits.
    fn enter(&self) -> Self::Guard<'_>;

    /// Waits until all guards that exist now are gone. Not for contexts that can interrupt a reader.
    fn synchronize(&self);
}

#[expect(unsafe_code, reason = "the trait is unsafe")]
// SAFETY: it is the same protection by another name.
unsafe impl<P: Protection> Protection for &P {
    type Guard<'p>
        = P::Guard<'p>
    where
        Self: 'p;

    #[inline]
    fn enter(&self) -> P::Guard<'_> {
        P::enter(self)
    }

    fn synchronize(&self) {
        P::synchronize(self);
    }
}

#[expect(unsafe_code, reason = "the trait is unsafe")]
// SAFETY: it is the same protection by another name.
unsafe impl<P: Protection> Protection for Arc<P> {
    type Guard<'p>
        = P::Guard<'p>
    where
        Self: 'p;

    #[inline]
    fn enter(&self) -> P::Guard<'_> {
        P::enter(self)
    }

    fn synchronize(&self) {
        P::synchronize(self);
    }
}
