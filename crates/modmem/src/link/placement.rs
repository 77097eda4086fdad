//! Placing: a run address and a write view for each memory of a layout.

use alloc::vec::Vec;

use modmem_index::Retirable;

use crate::address::RunAddr;
#[cfg(feature = "finalize")]
use crate::layout::PerKind;
use crate::layout::{Layout, MemoryKind, SectionPlace, byte_range};
use crate::space::{Block, Memory, PerCpuPlace, Protection, Request, SpaceError};

/// A layout with its blocks. Dropping it gives the blocks back.
#[derive(Debug)]
pub struct Placement<B> {
    layout: Layout,
    /// In the layout's order. Blocks of init memories are given back while readers may look at the others.
    blocks: Vec<Retirable<B>>,
    percpu: Option<PerCpuPlace>,
    /// Held as long as the module is there.
    beside: Option<B>,
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
            let size = block.size;
            let block = memory.allocate(Request { kind: block.kind, size, alignment })?;
            // Everything that is written later relies on this.
            if (block.bytes().len() as u64) < size {
                return Err(SpaceError::NoBytes { size });
            }
            blocks.push(Retirable::new(block));
        }
        Ok(Placement { layout, blocks, percpu: None, beside: None })
    }

    /// Gives the module's percpu data its place; a module that has such data cannot be linked without.
    #[must_use]
    pub fn with_percpu(mut self, place: PerCpuPlace) -> Placement<B> {
        self.percpu = Some(place);
        self
    }

    /// Allocates what the loader needs [beside](Layout::beside) the module's memories, as it does after those. Nothing is
    /// written there: without it, addresses of modules that come later differ from Linux's, and nothing else.
    ///
    /// # Errors
    /// It could not be had; the blocks have been given back.
    pub fn with_beside<M: Memory<Block = B>>(mut self, memory: &mut M) -> Result<Placement<B>, SpaceError> {
        let size = self.layout.beside();
        if size > 0 && self.beside.is_none() {
            let alignment = self.layout.page_size();
            self.beside = Some(memory.allocate(Request { kind: MemoryKind::Text, size, alignment })?);
        }
        Ok(self)
    }

    /// Where that is.
    pub fn beside(&self) -> Option<RunAddr> {
        self.beside.as_ref().map(Block::address)
    }

    /// The layout that was placed.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Value of a symbol at the start of the module's percpu data; 0 if that has been given no place.
    pub fn percpu(&self) -> u64 {
        self.percpu.as_ref().map_or(0, PerCpuPlace::base)
    }

    /// Whether the module has percpu data and that has been given no place.
    pub(crate) fn lacks_percpu(&self) -> bool {
        self.layout.percpu().is_some() && self.percpu.is_none()
    }

    fn block(&self, kind: MemoryKind) -> Option<&B> {
        self.blocks.get(self.layout.memories()[kind].block?)?.get()
    }

    fn block_mut(&mut self, kind: MemoryKind) -> Option<&mut B> {
        self.blocks.get_mut(self.layout.memories()[kind].block?)?.get_mut()
    }

    /// Where a memory starts, if the module has it.
    pub fn address(&self, kind: MemoryKind) -> Option<RunAddr> {
        let memory = self.layout.memories()[kind];
        let block = self.block(kind).filter(|_| memory.allocated > 0)?;
        Some(block.address() + memory.offset)
    }

    /// Where a section starts. One of size 0 may lie in a memory that has no block: Linux leaves such a base NULL.
    pub(crate) fn section_address(&self, place: SectionPlace) -> RunAddr {
        let start = self.block(place.kind).map(Block::address).unwrap_or_default();
        start + self.layout.memories()[place.kind].offset + place.offset
    }

    /// The bytes of a memory; none if the module has no such memory.
    pub fn bytes(&self, kind: MemoryKind) -> &[u8] {
        let range = self.layout.memories()[kind].range_in_block();
        self.block(kind).and_then(|block| block.bytes().get(range)).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self, kind: MemoryKind) -> &mut [u8] {
        let range = self.layout.memories()[kind].range_in_block();
        self.block_mut(kind).and_then(|block| block.bytes_mut().get_mut(range)).unwrap_or_default()
    }

    /// The layout, and the bytes of all memories at once.
    #[cfg(feature = "finalize")]
    pub(crate) fn views_mut(&mut self) -> (&Layout, PerKind<&mut [u8]>) {
        let memories = self.layout.memories();
        let mut views: PerKind<&mut [u8]> = PerKind::default();
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let Some(block) = block.get_mut() else { continue };
            let mut kinds = MemoryKind::ALL;
            kinds.sort_unstable_by_key(|kind| memories[*kind].offset);
            let (mut rest, mut at) = (block.bytes_mut(), 0);
            for kind in kinds {
                let range = memories[kind].range_in_block();
                if memories[kind].block != Some(index) || range.is_empty() || range.start < at {
                    continue;
                }
                let Some((_, behind)) = rest.split_at_mut_checked(range.start - at) else { break };
                let Some((own, behind)) = behind.split_at_mut_checked(range.len()) else { break };
                (views[kind], rest, at) = (own, behind, range.end);
            }
        }
        (&self.layout, views)
    }

    /// Whether a memory is zero where nobody has written to it.
    pub(crate) fn was_zeroed(&self, kind: MemoryKind) -> bool {
        self.block(kind).is_some_and(Block::was_zeroed)
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
    pub(crate) fn protect(&self, kind: MemoryKind, protection: Protection) -> Result<(), SpaceError> {
        let memory = self.layout.memories()[kind];
        match self.block(kind) {
            Some(block) if memory.allocated > 0 => {
                block.protect(memory.offset..memory.offset + memory.allocated, protection)
            }
            _ => Ok(()),
        }
    }

    /// What the block itself says of the first and the last byte of a memory, if it keeps track.
    pub(crate) fn block_protections(&self, kind: MemoryKind) -> impl Iterator<Item = Protection> {
        let memory = self.layout.memories()[kind];
        let ends = [memory.offset, (memory.offset + memory.allocated).saturating_sub(1)];
        let block = self.block(kind).filter(|_| memory.allocated > 0);
        ends.into_iter().filter_map(move |offset| block?.protection(offset))
    }

    /// The blocks that hold nothing but init memories.
    pub(crate) fn init_blocks(&self) -> impl Iterator<Item = &Retirable<B>> {
        self.blocks.iter().enumerate().filter_map(|(index, block)| {
            let mut kinds =
                self.layout.memories().iter().filter(|(_, m)| m.allocated > 0 && m.block == Some(index));
            kinds.all(|(kind, _)| kind.is_init()).then_some(block)
        })
    }
}
