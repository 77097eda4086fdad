//! Two readers at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::contenders::Structure;
use crate::processor::{self, Beside};
use crate::timing::{Contender, PIECE, Times};
use crate::workload::{Family, Layout, Workload};

/// How many times a thread asks for its addresses in a round.
const PASSES: usize = 8;
/// A piece counts if the other reader did at least half as much meanwhile.
const PARTS: usize = 8;

/// How many lookups two threads do while one alone does one.
pub(crate) fn two_readers(structure: Structure, layout: Layout, count: usize, rounds: usize) -> Option<f64> {
    let workload = Workload::new(layout, count);
    let contender = structure.build(&workload)?;
    let addresses = [1, 2].map(|seed| workload.queries(Family::Hit, seed).addresses);
    let (mut one, mut two) = (Times::default(), Times::default());
    for _ in 0..rounds {
        read(contender.as_ref(), &addresses[..1], || (), &mut one);
        read(contender.as_ref(), &addresses, || (), &mut two);
    }
    Some(2.0 * one.summary().median / two.summary().median)
}

/// How many parts a reader has done, in a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Progress(AtomicU64);

/// Nanoseconds a lookup while there is a thread for each set of addresses, of which there are one or two. What `prepare`
/// returns is the thread's as long as it reads.
pub(crate) fn read<G>(
    contender: &dyn Contender,
    addresses: &[Vec<u64>],
    prepare: impl Fn() -> G + Sync,
    times: &mut Times,
) {
    let barrier = Barrier::new(addresses.len());
    let progress = [Progress::default(), Progress::default()];
    let read = |reader: usize| {
        processor::take(reader);
        let _mine = prepare();
        let other = (addresses.len() > 1).then_some(&progress[1 - reader].0);
        let addresses = &addresses[reader];
        contender.throughput(addresses);
        barrier.wait();
        let mut times = Vec::new();
        for piece in (0..PASSES).flat_map(|_| addresses.chunks(PIECE)) {
            let beside = Beside::begin(other);
            let mut sum = 0.0;
            for part in piece.chunks(PIECE / PARTS) {
                sum += contender.throughput(part);
                progress[reader].0.fetch_add(1, Ordering::Relaxed);
            }
            if beside.was_fair(PARTS as u64 / 2) {
                times.push(sum / PARTS as f64);
            }
        }
        times
    };
    std::thread::scope(|scope| {
        let read = &read;
        let threads: Vec<_> = (0..addresses.len()).map(|reader| scope.spawn(move || read(reader))).collect();
        let taken = threads.into_iter().flat_map(|thread| thread.join().expect("readers do not panic"));
        taken.for_each(|time| times.push(time));
    });
}
