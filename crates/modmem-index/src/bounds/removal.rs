//! What becomes of a pair of bounds when a range is removed.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use super::Pair;
use crate::{AtomicAddress, Extent, IndexError};

/// What becomes of a pair of bounds when a range is removed, and what has to be kept to know that.
///
/// It is told of each insertion: `reserve` before, which may fail, and `inserted` after.
pub trait Removal<A: AtomicAddress>: Default + fmt::Debug {
    /// Makes room for one more range, so that what follows needs no memory.
    ///
    /// # Errors
    /// There is none.
    fn reserve(&mut self, pair: usize) -> Result<(), IndexError>;

    /// A range was inserted.
    fn inserted(&mut self, pair: usize, extent: Extent<A>);

    /// A range was removed: the words that the pair is to have. `remaining` are those that it still makes room for,
    /// in address order.
    fn removed(
        &mut self,
        pair: usize,
        extent: Extent<A>,
        words: (A, A),
        remaining: impl Iterator<Item = Extent<A>>,
    ) -> (A, A);

    /// Bytes that are allocated.
    fn memory_bytes(&self) -> usize;
}

/// Bounds never shrink: Linux.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl<A: AtomicAddress> Removal<A> for Never {
    fn reserve(&mut self, _: usize) -> Result<(), IndexError> {
        Ok(())
    }

    fn inserted(&mut self, _: usize, _: Extent<A>) {}

    fn removed(
        &mut self,
        _: usize,
        _: Extent<A>,
        words: (A, A),
        _: impl Iterator<Item = Extent<A>>,
    ) -> (A, A) {
        words
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// The brute force: when a range goes that touched a bound, all that remain are looked through. It needs no memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan;

impl<A: AtomicAddress> Removal<A> for Scan {
    fn reserve(&mut self, _: usize) -> Result<(), IndexError> {
        Ok(())
    }

    fn inserted(&mut self, _: usize, _: Extent<A>) {}

    fn removed(
        &mut self,
        _: usize,
        extent: Extent<A>,
        words: (A, A),
        remaining: impl Iterator<Item = Extent<A>>,
    ) -> (A, A) {
        if extent.start != words.0 && extent.last() != Some(words.1) {
            return words;
        }
        let widened = |(min, max): (A, A), extent: Extent<A>| {
            (extent.start.min(min), extent.last().map_or(max, |last| last.max(max)))
        };
        remaining.fold(Pair::EMPTY, widened)
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Two heaps a pair, of the starts and of the last addresses of its ranges, whose tops are the bounds.
///
/// An entry in the middle of a heap cannot be taken out; it is noted in a second heap and dropped when it comes to the
/// top, or when half of the entries are such. A removal takes the time of a logarithm on average.
#[derive(Debug)]
pub struct Augmented<A: Ord> {
    /// By pair.
    heaps: Vec<Heaps<A>>,
}

/// Of starts, lowest first, and of last addresses.
type Heaps<A> = (CancellingHeap<Reverse<A>>, CancellingHeap<A>);

impl<A: Ord> Default for Augmented<A> {
    fn default() -> Augmented<A> {
        Augmented { heaps: Vec::new() }
    }
}

impl<A: AtomicAddress> Removal<A> for Augmented<A> {
    fn reserve(&mut self, pair: usize) -> Result<(), IndexError> {
        let missing = (pair + 1).saturating_sub(self.heaps.len());
        self.heaps.try_reserve(missing).map_err(|_| IndexError::OutOfMemory)?;
        self.heaps.extend((0..missing).map(|_| Default::default()));
        let (starts, lasts) = &mut self.heaps[pair];
        starts.reserve()?;
        lasts.reserve()
    }

    fn inserted(&mut self, pair: usize, extent: Extent<A>) {
        let (starts, lasts) = &mut self.heaps[pair];
        starts.live.push(Reverse(extent.start));
        lasts.live.extend(extent.last());
    }

    fn removed(
        &mut self,
        pair: usize,
        extent: Extent<A>,
        _: (A, A),
        _: impl Iterator<Item = Extent<A>>,
    ) -> (A, A) {
        let (starts, lasts) = &mut self.heaps[pair];
        starts.cancel(Reverse(extent.start));
        if let Some(last) = extent.last() {
            lasts.cancel(last);
        }
        match (starts.live.peek(), lasts.live.peek()) {
            (Some(&Reverse(min)), Some(&max)) => (min, max),
            _ => Pair::EMPTY,
        }
    }

    fn memory_bytes(&self) -> usize {
        let entries = self.heaps.iter().map(|(starts, lasts)| starts.capacity() + lasts.capacity());
        self.heaps.capacity() * size_of::<Heaps<A>>() + entries.sum::<usize>() * size_of::<A>()
    }
}

/// A heap whose top is never cancelled.
#[derive(Debug)]
struct CancellingHeap<T: Ord> {
    live: BinaryHeap<T>,
    /// Entries of `live` that are not there any more; it has room for all of them.
    cancelled: BinaryHeap<T>,
}

impl<T: Ord> Default for CancellingHeap<T> {
    fn default() -> CancellingHeap<T> {
        CancellingHeap { live: BinaryHeap::new(), cancelled: BinaryHeap::new() }
    }
}

impl<T: Ord + Copy> CancellingHeap<T> {
    fn reserve(&mut self) -> Result<(), IndexError> {
        let room = self.live.len() + 1 - self.cancelled.len();
        self.live.try_reserve(1).map_err(|_| IndexError::OutOfMemory)?;
        self.cancelled.try_reserve(room).map_err(|_| IndexError::OutOfMemory)
    }

    /// Cancels one entry equal to `entry`.
    fn cancel(&mut self, entry: T) {
        self.cancelled.push(entry);
        while let (Some(top), Some(cancelled)) = (self.live.peek(), self.cancelled.peek())
            && top == cancelled
        {
            self.live.pop();
            self.cancelled.pop();
        }
        if self.cancelled.len() > self.live.len() / 2 {
            self.sweep();
        }
    }

    /// Drops all that is cancelled, in place.
    fn sweep(&mut self) {
        let mut live = core::mem::take(&mut self.live).into_vec();
        let mut cancelled = core::mem::take(&mut self.cancelled).into_vec();
        live.sort_unstable();
        cancelled.sort_unstable();
        let mut next = 0;
        live.retain(|entry| {
            let drop = cancelled.get(next) == Some(entry);
            next += usize::from(drop);
            !drop
        });
        cancelled.clear();
        (self.live, self.cancelled) = (live.into(), cancelled.into());
    }

    fn capacity(&self) -> usize {
        self.live.capacity() + self.cancelled.capacity()
    }
}
