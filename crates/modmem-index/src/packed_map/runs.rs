//! Where the values are: runs of one to 32 words, as short as they can be.
//!
//! The first runs lie in one array, so that a look-up adds and loads; what is more than that array was made for (ranges
//! of a few pages all over the windows) goes to segments that are found one load later. Runs begin at even indices, and
//! a bit map says which pairs of words are in use: giving a run back is clearing bits, which needs no memory, and what
//! was given back serves runs of any length.

use alloc::vec::Vec;

use crate::memory::{Array, OutOfMemory, Pool, Segments};
use crate::sync::AtomicU32;

/// Words of a unit: a run has a whole number of them.
const UNIT: usize = 2;
/// Units for which there is one word in the bit map. No run lies in two such chunks.
#[cfg(not(loom))]
const CHUNK: usize = 64;
#[cfg(loom)]
const CHUNK: usize = 8;
/// How many chunks are searched for a place at most.
const SEARCH: usize = 32;

/// Runs, as readers see them.
#[derive(Debug)]
pub(super) struct Runs {
    near: Array<AtomicU32>,
    far: Segments<AtomicU32>,
}

/// What only the writer knows: which units are in use.
#[derive(Debug)]
pub(super) struct RunWriter {
    used: Vec<u64>,
    /// The first unit that no run has had.
    next: usize,
    /// Free units before that one.
    holes: usize,
    /// The chunk in which a place was found last. The search goes on from there, so that what was given back rests as
    /// long as possible and readers rarely find it changed.
    cursor: usize,
}

impl Runs {
    /// Runs with room for `near` words in the first array. Run 0 is there for ever: one value, nobody.
    pub(super) fn new(near: usize) -> Result<(Runs, RunWriter), OutOfMemory> {
        let near = near.max(1).next_multiple_of(CHUNK * UNIT);
        let runs = Runs { near: Array::zeroed(near)?, far: Segments::new() };
        let mut writer = RunWriter { used: Vec::new(), next: 0, holes: 0, cursor: 0 };
        writer.used.try_reserve(near / (CHUNK * UNIT)).map_err(|_| OutOfMemory)?;
        let nobody = writer.fresh(&runs, 1, 0)?;
        debug_assert_eq!(nobody, 0);
        Ok((runs, writer))
    }

    /// The value at `index`, if it lies in the first array.
    #[inline]
    pub(super) fn near(&self, index: u32) -> Option<&AtomicU32> {
        self.near.get(index as usize)
    }

    /// The value at `index`, which exists for the runs that words name.
    pub(super) fn value(&self, index: u32) -> Option<&AtomicU32> {
        self.near(index).or_else(|| self.far.get(index - self.near.len() as u32))
    }

    /// Bytes of memory asked for.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.near) + self.far.bytes()
    }
}

impl RunWriter {
    /// A run with room for `values`, which begins at `last` at most. Readers who come too late may still look at what
    /// it held before.
    pub(super) fn take(
        &mut self,
        runs: &Runs,
        pool: &Pool,
        values: usize,
        last: u32,
    ) -> Result<u32, OutOfMemory> {
        let units = values.div_ceil(UNIT);
        // As long as somebody holds the pool, what was given back stays as it is. Asking is also the fence that keeps
        // what the caller writes into the run behind the unlinking of the run that was here before.
        let held = pool.is_held();
        let found = if !held && self.holes >= units { self.search(units) } else { None };
        match found.filter(|&start| start * UNIT <= last as usize) {
            Some(start) => Ok(self.mark(start, units)),
            None => self.fresh(runs, units, last),
        }
    }

    /// Gives back a run that is not linked any more, or never was.
    pub(super) fn retire(&mut self, run: u32, values: usize) {
        let (start, units) = (run as usize / UNIT, values.div_ceil(UNIT));
        self.used[start / CHUNK] &= !bits(start, units);
        self.holes += units;
    }

    /// A place for so many units among those that were given back.
    fn search(&mut self, units: usize) -> Option<usize> {
        let chunks = self.used.len();
        for step in 0..chunks.min(SEARCH) {
            let chunk = (self.cursor + step) % chunks;
            if let Some(start) = place(self.used[chunk], units) {
                self.cursor = chunk;
                return Some(chunk * CHUNK + start);
            }
        }
        self.cursor = (self.cursor + chunks.min(SEARCH)) % chunks;
        None
    }

    /// Units that no run has had.
    fn fresh(&mut self, runs: &Runs, units: usize, last: u32) -> Result<u32, OutOfMemory> {
        let crosses = self.next % CHUNK + units > CHUNK;
        let start = if crosses { self.next.next_multiple_of(CHUNK) } else { self.next };
        if units > CHUNK || start * UNIT > last as usize {
            return Err(OutOfMemory);
        }
        if let Some(far) = (start * UNIT).checked_sub(runs.near.len()) {
            runs.far.grow(far as u32)?;
        }
        if start / CHUNK == self.used.len() {
            self.used.try_reserve(1).map_err(|_| OutOfMemory)?;
            self.used.push(0);
        }
        Ok(self.mark(start, units))
    }

    /// Notes that these units are in use; the index of their first word.
    fn mark(&mut self, start: usize, units: usize) -> u32 {
        self.used[start / CHUNK] |= bits(start, units);
        let next = self.next.max(start + units);
        self.holes = self.holes + (next - self.next) - units;
        self.next = next;
        (start * UNIT) as u32
    }

    /// Bytes of runs that have ever been written: the others are address space only, as long as the system commits what
    /// is touched.
    pub(super) fn touched(&self) -> usize {
        self.next * UNIT * size_of::<AtomicU32>()
    }

    /// Bytes of the bit map.
    pub(super) fn bytes(&self) -> usize {
        self.used.capacity() * size_of::<u64>()
    }
}

/// The bits of units in their chunk's word.
fn bits(start: usize, units: usize) -> u64 {
    (u64::MAX >> (64 - units)) << (start % CHUNK)
}

/// Where in a chunk so many free units lie together.
fn place(used: u64, units: usize) -> Option<usize> {
    let mut free = !used & (u64::MAX >> (64 - CHUNK));
    // Each bit that is left begins so many free units.
    let mut together = 1;
    while together < units {
        let step = together.min(units - together);
        free &= free >> step;
        together += step;
    }
    (free != 0).then(|| free.trailing_zeros() as usize)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn runs_never_overlap_and_what_is_given_back_is_used_for_runs_of_any_length() {
        let pool = Pool::new();
        let (runs, mut writer) = Runs::new(1000).unwrap();
        let mut live = Vec::from([(0, 1)]);
        let mut random = 12345_u32;
        for step in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if step % 2000 < 1000 || live.len() < 2 {
                let values = 1 + (random >> 8) as usize % 32;
                let run = writer.take(&runs, &pool, values, u32::MAX - 1).unwrap();
                assert!(run.is_multiple_of(2));
                assert!(runs.value(run).is_some() && runs.value(run + values as u32 - 1).is_some());
                let end = |(run, values): (u32, usize)| run as usize + values.next_multiple_of(UNIT);
                let apart = |&other: &(u32, usize)| {
                    end(other) <= run as usize || end((run, values)) <= other.0 as usize
                };
                assert!(live.iter().all(apart));
                live.push((run, values));
            } else {
                let (run, values) = live.swap_remove(1 + (random >> 8) as usize % (live.len() - 1));
                writer.retire(run, values);
            }
        }
        let used: u32 = writer.used.iter().map(|chunk| chunk.count_ones()).sum();
        assert_eq!(used as usize, live.iter().map(|&(_, values)| values.div_ceil(UNIT)).sum::<usize>());
        assert_eq!(writer.holes, writer.next - used as usize);
        // About a thousand runs of 16.5 values were live at most: less than a third was lost between them.
        assert!(writer.touched() < 1100 * 17 * 4 * 3 / 2, "{}", writer.touched());
    }

    #[test]
    fn while_somebody_holds_the_pool_only_fresh_units_are_taken() {
        let pool = Pool::new();
        let (runs, mut writer) = Runs::new(1000).unwrap();
        let first = writer.take(&runs, &pool, 3, u32::MAX - 1).unwrap();
        writer.retire(first, 3);
        let hold = pool.hold();
        assert_ne!(writer.take(&runs, &pool, 3, u32::MAX - 1), Ok(first));
        drop(hold);
        assert_eq!(writer.take(&runs, &pool, 3, u32::MAX - 1), Ok(first));
    }

    #[test]
    fn no_run_begins_behind_the_last_index_that_a_word_can_name() {
        let pool = Pool::new();
        let (runs, mut writer) = Runs::new(1).unwrap();
        let taken = core::iter::repeat_with(|| writer.take(&runs, &pool, 2, 100)).take_while(Result::is_ok);
        assert_eq!(taken.last(), Some(Ok(100)));
        writer.retire(50, 2);
        assert_eq!(writer.take(&runs, &pool, 2, 100), Ok(50));
    }
}
