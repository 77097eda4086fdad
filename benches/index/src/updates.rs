//! How long it takes to insert a range and to remove it, while the structure is full of others.

use std::time::Instant;

use crate::contenders::Structure;
use crate::timing::{Times, Writer};
use crate::workload::{Layout, Range, Workload};

/// How many ranges are removed and inserted again in a round.
const SAMPLE: usize = 400;

/// Nanoseconds a range, reading of the clock included.
#[derive(Clone, Debug)]
pub(crate) struct Updates {
    pub(crate) structure: Structure,
    pub(crate) insert: Times,
    pub(crate) remove: Times,
}

/// All structures that can be written, in turn.
pub(crate) fn measure(layout: Layout, count: usize, rounds: usize) -> Vec<Updates> {
    let workload = Workload::new(layout, count);
    let structures = Structure::ALL.into_iter().filter_map(|structure| {
        let contender = structure.build(&workload)?;
        contender.writer()?;
        let updates = Updates { structure, insert: Times::default(), remove: Times::default() };
        Some((contender, updates))
    });
    let mut structures: Vec<_> = structures.collect();
    for round in 0..rounds {
        for (contender, updates) in &mut structures {
            let writer = contender.writer().expect("those without were left out");
            // The order of removal is not the order of insertion.
            let leaving = workload.sample(SAMPLE, round as u64);
            let mut coming = leaving.clone();
            coming.reverse();
            for range in leaving {
                updates.remove.push(timed(|| writer.remove(range.extent.start)));
            }
            for range in coming {
                updates.insert.push(timed(|| insert(writer, range)));
            }
        }
    }
    structures.into_iter().map(|(_, updates)| updates).collect()
}

/// What reading the clock twice takes.
pub(crate) fn clock() -> f64 {
    let mut times = Times::default();
    for _ in 0..SAMPLE {
        times.push(timed(|| ()));
    }
    times.summary().median
}

fn insert(writer: &dyn Writer, range: Range) {
    writer.insert(range.extent, range.owner);
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64
}
