//! Memory at addresses that somebody else chose: where a running kernel has a module.

use alloc::vec::Vec;
use core::ops::Range;

use super::{GuestModule, VerifyError};
use crate::address::RunAddr;
use crate::image::Image;
use crate::layout::{Layout, MemoryKind, PerKind};
use crate::name::Name;
use crate::space::{Block, Memory, Protection, Request, SpaceError};

/// Hands out blocks at given addresses.
#[derive(Debug)]
pub(super) struct GivenMemory {
    addresses: PerKind<Option<RunAddr>>,
}

/// A block of ours that stands for one of the guest's.
#[derive(Debug)]
pub(crate) struct GivenBlock {
    address: RunAddr,
    bytes: Vec<u8>,
}

impl GivenMemory {
    /// The addresses of a module's blocks, from the addresses of the sections in them.
    ///
    /// # Errors
    /// Sections of one block do not lie as the layout says, or none of a block's sections is listed.
    pub(super) fn of(
        image: &Image<'_>,
        layout: &Layout,
        module: &GuestModule<'_>,
    ) -> Result<GivenMemory, VerifyError> {
        let mut addresses: PerKind<Option<RunAddr>> = PerKind::default();
        let mut listed: Vec<(Name<'_>, RunAddr)> = Vec::new();
        listed.try_reserve_exact(module.sections.len()).map_err(|_| VerifyError::OutOfMemory)?;
        listed.extend_from_slice(module.sections);
        listed.sort_unstable();
        listed.dedup();
        for section in image.sections().iter().filter(|section| layout.shape(section).size > 0) {
            let Some(place) = layout.place(section.index()) else { continue };
            let memory = layout.memories()[place.kind];
            let Some(block) = memory.block.and_then(|block| layout.blocks().get(block)) else { continue };
            // Two sections of one name must lie apart, and then neither fits: more of them say no more.
            let first = listed.partition_point(|(name, _)| *name < section.name());
            let named = listed[first..].iter().take_while(|(name, _)| *name == section.name());
            for &(_, address) in named {
                let misplaced = || VerifyError::Misplaced {
                    section: section.name().to_text().into(),
                    address,
                    kind: place.kind,
                };
                let start = address.0.checked_sub(place.offset + memory.offset);
                // Blocks are of whole pages.
                let start = start.filter(|start| start.is_multiple_of(layout.page_size()));
                let start = start.ok_or_else(misplaced)?;
                match &mut addresses[block.kind] {
                    Some(known) if known.0 != start => return Err(misplaced()),
                    slot => *slot = Some(RunAddr(start)),
                }
            }
        }
        match layout.blocks().iter().find(|block| addresses[block.kind].is_none()) {
            Some(block) => Err(VerifyError::NoAddress { kind: block.kind }),
            None => Ok(GivenMemory { addresses }),
        }
    }
}

impl Memory for GivenMemory {
    type Block = GivenBlock;

    fn allocate(&mut self, request: Request) -> Result<GivenBlock, SpaceError> {
        let size = request.size;
        let address = self.addresses[request.kind].ok_or(SpaceError::NoBytes { size })?;
        let length = usize::try_from(size).map_err(|_| SpaceError::NoBytes { size })?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| SpaceError::NoBytes { size })?;
        bytes.resize(length, 0);
        Ok(GivenBlock { address, bytes })
    }
}

impl Block for GivenBlock {
    fn address(&self) -> RunAddr {
        self.address
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn was_zeroed(&self) -> bool {
        true
    }

    fn protect(&self, _: Range<u64>, _: Protection) -> Result<(), SpaceError> {
        Ok(())
    }
}

/// The kinds whose memory the guest no longer has.
pub(super) fn is_gone(kind: MemoryKind, module: &GuestModule<'_>) -> bool {
    module.live && kind.is_init()
}
