//! The case that the thread was about: a 32-bit PowerPC, module text below the kernel, module data in vmalloc, and all of
//! the kernel between them.
//!
//! The modules of a recorded kernel are loaded and unloaded again behind every kind of bounds. At two moments, all
//! loaded and nearly all unloaded, addresses of several families are looked up: how many enter the structure in
//! vain, and how long a lookup takes.

mod families;
mod policies;
mod replay;

use std::collections::BTreeMap;
use std::time::Instant;

use modmem_index::{Extent, Owner};

pub(crate) use families::Family;
use policies::Policy;
use replay::Event;

use crate::timing::{PIECE, Times};

/// When addresses are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Loaded,
    Unloaded,
}

impl Moment {
    pub(crate) const ALL: [Moment; 2] = [Moment::Loaded, Moment::Unloaded];
}

/// One policy, one family of addresses, one moment.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) policy: &'static str,
    pub(crate) family: Family,
    pub(crate) moment: Moment,
    /// Of all lookups, those that enter the structure and find nobody.
    pub(crate) in_vain: f64,
    /// Cache lines of bounds that a lookup reads, on average.
    pub(crate) lines: f64,
    /// Nanoseconds a dependent lookup.
    pub(crate) latency: Times,
}

/// What is loaded, and what was.
struct Memories {
    live: BTreeMap<u32, (Extent<u32>, Owner)>,
    gone: Vec<Extent<u32>>,
}

/// What a policy costs who loads and unloads: nanoseconds for each memory.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    pub(crate) policy: &'static str,
    pub(crate) load: Times,
    pub(crate) unload: Times,
}

/// All that was measured, and how much there was to find.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThreadCase {
    pub(crate) cells: Vec<Cell>,
    pub(crate) changes: Vec<Changes>,
    /// How many ranges there were at each moment.
    pub(crate) ranges: Vec<(Moment, usize)>,
}

impl ThreadCase {
    /// Nanoseconds a lookup, if that was measured.
    pub(crate) fn latency(&self, policy: &str, family: Family, moment: Moment) -> Option<f64> {
        let is_it = |cell: &&Cell| cell.policy == policy && cell.family == family && cell.moment == moment;
        self.cells.iter().find(is_it).map(|cell| cell.latency.summary().median)
    }
}

pub(crate) fn measure(rounds: usize) -> Result<ThreadCase, String> {
    let policies = policies::all();
    let mut memories = Memories { live: BTreeMap::new(), gone: Vec::new() };
    let mut result = ThreadCase::default();
    let [load, unload] = replay::events()?;
    for (moment, events) in [(Moment::Loaded, &load), (Moment::Unloaded, &unload)] {
        for event in events {
            policies.iter().for_each(|policy| event.apply(policy));
            memories.follow(event);
        }
        result.ranges.push((moment, memories.live.len()));
        for family in Family::ALL {
            let addresses = family.addresses(&memories);
            check(&policies, &memories, &addresses)?;
            let mut cells: Vec<Cell> =
                policies.iter().map(|policy| cell(policy, family, moment, &memories, &addresses)).collect();
            for _ in 0..rounds {
                for (policy, cell) in policies.iter().zip(&mut cells) {
                    let contender = policy.index.contender();
                    contender.throughput(&addresses);
                    addresses.chunks(PIECE).for_each(|piece| cell.latency.push(contender.latency(piece)));
                }
            }
            result.cells.extend(cells);
        }
    }
    result.changes = changes(&load, &unload, rounds);
    Ok(result)
}

/// Loads and unloads everything again, as often as there are rounds.
fn changes(load: &[Event], unload: &[Event], rounds: usize) -> Vec<Changes> {
    let mut changes: Vec<Changes> = policies::all()
        .into_iter()
        .map(|policy| Changes { policy: policy.name, load: Times::default(), unload: Times::default() })
        .collect();
    for _ in 0..rounds {
        for (policy, changes) in policies::all().into_iter().zip(&mut changes) {
            for (events, times) in [(load, &mut changes.load), (unload, &mut changes.unload)] {
                let start = Instant::now();
                events.iter().for_each(|event| event.apply(&policy));
                times.push(start.elapsed().as_nanos() as f64 / events.len() as f64);
            }
        }
    }
    changes
}

impl Memories {
    fn follow(&mut self, event: &Event) {
        match *event {
            Event::Insert(extent, owner) => {
                self.live.insert(extent.start, (extent, owner));
            }
            Event::Remove(start) => {
                let (extent, _) = self.live.remove(&start).expect("what is removed was inserted");
                self.gone.push(extent);
            }
        }
    }

    /// The number of the owner, 0 for nobody.
    fn owner(&self, address: u32) -> u32 {
        match self.live.range(..=address).next_back() {
            Some((_, (extent, owner))) if extent.contains(address) => owner.id().number(),
            _ => 0,
        }
    }
}

/// A policy that turns an address of a module away would be fast.
fn check(policies: &[Policy], memories: &Memories, addresses: &[u64]) -> Result<(), String> {
    for policy in policies {
        let wrong = addresses
            .iter()
            .find(|&&address| policy.index.owner(address as u32) != memories.owner(address as u32));
        if let Some(address) = wrong {
            return Err(format!("{}: wrong owner of {address:#x}", policy.name));
        }
    }
    Ok(())
}

fn cell(policy: &Policy, family: Family, moment: Moment, memories: &Memories, addresses: &[u64]) -> Cell {
    let count = addresses.len() as f64;
    let addresses = || addresses.iter().map(|&address| address as u32);
    let in_vain =
        addresses().filter(|&address| policy.index.enters(address) && memories.owner(address) == 0).count();
    let lines: usize = addresses().map(|address| policy.index.lines(address)).sum();
    Cell {
        policy: policy.name,
        family,
        moment,
        in_vain: in_vain as f64 / count,
        lines: lines as f64 / count,
        latency: Times::default(),
    }
}
