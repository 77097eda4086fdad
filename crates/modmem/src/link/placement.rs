//! Placing: a run address and a write view for each memory of a layout.

use alloc::vec::Vec;

use crate::address::RunAddr;
use crate::layout::{Layout, MemoryKind, SectionPlace, byte_range};
use crate::space::{Block, Memory, PerCpuPlace, Protection, Request, SpaceError};

/// A layout with its blocks. Dropping it gives the blocks back.
#[derive(Debug)]
pub struct Placement<B> {
    layout: Layout,
    /// In the layout's order; a block that was given back early is `None`.
    blocks: Vec<Option<B>>,
    percpu: PerCpuPlace,
}

impl<B: Block> Placement<B> {
    /// Allocates the blocks of `layout`, in Linux's order.
    ///
    /// # Errors
    /// A block could not be had; those before it have been given back.
    pub fn allocate<M: Memory<Block = B>>(
        layout: Layout,
        memory: &mut M,
    ) -> Result<Placement<B>, SpaceError> {
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(layout.blocks().len()).map_err(|_| SpaceError::OutOfMemory)?;
        let alignment = layout.page_size();
        for block in layout.blocks() {
            blocks.push(Some(memory.allocate(Request { kind: block.kind, size: block.size, alignment })?));
        }
        Ok(Placement { layout, blocks, percpu: PerCpuPlace::given(0) })
    }

    /// Gives the module's percpu data its place.
    #[must_use]
    pub fn with_percpu(mut self, place: PerCpuPlace) -> Placement<B> {
        self.percpu = place;
        self
    }

    /// The layout that was placed.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Value of a symbol at the start of the module's percpu data.
    pub fn percpu(&self) -> u64 {
        self.percpu.base()
    }

    /// Where a memory starts, if the module has it.
    pub fn address(&self, kind: MemoryKind) -> Option<RunAddr> {
        let memory = self.layout.memories()[kind];
        let block = self.blocks.get(memory.block).filter(|_| memory.allocated > 0)?;
        Some(block.as_ref()?.address() + memory.offset)
    }

    /// Where a section starts.
    pub(crate) fn section_address(&self, place: SectionPlace) -> RunAddr {
        // A section of size 0 may lie in a memory that is otherwise empty; Linux leaves such a base NULL.
        self.address(place.kind).unwrap_or_default() + place.offset
    }

    /// The bytes of a memory; none if the module has no such memory.
    pub fn bytes(&self, kind: MemoryKind) -> &[u8] {
        let memory = self.layout.memories()[kind];
        let range = memory.offset as usize..(memory.offset + memory.allocated) as usize;
        let block = self.blocks.get(memory.block).and_then(Option::as_ref);
        block.and_then(|block| block.bytes().get(range)).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self, kind: MemoryKind) -> &mut [u8] {
        let memory = self.layout.memories()[kind];
        let range = memory.offset as usize..(memory.offset + memory.allocated) as usize;
        let block = self.blocks.get_mut(memory.block).and_then(Option::as_mut);
        block.and_then(|block| block.bytes_mut().get_mut(range)).unwrap_or_default()
    }

    /// Whether a memory is zero where nobody has written to it.
    pub(crate) fn was_zeroed(&self, kind: MemoryKind) -> bool {
        let block = self.blocks.get(self.layout.memories()[kind].block).and_then(Option::as_ref);
        block.is_some_and(Block::was_zeroed)
    }

    /// The bytes of two memories of different blocks.
    pub(crate) fn two_bytes_mut(&mut self, first: MemoryKind, second: MemoryKind) -> Option<[&mut [u8]; 2]> {
        let memories = [first, second].map(|kind| self.layout.memories()[kind]);
        let blocks = self.blocks.get_disjoint_mut(memories.map(|memory| memory.block)).ok()?;
        let mut parts = blocks.into_iter().zip(memories).map(|(block, memory)| {
            let range = memory.offset as usize..(memory.offset + memory.allocated) as usize;
            block.as_mut().and_then(|block| block.bytes_mut().get_mut(range))
        });
        Some([parts.next()??, parts.next()??])
    }

    /// The bytes of a section of that size.
    pub(crate) fn section_bytes(&self, place: SectionPlace, size: u64) -> &[u8] {
        self.bytes(place.kind).get(byte_range(place, size)).unwrap_or_default()
    }

    pub(crate) fn section_bytes_mut(&mut self, place: SectionPlace, size: u64) -> &mut [u8] {
        self.bytes_mut(place.kind).get_mut(byte_range(place, size)).unwrap_or_default()
    }

    /// The memory that `address` lies in, and how far in.
    pub fn locate(&self, address: RunAddr) -> Option<(MemoryKind, u64)> {
        MemoryKind::ALL.into_iter().find_map(|kind| {
            let offset = address.offset_from(self.address(kind)?)?;
            (offset < self.layout.memories()[kind].allocated).then_some((kind, offset))
        })
    }

    /// Changes the protection of a memory at its run address.
    pub(crate) fn protect(&mut self, kind: MemoryKind, protection: Protection) -> Result<(), SpaceError> {
        let memory = self.layout.memories()[kind];
        match self.blocks.get_mut(memory.block).and_then(Option::as_mut) {
            Some(block) if memory.allocated > 0 => {
                block.protect(memory.offset..memory.offset + memory.allocated, protection)
            }
            _ => Ok(()),
        }
    }

    /// Gives back the blocks that hold nothing but init memories.
    pub(crate) fn release_init(&mut self) {
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let mut kinds =
                self.layout.memories().iter().filter(|(_, m)| m.allocated > 0 && m.block == index);
            if kinds.all(|(kind, _)| kind.is_init()) {
                *block = None;
            }
        }
    }
}
