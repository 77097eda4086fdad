//! Lays ranges out.

use std::collections::BTreeMap;

use modmem_index::{Extent, MemoryKind, Owner, OwnerId};

use super::{Layout, PAGE, Range, Workload, sizes};
use crate::random::Random;

/// One module in so many is still loading and has its init memory.
const STILL_LOADING: u32 = 32;

pub(super) fn build(layout: Layout, count: usize) -> Workload {
    let mut random = Random::new(0x6d6f_646d_656d ^ count as u64);
    let (windows, mut memories) = match layout {
        Layout::X86_64 => x86_64(count, &mut random),
        Layout::TwoWindows => two_windows(count, &mut random),
        Layout::SharedPages => shared_pages(count, &mut random),
    };
    memories.sort_by_key(|memory| memory.extent.start);
    let ranges: Vec<Range> = memories.iter().zip(1..).map(|(memory, number)| memory.range(number)).collect();

    let gaps = ranges.windows(2).filter(|pair| pair[0].end() < pair[1].extent.start).filter_map(|pair| {
        let gap = Extent { start: pair[0].end(), size: pair[1].extent.start - pair[0].end() };
        windows
            .iter()
            .any(|window| window.contains(gap.start) && window.contains(pair[1].extent.start))
            .then_some(gap)
    });
    let gaps = gaps.collect();
    Workload { windows, gaps, outside: outside(layout), ranges }
}

/// A range before its owner has a number.
struct Memory {
    extent: Extent<u64>,
    kind: MemoryKind,
    module: u32,
}

impl Memory {
    fn range(&self, number: u32) -> Range {
        let id = OwnerId::new(number).expect("fewer ranges than there are ids");
        Range { extent: self.extent, owner: Owner::new(id, self.kind), module: self.module }
    }
}

fn x86_64(count: usize, random: &mut Random) -> (Vec<Extent<u64>>, Vec<Memory>) {
    let window = Extent { start: 0xffff_ffff_c000_0000, size: 0x3f00_0000 };
    let mut free = BTreeMap::from([(window.start, window.size)]);
    let mut memories = Vec::new();
    for module in 0.. {
        let first = memories.len();
        for kind in MemoryKind::ALL {
            let Some(used) = sizes::draw(kind, random) else { continue };
            let size = used.next_multiple_of(PAGE);
            let start = first_fit(&mut free, size + PAGE);
            memories.push(Memory { extent: Extent { start, size }, kind, module });
        }
        if module % STILL_LOADING != 0 {
            for memory in memories.extract_if(first.., |memory| memory.kind.is_init()) {
                give_back(&mut free, memory.extent.start, memory.extent.size + PAGE);
            }
        }
        if memories.len() >= count {
            memories.truncate(count);
            break;
        }
    }
    (vec![window], memories)
}

/// Takes the lowest free addresses that are enough.
fn first_fit(free: &mut BTreeMap<u64, u64>, size: u64) -> u64 {
    let hole = free.iter().find(|&(_, &length)| length >= size);
    let (&start, &length) = hole.expect("the window is large enough for the largest workload");
    free.remove(&start);
    if length > size {
        free.insert(start + size, length - size);
    }
    start
}

fn give_back(free: &mut BTreeMap<u64, u64>, mut start: u64, mut size: u64) {
    if let Some(behind) = free.remove(&(start + size)) {
        size += behind;
    }
    if let Some((&before, &length)) =
        free.range(..start).next_back().filter(|&(&at, &length)| at + length == start)
    {
        start = before;
        size += length;
    }
    free.insert(start, size);
}

/// Pages between two memories, at most: with it, 30,000 ranges lie in about 1,500 MiB of addresses.
const GAP: u64 = 14;

fn two_windows(count: usize, random: &mut Random) -> (Vec<Extent<u64>>, Vec<Memory>) {
    let text = Extent { start: 0xffff_8000_0000_0000, size: 1 << 30 };
    let data = Extent { start: 0xffff_c000_0000_0000, size: 2 << 30 };
    let mut next = [text.start, data.start];
    let mut memories = Vec::new();
    for module in 0.. {
        for kind in MemoryKind::ALL {
            if kind.is_init() && module % STILL_LOADING != 0 {
                continue;
            }
            let Some(used) = sizes::draw(kind, random) else { continue };
            let size = used.next_multiple_of(PAGE);
            let next = &mut next[usize::from(!kind.is_text())];
            let start = *next + (1 + random.below(GAP)) * PAGE;
            *next = start + size;
            memories.push(Memory { extent: Extent { start, size }, kind, module });
        }
        if memories.len() >= count {
            memories.truncate(count);
            break;
        }
    }
    assert!(text.contains(next[0]) && data.contains(next[1]), "the windows are large enough");
    (vec![text, data], memories)
}

fn shared_pages(count: usize, random: &mut Random) -> (Vec<Extent<u64>>, Vec<Memory>) {
    let window = Extent { start: 0x7f12_3400_0000, size: 128 << 20 };
    let mut next = window.start;
    let mut memories = Vec::new();
    let mut piece = 0;
    while memories.len() < count {
        // From 200 to 4,000 bytes, small ones more often: each doubling is equally likely.
        let scale = random.below(1 << 16) as f64 / 65536.0;
        let size = (200.0 * 20_f64.powf(scale)) as u64;
        if piece % 8 != 7 {
            let extent = Extent { start: next, size };
            // Seven at a time share a descriptor, where a structure has descriptors.
            let module = memories.len() as u32 / 7;
            memories.push(Memory { extent, kind: MemoryKind::Text, module });
        }
        next += size.next_multiple_of(16);
        piece += 1;
    }
    (vec![window], memories)
}

/// Where the addresses are that are asked for and cannot be a module's.
fn outside(layout: Layout) -> Vec<Extent<u64>> {
    let extents: &[(u64, u64)] = match layout {
        // The kernel's text, the direct map, a program and its stack: all below the module range.
        Layout::X86_64 => &[
            (0xffff_ffff_8100_0000, 0x0200_0000),
            (0xffff_8880_0000_0000, 0x4_0000_0000),
            (0x5555_5555_0000, 0x0100_0000),
            (0x7fff_ff00_0000, 0x00f0_0000),
        ],
        // Above both windows: as Linux 6.12 keeps its bounds, every address below the end of data passes them.
        Layout::TwoWindows => &[(0xffff_e000_0000_0000, 0x4_0000_0000), (0xffff_ffff_8000_0000, 0x4000_0000)],
        // A program's own text and heap, a shared object, the stack.
        Layout::SharedPages => &[
            (0x5555_5555_0000, 0x0100_0000),
            (0x7f99_0000_0000, 0x0200_0000),
            (0x7fff_ff00_0000, 0x00f0_0000),
        ],
    };
    extents.iter().map(|&(start, size)| Extent { start, size }).collect()
}
