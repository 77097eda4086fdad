//! A writer that never stops, and what a reader may then find.
//!
//! Every second range comes and goes: as a whole with one owner, or in two halves with one owner each. The others stay.
//! A range that stays must be found, with its owner; one that comes and goes is absent or has an owner that this very
//! address can have.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use modmem_index::{Extent, Owner, OwnerId};

use crate::random::Random;
use crate::timing::{Question, Writer};
use crate::workload::{Family, PAGE, QUERIES, Range, Workload};

/// Whether the range of that number comes and goes.
fn is_volatile(number: u32) -> bool {
    number % 2 == 1
}

/// A place where a range comes and goes.
pub(crate) struct Slot {
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

pub(crate) fn slots(workload: &Workload) -> Vec<Slot> {
    let count = workload.ranges.len() as u32;
    let volatile = workload.ranges.iter().filter(|range| is_volatile(range.number()));
    volatile.map(|range| Slot::new(range, count)).collect()
}

/// Changes one slot after the other until it is told to stop, and leaves all ranges as they were.
pub(crate) fn run(
    writer: &dyn Writer,
    slots: &mut [Slot],
    seed: u64,
    stop: &AtomicBool,
    changes: &AtomicU64,
) {
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
pub(crate) fn questions(workload: &Workload) -> Vec<Question> {
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
