//! A lowest and a highest address.

use core::fmt;

use crate::sync::Ordering;
use crate::{AtomicAddress, AtomicCell};

/// A lowest and a highest address; it admits both of them and all between.
///
/// All loads and stores are Relaxed: a word that a reader must heed was stored before the range was inserted of which
/// the reader knows, and no later one leaves less room for that range.
pub struct Pair<A: AtomicAddress> {
    min: A::Atomic,
    max: A::Atomic,
}

impl<A: AtomicAddress> Pair<A> {
    /// The words of a pair that admits nothing.
    pub const EMPTY: (A, A) = (A::MAX, A::ZERO);

    /// A pair of those words.
    pub fn new((min, max): (A, A)) -> Pair<A> {
        Pair { min: A::Atomic::new(min), max: A::Atomic::new(max) }
    }

    /// Whether `address` may have an owner.
    #[inline]
    pub fn admits(&self, address: A) -> bool {
        self.min.load(Ordering::Relaxed) <= address && address <= self.max.load(Ordering::Relaxed)
    }

    /// The lowest and the highest address; while a writer is at work they may be of different moments.
    pub fn words(&self) -> (A, A) {
        (self.min.load(Ordering::Relaxed), self.max.load(Ordering::Relaxed))
    }

    /// Stores only what changes, so that the readers' cache lines stay where they are.
    pub(super) fn set(&self, (min, max): (A, A)) {
        let before = self.words();
        if min != before.0 {
            self.min.store(min, Ordering::Relaxed);
        }
        if max != before.1 {
            self.max.store(max, Ordering::Relaxed);
        }
    }

    pub(super) fn widen(&self, start: A, max: A) {
        let before = self.words();
        self.set((before.0.min(start), before.1.max(max)));
    }
}

impl<A: AtomicAddress> fmt::Debug for Pair<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = self.words();
        write!(f, "{min:#x}..={max:#x}")
    }
}
