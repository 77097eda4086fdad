//! Counters of readers, as sleepable RCU has them: for whoever has no RCU of their own.
//!
//! A reader adds one to a counter when it enters and takes it back, from the same counter, when it leaves. There are
//! two counters, the *halves*: readers enter the one that is current. A writer waits until the other half is empty,
//! makes that one current, and waits until the first is empty: readers that keep coming cannot keep it waiting, since
//! they come to the half that it is not waiting for. Each stripe has its own two counters, so that readers on
//! different processors need not share a cache line.
//!
//! # Why it is right
//!
//! Let a reader enter: it adds to a counter, then passes the fence R, then looks. Let a writer hide an object, pass the
//! fence W at the beginning of `synchronize`, and then see every counter of every stripe and of both halves at zero,
//! each at some time or other. Fences have one order that all threads agree on.
//!
//! * If W comes before R, what the writer did before W is seen by what the reader does after R: the reader does not
//!   find the object.
//! * If R comes before W, each load of the reader's counter that the writer makes after W sees the counter as the
//!   reader's addition left it, or as it was later. It is zero again only after as many subtractions as there were
//!   additions, and a guard's subtraction comes after its addition: the reader has left. Its subtraction is a release,
//!   what others do to the counter afterwards are read-modify-writes, which continue the release sequence, and the load
//!   that sees zero is an acquire: all that the reader did happens before `synchronize` returns.
//!
//! Neither case asks which half or stripe the reader took, nor when it read which half is current: a reader that was
//! delayed between that and its addition, or that moves to another processor, is still counted in a counter that every
//! `synchronize` waits for. One change of halves a call is therefore enough. The halves are there for the writer's sake:
//! after the change each reader on its way can come at most once to the half that the writer waits for.
//!
//! A counter holds how many guards exist, not how often somebody entered, and so cannot wrap unless guards are
//! forgotten: more than half of `usize::MAX` of them are no longer in memory, and the writer has then to wait for ever
//! anyway. A reader that finds a count that high says so, and the writer does.

use core::fmt;

#[cfg(all(any(target_arch = "x86", target_arch = "x86_64"), not(loom), not(miri)))]
use core::sync::atomic::compiler_fence;

use super::{CpuNumber, Plain, Protection};
use crate::sync::{AtomicBool, AtomicUsize, Ordering, WriterLock, fence, spin_loop};

/// Protection by counters: no registration, no thread-local storage, no allocation. Readers are wait-free, may nest, may
/// be signal handlers, and may leave on another thread than they entered on.
///
/// `STRIPES` is how many processors can read without sharing a cache line; processors beyond that share. 128 bytes are
/// needed for each.
///
/// # Examples
/// ```
/// use modmem_index::protection::{Counters, Protection};
///
/// // A process gives its time away while it waits.
/// let counters = Counters::new().with_relax(std::thread::yield_now);
/// let guard = counters.enter();
/// // Whatever is found now stays until the guard is dropped.
/// drop(guard);
/// counters.synchronize();
/// ```
pub struct Counters<C: CpuNumber = Plain, const STRIPES: usize = 1> {
    stripes: [Stripe; STRIPES],
    cpu: C,
    /// The half that readers enter: its lowest bit.
    current: AtomicUsize,
    /// So many guards were forgotten that a counter may have wrapped.
    lost_count: AtomicBool,
    /// Writers wait one after another: else one could undo the other's change of halves, and both wait for readers that
    /// keep coming.
    turn: WriterLock<()>,
    relax: fn(),
}

/// How many guards exist that were taken here, in each half. Two cache lines, since some processors fetch them in pairs.
#[repr(align(128))]
struct Stripe {
    guards: [AtomicUsize; 2],
}

/// Above this, not all guards that were counted can be in memory: each is as large as a pointer.
const TOO_MANY: usize = usize::MAX / 2;

impl Counters {
    /// Counters that all readers share.
    pub fn new() -> Counters {
        Counters::striped(Plain)
    }
}

impl Default for Counters {
    fn default() -> Counters {
        Counters::new()
    }
}

impl<C: CpuNumber, const STRIPES: usize> Counters<C, STRIPES> {
    /// Counters of which each reader takes the stripe of its processor.
    pub fn striped(cpu: C) -> Counters<C, STRIPES> {
        const { assert!(STRIPES > 0, "readers need a stripe") };
        let stripe = |_| Stripe { guards: [AtomicUsize::new(0), AtomicUsize::new(0)] };
        Counters {
            stripes: core::array::from_fn(stripe),
            cpu,
            current: AtomicUsize::new(0),
            lost_count: AtomicBool::new(false),
            turn: WriterLock::new(()),
            relax: spin_loop,
        }
    }

    /// What a writer does again and again while it waits; at first [`core::hint::spin_loop`]. A process whose readers
    /// may lose the processor passes `std::thread::yield_now`.
    #[must_use]
    pub fn with_relax(self, relax: fn()) -> Counters<C, STRIPES> {
        Counters { relax, ..self }
    }

    /// Waits until each stripe has been seen without guards in this half.
    fn drain(&self, half: usize) {
        for stripe in &self.stripes {
            // Acquire: pairs with the release of each guard that left.
            while stripe.guards[half].load(Ordering::Acquire) != 0 || self.lost_count.load(Ordering::Relaxed)
            {
                (self.relax)();
            }
        }
    }
}

#[expect(unsafe_code, reason = "the trait is unsafe")]
// SAFETY: see the text at the top of the file.
unsafe impl<C: CpuNumber, const STRIPES: usize> Protection for Counters<C, STRIPES> {
    type Guard<'p>
        = CounterGuard<'p>
    where
        Self: 'p;

    #[inline]
    fn enter(&self) -> CounterGuard<'_> {
        // Relaxed: either half is right.
        let half = self.current.load(Ordering::Relaxed) & 1;
        let guards = &self.stripes[self.cpu.current() % STRIPES].guards[half];
        if guards.fetch_add(1, Ordering::Relaxed) > TOO_MANY {
            // The counter wraps only when as many have come again: some thread comes twice, and the fence below, the
            // first time, is between this store and its next addition, so that a writer that sees the latter sees this.
            self.lost_count.store(true, Ordering::Relaxed);
        }
        fence_after_addition();
        CounterGuard { guards }
    }

    fn synchronize(&self) {
        let _turn = self.turn.lock_with(self.relax);
        // W: pairs with the fence in `enter`.
        fence(Ordering::SeqCst);
        let current = self.current.load(Ordering::Relaxed) & 1;
        // Only readers that are late come to this half, so that it empties.
        self.drain(current ^ 1);
        // Relaxed: it decides how long the wait is, not whether it is long enough.
        self.current.store(current ^ 1, Ordering::Relaxed);
        self.drain(current);
    }
}

/// R, the reader's fence: between its addition to a counter and its first look. Pairs with W in `synchronize`.
#[inline]
fn fence_after_addition() {
    // Every atomic read-modify-write of x86 is a full barrier (the manuals: no load or store is reordered with a locked
    // instruction), so that only the compiler has to be told. A fence of its own would double the reader's cost.
    #[cfg(all(any(target_arch = "x86", target_arch = "x86_64"), not(loom), not(miri)))]
    compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(any(target_arch = "x86", target_arch = "x86_64"), not(loom), not(miri))))]
    fence(Ordering::SeqCst);
}

/// While it lives, a reader of [`Counters`] uses something.
#[must_use]
pub struct CounterGuard<'p> {
    /// Where this guard is counted.
    guards: &'p AtomicUsize,
}

impl Drop for CounterGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the acquire in `drain`; what the reader did comes before.
        self.guards.fetch_sub(1, Ordering::Release);
    }
}

impl fmt::Debug for CounterGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CounterGuard")
    }
}

impl<C: CpuNumber, const STRIPES: usize> fmt::Debug for Counters<C, STRIPES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = self.stripes.iter().flat_map(|stripe| &stripe.guards);
        let guards = counters.map(|guards| guards.load(Ordering::Relaxed)).fold(0, usize::wrapping_add);
        f.debug_struct("Counters").field("stripes", &STRIPES).field("guards", &guards).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// Says what it was told to say, as a processor under a reader that moves.
    struct Told(Cell<usize>);

    impl CpuNumber for &Told {
        fn current(&self) -> usize {
            self.0.get()
        }
    }

    fn guards<C: CpuNumber, const STRIPES: usize>(counters: &Counters<C, STRIPES>) -> [usize; 2] {
        let count = |half: usize| -> usize {
            counters.stripes.iter().map(|stripe| stripe.guards[half].load(Ordering::Relaxed)).sum()
        };
        [count(0), count(1)]
    }

    #[test]
    fn a_guard_leaves_the_counter_that_it_entered_wherever_its_reader_runs_by_then() {
        let told = Told(Cell::new(0));
        let counters = Counters::<&Told, 4>::striped(&told);
        let first = counters.enter();
        told.0.set(usize::MAX);
        let second = counters.enter();
        drop(first);
        assert_eq!(counters.stripes[0].guards[0].load(Ordering::Relaxed), 0);
        assert_eq!(counters.stripes[3].guards[0].load(Ordering::Relaxed), 1);
        drop(second);
        counters.synchronize();
        assert_eq!(guards(&counters), [0, 0]);
    }

    #[test]
    fn readers_that_come_while_a_writer_waits_come_to_the_half_that_it_does_not_wait_for() {
        let counters = Counters::new();
        drop(counters.enter());
        counters.synchronize();
        let _guard = counters.enter();
        assert_eq!(guards(&counters), [0, 1]);
    }

    #[test]
    fn a_counter_that_wrapped_because_guards_were_forgotten_never_counts_as_empty() {
        let counters = Counters::new();
        counters.stripes[0].guards[0].store(usize::MAX, Ordering::Relaxed);
        core::mem::forget(counters.enter());
        assert_eq!(guards(&counters), [0, 0]);
        assert!(counters.lost_count.load(Ordering::Relaxed));
    }
}
