//! What is looked up, and in what: ranges laid out as in three kinds of address space, and addresses to ask for.

mod layout;
mod sizes;

use modmem_index::{Extent, Owner};

use crate::random::Random;

pub(crate) const PAGE: u64 = 4096;
/// How many addresses one pass asks for: 512 KiB of them, read in order, so that no branch predictor learns them.
pub(crate) const QUERIES: usize = 1 << 16;

/// An address space of the kind that an index is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// x86-64's module range of 1,008 MiB. Modules take up to seven memories of whole pages, first fit, each with a
    /// guard page behind it; init memory is given back, and its holes are used again.
    X86_64,
    /// Text in one window of 1 GiB, data in another of 2 GiB, far apart, with gaps of up to 14 pages: no two ranges
    /// share a cache line of a page table's kind.
    TwoWindows,
    /// Pieces of some hundred to few thousand bytes side by side, as code of a JIT compiler or text packed into
    /// large pages; each eighth is free.
    SharedPages,
}

impl Layout {
    pub(crate) const ALL: [Layout; 3] = [Layout::X86_64, Layout::TwoWindows, Layout::SharedPages];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Layout::X86_64 => "x86-64",
            Layout::TwoWindows => "two windows",
            Layout::SharedPages => "shared pages",
        }
    }
}

/// A range and whom it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) extent: Extent<u64>,
    /// Each range has an id of its own, from 1 on in address order, so that a wrong neighbour cannot pass.
    pub(crate) owner: Owner,
    /// The module that it is a memory of.
    pub(crate) module: u32,
}

impl Range {
    /// Behind the last address. No range here ends at the top of the address space.
    pub(crate) fn end(&self) -> u64 {
        self.extent.start + self.extent.size
    }

    pub(crate) fn number(&self) -> u32 {
        self.owner.id().number()
    }
}

/// Ranges, and where they may be.
#[derive(Debug)]
pub(crate) struct Workload {
    /// Text and data, or one for both.
    pub(crate) windows: Vec<Extent<u64>>,
    /// In address order.
    pub(crate) ranges: Vec<Range>,
    /// Between ranges, never from window to window.
    gaps: Vec<Extent<u64>>,
    /// Where programs' other addresses are: beyond all ranges, and beyond all bounds that a scheme may have.
    outside: Vec<Extent<u64>>,
}

/// Addresses to ask for, and who owns each (0 for nobody).
#[derive(Debug)]
pub(crate) struct Queries {
    pub(crate) addresses: Vec<u64>,
    pub(crate) expected: Vec<u32>,
}

/// Where the addresses of a pass come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// In a range, each range equally likely.
    Hit,
    /// In a gap between ranges.
    Gap,
    /// Beyond all bounds.
    Outside,
}

impl Family {
    pub(crate) const ALL: [Family; 3] = [Family::Hit, Family::Gap, Family::Outside];
}

impl Workload {
    pub(crate) fn new(layout: Layout, count: usize) -> Workload {
        layout::build(layout, count)
    }

    pub(crate) fn queries(&self, family: Family, seed: u64) -> Queries {
        let mut random = Random::new(seed);
        let mut queries =
            Queries { addresses: Vec::with_capacity(QUERIES), expected: Vec::with_capacity(QUERIES) };
        for _ in 0..QUERIES {
            let (extent, owner) = match family {
                Family::Hit => {
                    let range = random.pick(&self.ranges);
                    (range.extent, range.number())
                }
                Family::Gap => (*random.pick(&self.gaps), 0),
                Family::Outside => (*random.pick(&self.outside), 0),
            };
            queries.addresses.push(extent.start + random.below(extent.size));
            queries.expected.push(owner);
        }
        queries
    }

    /// The ranges in the order in which they came: module by module, each module's memories by type.
    pub(crate) fn in_load_order(&self) -> Vec<Range> {
        let mut ranges = self.ranges.clone();
        ranges.sort_by_key(|range| (range.module, range.owner.kind(), range.extent.start));
        ranges
    }

    /// Some ranges, each at most once, in no order.
    pub(crate) fn sample(&self, count: usize, seed: u64) -> Vec<Range> {
        let mut ranges = self.ranges.clone();
        Random::new(seed).shuffle(&mut ranges);
        ranges.truncate(count);
        ranges
    }
}
