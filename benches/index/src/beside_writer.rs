//! Readers beside a writer that never stops, and two readers beside each other.
//!
//! Every second range comes and goes: as a whole with one owner, or in two halves with one owner each. The others stay.
//! Each answer is checked: a range that stays must be found, with its owner; one that comes and goes is absent or has
//! an owner that this very address can have.
#![expect(unsafe_code, reason = "what a thread has used is asked for in C")]

use std::mem::MaybeUninit;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use modmem_index::{Extent, Owner, OwnerId};

use crate::contenders::Structure;
use crate::random::Random;
use crate::timing::{Contender, PIECE, Question, Times, Writer};
use crate::workload::{Family, Layout, PAGE, QUERIES, Range, Workload};

/// How often the addresses are asked for in a round for their latency beside the writer.
const LATENCY_PASSES: u64 = 8;

/// What readers and writer of one structure did.
#[derive(Clone, Debug)]
pub(crate) struct BesideWriter {
    pub(crate) structure: Structure,
    pub(crate) layout: Layout,
    /// Nanoseconds a verified lookup without a writer, and beside one.
    pub(crate) verified: [Times; 2],
    /// The same for dependent lookups, whose answers are not verified.
    pub(crate) latency: [Times; 2],
    /// Answers that were verified beside the writer, and how many of all that were verified were wrong.
    pub(crate) lookups: u64,
    pub(crate) wrong: u64,
    /// Changes of the writer, and the seconds that it had.
    pub(crate) changes: u64,
    pub(crate) seconds: f64,
}

impl BesideWriter {
    /// How many times as long a lookup takes beside the writer.
    pub(crate) fn slowdown(times: &[Times; 2]) -> f64 {
        times[1].summary().median / times[0].summary().median
    }
}

/// Measures one structure; `None` if it cannot be written. At least so many lookups are verified beside the writer.
pub(crate) fn measure(
    structure: Structure,
    layout: Layout,
    count: usize,
    rounds: usize,
    lookups: u64,
) -> Option<BesideWriter> {
    let workload = Workload::new(layout, count);
    let contender = structure.build(&workload)?;
    let writer = contender.writer()?;
    let questions = questions(&workload);
    let addresses: Vec<u64> = questions.iter().map(|question| question.address).collect();
    let mut slots = slots(&workload);
    let reader = Reader { contender: contender.as_ref(), questions: &questions, addresses: &addresses };
    let passes = lookups.div_ceil((QUERIES * rounds) as u64);

    let mut result = BesideWriter {
        structure,
        layout,
        verified: Default::default(),
        latency: Default::default(),
        lookups: 0,
        wrong: 0,
        changes: 0,
        seconds: 0.0,
    };
    for round in 0..rounds {
        contender.throughput(&addresses);
        result.wrong += reader.verify(&mut result.verified[0], None);
        reader.latency(&mut result.latency[0], None);

        let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let slots = &mut slots;
            let (stop, changes) = (&stop, &changes);
            scope.spawn(move || churn(writer, slots, round as u64, stop, changes));
            while changes.load(Ordering::Relaxed) == 0 {
                std::hint::spin_loop();
            }
            let start = Instant::now();
            for _ in 0..passes {
                result.wrong += reader.verify(&mut result.verified[1], Some(changes));
            }
            for _ in 0..passes.min(LATENCY_PASSES) {
                reader.latency(&mut result.latency[1], Some(changes));
            }
            stop.store(true, Ordering::Relaxed);
            result.seconds += start.elapsed().as_secs_f64();
        });
        result.changes += changes.into_inner();
        result.lookups += passes * QUERIES as u64;
    }
    Some(result)
}

/// How many lookups two threads do while one alone does one.
pub(crate) fn two_readers(structure: Structure, layout: Layout, count: usize, rounds: usize) -> Option<f64> {
    let workload = Workload::new(layout, count);
    let contender = structure.build(&workload)?;
    let queries = [1, 2].map(|seed| workload.queries(Family::Hit, seed).addresses);
    let (mut one, mut two) = (Times::default(), Times::default());
    for _ in 0..rounds {
        read(contender.as_ref(), &queries[..1], &mut one);
        read(contender.as_ref(), &queries, &mut two);
    }
    Some(2.0 * one.summary().median / two.summary().median)
}

/// Nanoseconds a lookup while there is a thread for each set of addresses.
fn read(contender: &dyn Contender, queries: &[Vec<u64>], times: &mut Times) {
    const PASSES: usize = 8;
    let barrier = Barrier::new(queries.len());
    let read = |addresses: &Vec<u64>| {
        contender.throughput(addresses);
        barrier.wait();
        let pieces = (0..PASSES).flat_map(|_| addresses.chunks(PIECE));
        pieces.map(|piece| contender.throughput(piece)).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = queries.iter().map(|addresses| scope.spawn(|| read(addresses))).collect();
        let taken = threads.into_iter().flat_map(|thread| thread.join().expect("readers do not panic"));
        taken.for_each(|time| times.push(time));
    });
}

/// Looks up in pieces, of which those are left out in which something else had the processor.
struct Reader<'r> {
    contender: &'r dyn Contender,
    questions: &'r [Question],
    addresses: &'r [u64],
}

impl Reader<'_> {
    fn verify(&self, times: &mut Times, changes: Option<&AtomicU64>) -> u64 {
        let mut wrong = 0;
        for piece in self.questions.chunks(PIECE) {
            let before = Moment::now(changes);
            let start = Instant::now();
            wrong += self.contender.count_wrong(piece);
            let time = start.elapsed().as_nanos() as f64 / piece.len() as f64;
            before.push_if_fair(times, time, changes);
        }
        wrong
    }

    fn latency(&self, times: &mut Times, changes: Option<&AtomicU64>) {
        for piece in self.addresses.chunks(PIECE) {
            let before = Moment::now(changes);
            let time = self.contender.latency(piece);
            before.push_if_fair(times, time, changes);
        }
    }
}

/// The beginning of a piece.
struct Moment {
    preemptions: i64,
    changes: u64,
}

impl Moment {
    fn now(changes: Option<&AtomicU64>) -> Moment {
        let mut usage = MaybeUninit::uninit();
        // SAFETY: it writes a `rusage`.
        let status = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
        assert_eq!(status, 0, "a thread can ask what it has used");
        // SAFETY: zero says that it was written.
        let usage: libc::rusage = unsafe { usage.assume_init() };
        let changes = changes.map_or(0, |changes| changes.load(Ordering::Relaxed));
        Moment { preemptions: usage.ru_nivcsw, changes }
    }

    /// A time counts if the reader kept its processor, and the writer, where there is one, had another.
    fn push_if_fair(&self, times: &mut Times, time: f64, changes: Option<&AtomicU64>) {
        let now = Moment::now(changes);
        let undisturbed = now.preemptions == self.preemptions;
        if undisturbed && (changes.is_none() || now.changes > self.changes) {
            times.push(time);
        }
    }
}

/// Whether the range of that number comes and goes.
fn is_volatile(number: u32) -> bool {
    number % 2 == 1
}

/// A place where a range comes and goes.
struct Slot {
    whole: (Extent<u64>, Owner),
    halves: Option<[(Extent<u64>, Owner); 2]>,
    present: Present,
}

#[derive(Clone, Copy, PartialEq)]
enum Present {
    Nothing,
    Whole,
    Halves,
}

impl Slot {
    fn new(range: &Range, count: u32) -> Slot {
        // Owners of halves have numbers that no other range has.
        let owner = |more: u32| {
            let id = OwnerId::new(range.number() + more * count).expect("a small number");
            Owner::new(id, range.owner.kind())
        };
        let Extent { start, size } = range.extent;
        let half = if size >= 2 * PAGE { size / 2 / PAGE * PAGE } else { size / 2 };
        let halves = (half > 0).then(|| {
            [
                (Extent { start, size: half }, owner(1)),
                (Extent { start: start + half, size: size - half }, owner(2)),
            ]
        });
        Slot { whole: (range.extent, range.owner), halves, present: Present::Whole }
    }

    /// Whoever may own an address of it.
    fn owners(&self, address: u64) -> [u32; 3] {
        let halves = self.halves.iter().flatten();
        let half = halves
            .filter(|(extent, _)| extent.contains(address))
            .map(|(_, owner)| owner.id().number())
            .next();
        [0, self.whole.1.id().number(), half.unwrap_or(0)]
    }

    fn change(&mut self, writer: &dyn Writer, whole: bool) {
        let halves = self.halves.as_ref().filter(|_| !whole);
        self.present = match (self.present, halves) {
            (Present::Nothing, Some(halves)) => {
                halves.iter().for_each(|&(extent, owner)| writer.insert(extent, owner));
                Present::Halves
            }
            (Present::Nothing, None) => {
                writer.insert(self.whole.0, self.whole.1);
                Present::Whole
            }
            (Present::Whole, _) => {
                writer.remove(self.whole.0.start);
                Present::Nothing
            }
            (Present::Halves, _) => {
                self.halves.iter().flatten().for_each(|(extent, _)| writer.remove(extent.start));
                Present::Nothing
            }
        };
    }
}

fn slots(workload: &Workload) -> Vec<Slot> {
    let count = workload.ranges.len() as u32;
    let volatile = workload.ranges.iter().filter(|range| is_volatile(range.number()));
    volatile.map(|range| Slot::new(range, count)).collect()
}

/// Changes one slot after the other until it is told to stop, and leaves all ranges as they were.
fn churn(writer: &dyn Writer, slots: &mut [Slot], seed: u64, stop: &AtomicBool, changes: &AtomicU64) {
    let mut random = Random::new(seed);
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        let slot = random.below(slots.len() as u64) as usize;
        slots[slot].change(writer, random.below(2) == 0);
        made += 1;
        changes.store(made, Ordering::Relaxed);
    }
    for slot in slots {
        while slot.present != Present::Whole {
            slot.change(writer, true);
        }
    }
}

/// Nine addresses of ten in ranges, one in gaps.
fn questions(workload: &Workload) -> Vec<Question> {
    let slots = slots(workload);
    let hits = workload.queries(Family::Hit, 3);
    let gaps = workload.queries(Family::Gap, 4);
    let mut random = Random::new(5);
    let mut one = |place: usize| {
        let (address, number) = (hits.addresses[place], hits.expected[place]);
        if random.below(10) == 0 {
            return Question { address: gaps.addresses[place], allowed: [0; 3] };
        }
        let allowed = match is_volatile(number) {
            // The slots are those of the numbers 1, 3, 5...
            true => slots[number as usize / 2].owners(address),
            false => [number; 3],
        };
        Question { address, allowed }
    };
    (0..QUERIES).map(&mut one).collect()
}
