//! The loops that are timed, and what is made of the times.

use std::hint::black_box;
use std::time::Instant;

use modmem_index::{Extent, Owner};

use crate::workload::{Family, Queries};

/// How many lookups are timed at a time.
pub(crate) const PIECE: usize = 4096;

/// A structure that is measured. It answers with an owner's number, 0 for nobody.
pub(crate) trait Lookup: Sync {
    fn find(&self, address: u64) -> u32;

    /// What changes it, if anything can.
    fn writer(&self) -> Option<&dyn Writer> {
        None
    }

    /// Whose addresses it is asked for.
    fn questions(&self, _family: Family) -> Questions {
        Questions::Common
    }
}

/// Changes a structure while others read it. The caller knows which ranges are there.
pub(crate) trait Writer: Sync {
    fn insert(&self, extent: Extent<u64>, owner: Owner);
    fn remove(&self, start: u64);
}

/// Which addresses a structure is asked for.
pub(crate) enum Questions {
    /// Those of all others.
    Common,
    /// Its own: it does not hold the workload's ranges.
    Own(Queries),
    /// Those of all others, but its answers mean nothing.
    Unchecked,
    /// None: it has no such addresses.
    None,
}

/// An address, and every owner that it may have while a writer is at work. An owner that may not be there makes 0 one
/// of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) address: u64,
    pub(crate) allowed: [u32; 3],
}

/// A structure behind a pointer: each loop is compiled for each structure, with the lookup in it.
pub(crate) trait Contender: Sync {
    /// Nanoseconds a lookup when the next address is known only once the answer is.
    fn latency(&self, addresses: &[u64]) -> f64;
    /// Nanoseconds a lookup when all addresses are known in advance.
    fn throughput(&self, addresses: &[u64]) -> f64;
    /// The first address with another owner than expected: the address, the answer and the owner.
    fn first_wrong(&self, queries: &Queries) -> Option<(u64, u32, u32)>;
    /// How many answers are none of those that are allowed.
    fn count_wrong(&self, questions: &[Question]) -> u64;
    fn writer(&self) -> Option<&dyn Writer>;
    fn questions(&self, family: Family) -> Questions;
}

impl<L: Lookup> Contender for L {
    #[inline(never)]
    fn latency(&self, addresses: &[u64]) -> f64 {
        // The answer goes into the next address, multiplied by a zero that the compiler does not know.
        let zero = black_box(0_u64);
        let mut answer = 0_u64;
        let start = Instant::now();
        for &address in addresses {
            answer = u64::from(self.find(address + (answer & zero)));
        }
        black_box(answer);
        nanoseconds_each(start, addresses.len())
    }

    #[inline(never)]
    fn throughput(&self, addresses: &[u64]) -> f64 {
        let mut sum = 0_u32;
        let start = Instant::now();
        for &address in addresses {
            sum = sum.wrapping_add(self.find(address));
        }
        black_box(sum);
        nanoseconds_each(start, addresses.len())
    }

    fn first_wrong(&self, queries: &Queries) -> Option<(u64, u32, u32)> {
        let answers = queries.addresses.iter().map(|&address| (address, self.find(address)));
        let mut judged =
            answers.zip(&queries.expected).map(|((address, answer), &owner)| (address, answer, owner));
        judged.find(|&(_, answer, owner)| answer != owner)
    }

    #[inline(never)]
    fn count_wrong(&self, questions: &[Question]) -> u64 {
        let mut wrong = 0;
        for question in questions {
            let answer = self.find(question.address);
            let [a, b, c] = question.allowed;
            wrong += u64::from((answer != a) & (answer != b) & (answer != c));
        }
        wrong
    }

    fn writer(&self) -> Option<&dyn Writer> {
        Lookup::writer(self)
    }

    fn questions(&self, family: Family) -> Questions {
        Lookup::questions(self, family)
    }
}

fn nanoseconds_each(start: Instant, count: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Times of all rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn push(&mut self, time: f64) {
        self.0.push(time);
    }

    /// The time that this share of them did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut times = self.0.clone();
        let place = (share * times.len().saturating_sub(1) as f64).round() as usize;
        if times.is_empty() {
            return f64::NAN;
        }
        *times.select_nth_unstable_by(place, f64::total_cmp).1
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary { low: self.quantile(0.25), median: self.quantile(0.5), high: self.quantile(0.75) }
    }
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}
