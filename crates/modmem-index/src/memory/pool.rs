//! Records of a few words that readers follow without protection, and the rule for using one again.
//!
//! A record is written, published by one store elsewhere, read, unlinked by another store, and used again for
//! something else. A reader that was on its way to a record when it was unlinked may find it changed. So a reader
//! checks afterwards whether the record was still linked, and if not starts again. A reader that has lost twice
//! *holds* the pool: as long as somebody does, the writer takes fresh records instead of retired ones, so that the
//! third attempt needs no check and cannot fail. That makes readers wait-free: three attempts, whatever the writer does.

use alloc::collections::VecDeque;

use super::segments::segment_len;
use super::{OutOfMemory, Segments};
use crate::sync::{AtomicU32, AtomicUsize, Ordering, fence};

/// The smallest record is of two words.
const CLASSES: usize = 19;

/// Bits of a word's number that say where in its segment it is; those above say which segment. To find it takes no
/// more than a shift then, which a reader of a shared page waits for.
const OFFSET_BITS: u32 = 27;

/// The segment of a word, and where in it.
#[inline]
const fn place(index: u32) -> (usize, usize) {
    ((index >> OFFSET_BITS) as usize, (index & ((1 << OFFSET_BITS) - 1)) as usize)
}

/// Records, as readers see them.
#[derive(Debug)]
pub(crate) struct Pool {
    words: Segments<AtomicU32>,
    /// How many readers need retired records to stay as they are.
    holders: AtomicUsize,
}

/// What only the writer knows: which records are free.
#[derive(Debug, Default)]
pub(crate) struct PoolWriter {
    /// The segment that records are taken from, and its first word that no record has had.
    next: (usize, usize),
    /// For each class the free records, the one that was retired first in front: the longer a record rests, the rarer
    /// a reader is still on it.
    free: [VecDeque<u32>; CLASSES],
    /// How many records of each class there are, free or not: the queues have room for that many, so that retiring
    /// never needs memory.
    made: [usize; CLASSES],
}

/// While it lives, retired records stay as they are.
#[derive(Debug)]
pub(crate) struct Hold<'p>(&'p Pool);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // Release: what was read under the hold was read before the writer sees it end.
        self.0.holders.fetch_sub(1, Ordering::Release);
    }
}

/// The class of records of at least `words` words: 2 to the power of class + 1.
fn class_of(words: usize) -> usize {
    (words.max(2).next_power_of_two().trailing_zeros() - 1) as usize
}

impl Pool {
    pub(crate) fn new() -> Pool {
        Pool { words: Segments::new(), holders: AtomicUsize::new(0) }
    }

    /// `length` words from `index` on.
    #[inline]
    pub(crate) fn words(&self, index: u32, length: usize) -> Option<&[AtomicU32]> {
        let (segment, offset) = place(index);
        self.words.part(segment, offset, length)
    }

    /// The word at `index`.
    #[inline]
    pub(crate) fn word(&self, index: u32) -> Option<&AtomicU32> {
        self.words(index, 1)?.first()
    }

    /// Keeps retired records as they are until the hold is dropped. What the caller loads *afterwards* to find a
    /// record leads to one that stays.
    #[cold]
    pub(crate) fn hold(&self) -> Hold<'_> {
        self.holders.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `is_held`: either the writer sees this holder, or this reader sees what the writer had
        // unlinked before it looked.
        fence(Ordering::SeqCst);
        Hold(self)
    }

    /// Whether somebody holds the pool: then nothing that was retired may be used again now.
    pub(crate) fn is_held(&self) -> bool {
        // All that was retired up to now was unlinked before this fence; it pairs with the one in `hold`. It also
        // keeps what the caller writes into a record behind the unlinking, for readers who check.
        fence(Ordering::SeqCst);
        // Acquire: pairs with the end of a hold.
        self.holders.load(Ordering::Acquire) != 0
    }

    /// Bytes of memory that records lie in.
    pub(crate) fn bytes(&self) -> usize {
        self.words.bytes()
    }
}

impl PoolWriter {
    /// A record of at least `words` words, and how many it has. Its contents are whatever its last user left; readers
    /// who come too late may still look at it, so that every word has to be written as an atomic.
    pub(crate) fn take(&mut self, pool: &Pool, words: usize) -> Result<(u32, usize), OutOfMemory> {
        let class = class_of(words);
        let length = 2_usize << class;
        let free = self.free.get_mut(class).ok_or(OutOfMemory)?;
        if !pool.is_held()
            && let Some(index) = free.pop_front()
        {
            return Ok((index, length));
        }
        free.try_reserve(self.made[class] + 1 - free.len()).map_err(|_| OutOfMemory)?;
        // A segment is as long as a power of two, and records begin at multiples of their length: none straddles two.
        let (mut segment, mut offset) = (self.next.0, self.next.1.next_multiple_of(length));
        while offset + length > segment_len(segment) {
            (segment, offset) = (segment + 1, 0);
        }
        if segment_len(segment) > 1 << OFFSET_BITS {
            return Err(OutOfMemory);
        }
        pool.words.grow_segment(segment)?;
        self.next = (segment, offset + length);
        let index = (segment as u32) << OFFSET_BITS | offset as u32;
        self.made[class] += 1;
        Ok((index, length))
    }

    /// Gives a record back that was unlinked before.
    pub(crate) fn retire(&mut self, index: u32, words: usize) {
        // There is room: `take` reserved it when the record was made.
        self.free[class_of(words)].push_back(index);
    }

    /// Bytes of memory that the queues lie in.
    pub(crate) fn bytes(&self) -> usize {
        self.free.iter().map(|free| free.capacity() * size_of::<u32>()).sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn records_of_all_sizes_are_apart_and_aligned_to_their_size() {
        let (pool, mut writer) = (Pool::new(), PoolWriter::default());
        let mut taken: alloc::vec::Vec<(u32, usize)> = alloc::vec::Vec::new();
        for round in 0..300 {
            let words = [2, 3, 16, 33, 5, 4000][round % 6];
            let (index, length) = writer.take(&pool, words).unwrap();
            assert!(length >= words && (index as usize).is_multiple_of(length));
            assert!(pool.words(index, length).is_some());
            assert!(taken.iter().all(|&(other, len)| index as usize >= other as usize + len
                || other as usize >= index as usize + length));
            taken.push((index, length));
        }
    }

    #[test]
    fn a_retired_record_rests_while_others_wait_before_it_and_while_somebody_holds() {
        let (pool, mut writer) = (Pool::new(), PoolWriter::default());
        let (first, _) = writer.take(&pool, 16).unwrap();
        let (second, _) = writer.take(&pool, 16).unwrap();
        writer.retire(first, 16);
        writer.retire(second, 16);
        let hold = pool.hold();
        let (fresh, _) = writer.take(&pool, 16).unwrap();
        assert!(fresh != first && fresh != second);
        drop(hold);
        assert_eq!(writer.take(&pool, 16).unwrap().0, first);
        assert_eq!(writer.take(&pool, 16).unwrap().0, second);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::AtomicU32;
    use loom::sync::Arc;

    /// The readers' last resort: what a held pool leads to stays as it is, without a check.
    #[test]
    fn a_record_that_was_found_under_a_hold_is_not_used_again_before_the_hold_ends() {
        loom::model(|| {
            let pool = Pool::new();
            let mut writer = PoolWriter::default();
            let (first, _) = writer.take(&pool, 2).unwrap();
            let (second, _) = writer.take(&pool, 2).unwrap();
            let write =
                |pool: &Pool, record, value| pool.word(record).unwrap().store(value, Ordering::Relaxed);
            write(&pool, first, 10);
            let shared = Arc::new((pool, AtomicU32::new(first)));
            let reader = {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    let (pool, link) = &*shared;
                    let _hold = pool.hold();
                    let record = link.load(Ordering::Acquire);
                    let value = pool.word(record).unwrap().load(Ordering::Relaxed);
                    assert_eq!(value, if record == first { 10 } else { 11 });
                })
            };
            let (pool, link) = &*shared;
            write(pool, second, 11);
            link.store(second, Ordering::Release);
            writer.retire(first, 2);
            let (next, _) = writer.take(pool, 2).unwrap();
            write(pool, next, 12);
            reader.join().unwrap();
        });
    }
}
