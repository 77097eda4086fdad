//! A modelled kernel address space: addresses as vmalloc gives them, bytes wherever the backing keeps them.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use spin::Mutex;

use super::backing::{Backing, Fresh, HeapBacking};
use super::free_list::FreeList;
use super::held::{HeldRange, SharedRanges};
use super::packs::{PackedRange, Packs};
use super::{Block, Memory, Protection, Request, SpaceError};
use crate::address::RunAddr;
use crate::layout::MemoryKind;
use crate::profile::{Profile, Ranges};

/// Unmapped bytes behind each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// None: blocks may touch.
    None,
    /// One page, as vmalloc has it (mm/vmalloc.c:__get_vm_area_node, without VM_NO_GUARD).
    Page,
}

/// A modelled address space that modules are loaded into.
///
/// Text and data come from ranges that may be one and the same (x86-64) or lie far apart (32-bit PowerPC); within a
/// range the lowest hole that fits is taken. Where the profile has packs, text is cut from these. Clones share the
/// space, and so do its blocks, which return their addresses when they are dropped.
#[derive(Clone)]
pub struct AddressSpace<B: Backing = HeapBacking> {
    shared: SharedRanges,
    packs: Option<Packs>,
    backing: B,
    ranges: Ranges,
    guard: u64,
    page_size: u64,
    exact_holes: bool,
}

impl AddressSpace<HeapBacking> {
    /// The space of the kernel that `profile` describes, empty, with bytes on the heap.
    pub fn new(profile: &Profile) -> AddressSpace<HeapBacking> {
        AddressSpace::with_backing(profile, HeapBacking, Guard::Page)
    }
}

impl<B: Backing> AddressSpace<B> {
    /// The same with bytes kept by `backing`, and a choice of guards.
    pub fn with_backing(profile: &Profile, backing: B, guard: Guard) -> AddressSpace<B> {
        let ranges = profile.ranges.clone();
        let mut free = FreeList::new();
        let mut extents: Vec<Range<u64>> = [Some(&ranges.text), Some(&ranges.data), ranges.fallback.as_ref()]
            .into_iter()
            .flatten()
            .map(|range| range.start.0..range.end.0)
            .filter(|range| !range.is_empty())
            .collect();
        extents.sort_unstable_by_key(|range| range.start);
        let mut end = 0;
        for extent in extents {
            let start = extent.start.max(end);
            end = end.max(extent.end);
            // Three ranges at most; without memory for them the space is empty and every allocation says so.
            let _ = start < end && free.release(start..end).is_ok();
        }
        let guard = match guard {
            Guard::None => 0,
            Guard::Page => profile.page_size,
        };
        let packs = profile.text_pack.map(|size| Packs::new(size, profile.packs_keep_alignment));
        let shared = SharedRanges::new(free);
        let (page_size, exact_holes) = (profile.page_size, profile.exact_holes);
        AddressSpace { shared, packs, backing, ranges, guard, page_size, exact_holes }
    }

    /// Takes `range` out of the space for good: what the kernel itself keeps there, such as BPF's program packs.
    ///
    /// # Errors
    /// The range is empty, partly taken or outside the space.
    pub fn reserve(&mut self, range: Range<RunAddr>) -> Result<(), SpaceError> {
        match self.shared.reserve(range.start.0..range.end.0) {
            Ok(true) => Ok(()),
            Ok(false) => Err(SpaceError::NotFree { range }),
            Err(_) => Err(SpaceError::OutOfMemory),
        }
    }

    /// Allocates a block at `address`, where another kernel has the same memory, without a guard behind it.
    ///
    /// # Errors
    /// There is something, or that is outside the space; there are no bytes for it.
    pub fn allocate_at(
        &mut self,
        address: RunAddr,
        request: Request,
    ) -> Result<SpaceBlock<B::Bytes>, SpaceError> {
        let size = request.size;
        let not_free = |end| SpaceError::NotFree { range: address..RunAddr(end) };
        let end = address.0.checked_add(size).ok_or_else(|| not_free(u64::MAX))?;
        let held = self.shared.take(size, 1, address.0..end).map_err(|_| SpaceError::OutOfMemory)?;
        self.block(Held::Alone(held.ok_or_else(|| not_free(end))?), size)
    }

    fn block(&mut self, held: Held, size: u64) -> Result<SpaceBlock<B::Bytes>, SpaceError> {
        let length = usize::try_from(size).map_err(|_| SpaceError::NoBytes { size })?;
        let Fresh { bytes, zeroed } = self.backing.bytes(length).ok_or(SpaceError::NoBytes { size })?;
        let protections = Mutex::new(Protections { whole: Protection::ReadWrite, parts: Vec::new() });
        Ok(SpaceBlock { bytes, zeroed, protections, held })
    }

    /// The ranges that memory comes from.
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Bytes of the guard behind each block.
    pub fn guard_size(&self) -> u64 {
        self.guard
    }

    /// The holes, ascending: what no block, guard, pack or reservation takes.
    pub fn holes(&self) -> Vec<Range<RunAddr>> {
        self.shared.holes()
    }

    /// What no text takes of the packs that text is cut from, ascending.
    pub fn pack_holes(&self) -> Vec<Range<RunAddr>> {
        self.packs.as_ref().map(Packs::holes).unwrap_or_default()
    }

    /// How large a hole must be to be looked at (mm/vmalloc.c:__alloc_vmap_area).
    fn least_hole(&self, size: u64, alignment: u64, range: &Range<u64>) -> u64 {
        let exact = alignment <= self.page_size || range.end.saturating_sub(range.start) == size;
        match exact && self.exact_holes {
            true => size,
            false => size.saturating_add(alignment - 1),
        }
    }

    fn range_for(&self, kind: MemoryKind) -> (&Range<RunAddr>, Option<&Range<RunAddr>>) {
        let fallback = self.ranges.fallback.as_ref();
        match kind.is_text() {
            true => (&self.ranges.text, fallback),
            false => (&self.ranges.data, fallback.filter(|_| self.ranges.text == self.ranges.data)),
        }
    }
}

impl<B: Backing> Memory for AddressSpace<B> {
    type Block = SpaceBlock<B::Bytes>;

    fn allocate(&mut self, request: Request) -> Result<Self::Block, SpaceError> {
        let Request { kind, size, alignment } = request;
        let (first, fallback) = self.range_for(kind);
        let alignment = alignment.max(self.page_size);
        let ranges = || [Some(first), fallback].into_iter().flatten().map(|range| range.start.0..range.end.0);
        let take = |size: u64, alignments: &[u64]| {
            let Some(whole) = size.checked_add(self.guard) else { return Ok(None) };
            let tried = ranges().flat_map(|range| alignments.iter().map(move |&by| (range.clone(), by)));
            let mut taken = tried.filter_map(|(range, alignment)| {
                let hole = self.least_hole(whole, alignment, &range);
                self.shared.take_from_hole(whole, alignment, range, hole).transpose()
            });
            taken.next().transpose()
        };
        let held = match self.packs.as_ref().filter(|_| kind.is_text()) {
            Some(packs) => packs.take(size, alignment, ranges(), take).map(|held| held.map(Held::Packed)),
            None => take(size, &[alignment]).map(|held| held.map(Held::Alone)),
        };
        let held = held.map_err(|_| SpaceError::OutOfMemory)?;
        let held = held.ok_or_else(|| SpaceError::NoRoom { kind, size, range: first.clone() })?;
        self.block(held, size)
    }
}

impl<B: Backing> fmt::Debug for AddressSpace<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressSpace").field("ranges", &self.ranges).finish_non_exhaustive()
    }
}

/// A block of an [`AddressSpace`].
pub struct SpaceBlock<T> {
    bytes: T,
    zeroed: bool,
    protections: Mutex<Protections>,
    held: Held,
}

/// Whose the addresses of a block are.
enum Held {
    /// The block's, and the guard behind it.
    Alone(HeldRange),
    /// A pack's, which others have a part of too.
    Packed(PackedRange),
}

impl Held {
    fn range(&self) -> &Range<u64> {
        match self {
            Held::Alone(held) => held.range(),
            Held::Packed(packed) => packed.range(),
        }
    }
}

/// Protection of a whole block, and of parts that were changed after it, the latest last.
struct Protections {
    whole: Protection,
    parts: Vec<(Range<u64>, Protection)>,
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Block for SpaceBlock<T> {
    fn address(&self) -> RunAddr {
        RunAddr(self.held.range().start)
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut()
    }

    fn was_zeroed(&self) -> bool {
        self.zeroed
    }

    fn protection(&self, offset: u64) -> Option<Protection> {
        let protections = self.protections.lock();
        let latest = protections.parts.iter().rev().find(|(part, _)| part.contains(&offset));
        Some(latest.map_or(protections.whole, |&(_, protection)| protection))
    }

    /// Modelled memory never runs: the protection is remembered, for whoever checks.
    fn protect(&self, part: Range<u64>, protection: Protection) -> Result<(), SpaceError> {
        let mut protections = self.protections.lock();
        if part.start == 0 && part.end == self.bytes.as_ref().len() as u64 {
            protections.parts.clear();
            protections.whole = protection;
            return Ok(());
        }
        protections.parts.try_reserve(1).map_err(|_| SpaceError::OutOfMemory)?;
        protections.parts.push((part, protection));
        Ok(())
    }
}

impl<T> fmt::Debug for SpaceBlock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.held.range();
        write!(f, "SpaceBlock({start:#x}..{end:#x})")
    }
}
