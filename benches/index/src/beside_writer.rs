//! A reader beside a writer that never stops. Each answer is checked, and times are kept of pieces in which both had a
//! processor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::churn;
use crate::contenders::Structure;
use crate::processor::{self, Beside};
use crate::timing::{Contender, PIECE, Question, Times};
use crate::workload::{Layout, QUERIES, Workload};

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
    let questions = churn::questions(&workload);
    let addresses: Vec<u64> = questions.iter().map(|question| question.address).collect();
    let mut slots = churn::slots(&workload);
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
        let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let (slots, result) = (&mut slots, &mut result);
            let (stop, changes, reader) = (&stop, &changes, &reader);
            let reading = scope.spawn(move || {
                processor::take(0);
                reader.contender.throughput(reader.addresses);
                result.wrong += reader.verify(&mut result.verified[0], None);
                reader.latency(&mut result.latency[0], None);
                scope.spawn(move || {
                    processor::take(1);
                    churn::run(writer, slots, round as u64, stop, changes);
                });
                while changes.load(Ordering::Relaxed) == 0 {
                    std::thread::yield_now();
                }
                let start = Instant::now();
                for _ in 0..passes {
                    result.wrong += reader.verify(&mut result.verified[1], Some(changes));
                }
                for _ in 0..passes.min(LATENCY_PASSES) {
                    reader.latency(&mut result.latency[1], Some(changes));
                }
                result.seconds += start.elapsed().as_secs_f64();
            });
            let outcome = reading.join();
            stop.store(true, Ordering::Relaxed);
            outcome.expect("readers do not panic");
        });
        result.changes += changes.into_inner();
        result.lookups += passes * QUERIES as u64;
    }
    Some(result)
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
            let beside = Beside::begin(changes);
            let start = Instant::now();
            wrong += self.contender.count_wrong(piece);
            let time = start.elapsed().as_nanos() as f64 / piece.len() as f64;
            if beside.was_fair(1) {
                times.push(time);
            }
        }
        wrong
    }

    fn latency(&self, times: &mut Times, changes: Option<&AtomicU64>) {
        for piece in self.addresses.chunks(PIECE) {
            let beside = Beside::begin(changes);
            let time = self.contender.latency(piece);
            if beside.was_fair(1) {
                times.push(time);
            }
        }
    }
}
