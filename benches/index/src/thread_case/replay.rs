//! What the recorded kernel loaded and unloaded: the table that the library's own tests replay.

use std::collections::HashMap;

use modmem_index::{Extent, MemoryKind, Owner, OwnerId};

use super::policies::Policy;

const TABLE: &str = include_str!("../../../../crates/modmem-index/tests/data/ppc32-6.12.txt");

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Insert(Extent<u32>, Owner),
    Remove(u32),
}

impl Event {
    pub(super) fn apply(self, policy: &Policy) {
        match self {
            Event::Insert(extent, owner) => policy.index.insert(extent, owner),
            Event::Remove(start) => policy.index.remove(start),
        }
    }
}

/// All loads, then all unloads. Each range has an owner of its own, so that a wrong neighbour cannot pass.
pub(super) fn events() -> Result<[Vec<Event>; 2], String> {
    let (mut load, mut unload) = (Vec::new(), Vec::new());
    let mut core: HashMap<&str, Vec<u32>> = HashMap::new();
    let mut numbers = 1..;
    for line in TABLE.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            // The words of the kernel's bounds are what the library's tests compare with.
            ["load", module, _, _, _, _, _, _, ref memories @ ..] => {
                let mut init = Vec::new();
                for memory in memories {
                    let (kind, extent) = parse(memory).ok_or_else(|| format!("not understood: {line}"))?;
                    let id = numbers.next().and_then(OwnerId::new).ok_or("too many ranges")?;
                    load.push(Event::Insert(extent, Owner::new(id, kind)));
                    let group = if kind.is_init() { &mut init } else { core.entry(module).or_default() };
                    group.push(extent.start);
                }
                load.extend(init.into_iter().map(Event::Remove));
            }
            ["unload", module, ..] => {
                let memories = core.remove(module).ok_or_else(|| format!("{module} was not loaded"))?;
                unload.extend(memories.into_iter().map(Event::Remove));
            }
            _ => {}
        }
    }
    if load.is_empty() || unload.is_empty() {
        return Err("the table of the recorded kernel has no loads or no unloads".to_owned());
    }
    Ok([load, unload])
}

/// `KIND:START+SIZE`
fn parse(memory: &str) -> Option<(MemoryKind, Extent<u32>)> {
    let (name, range) = memory.split_once(':')?;
    let (start, size) = range.split_once('+')?;
    let kind = MemoryKind::ALL.into_iter().find(|kind| kind.name() == name)?;
    let hex = |text| u32::from_str_radix(text, 16).ok();
    Some((kind, Extent { start: hex(start)?, size: hex(size)? }))
}
