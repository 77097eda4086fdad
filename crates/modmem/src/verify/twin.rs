//! A module twice: as it must be, and as the guest has it.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::evidence::Variable;
use super::given::{GivenBlock, is_gone};
use super::{Guest, GuestModule, Rule, VerifyError};
use crate::address::RunAddr;
use crate::image::elf::Format;
use crate::layout::{MemoryKind, PerKind};
use crate::link::Placement;

/// How sure it is that a patched place must look as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It must.
    Certain,
    /// One of two states; nothing says which it should be.
    Unproven,
    /// What is found would be right if this were otherwise.
    OutOfStep(Variable),
    /// What is found is the right kind of branch, to a wrong place.
    WrongTarget(RunAddr),
    /// What is found is the address of a description, but not of one that may be named there.
    WrongMark(RunAddr),
}

/// A place that a rule has written to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patch {
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) rule: Rule,
    pub(crate) standing: Standing,
}

/// A module as the loader makes it, at the guest's addresses, beside the guest's bytes.
#[derive(Debug)]
pub(crate) struct Twin<'g> {
    placement: Placement<GivenBlock>,
    format: Format,
    /// As the relocated file has it, before anything was patched.
    relocated: PerKind<Vec<u8>>,
    found: PerKind<Option<Cow<'g, [u8]>>>,
    patches: PerKind<Vec<Patch>>,
    out_of_memory: bool,
}

impl<'g> Twin<'g> {
    pub(super) fn new(
        placement: Placement<GivenBlock>,
        format: Format,
        guest: &'g dyn Guest,
        module: &GuestModule<'_>,
    ) -> Result<Twin<'g>, VerifyError> {
        let mut relocated = PerKind::<Vec<u8>>::default();
        let mut found = PerKind::default();
        for kind in MemoryKind::ALL {
            let Some(address) = placement.address(kind).filter(|_| !is_gone(kind, module)) else { continue };
            let bytes = placement.bytes(kind);
            relocated[kind].try_reserve_exact(bytes.len()).map_err(|_| VerifyError::OutOfMemory)?;
            relocated[kind].extend_from_slice(bytes);
            let length = bytes.len();
            found[kind] = guest.bytes(address, length).filter(|found| found.len() == length);
        }
        Ok(Twin { placement, format, relocated, found, patches: PerKind::default(), out_of_memory: false })
    }

    /// Width of addresses and byte order.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn placement(&self) -> &Placement<GivenBlock> {
        &self.placement
    }

    pub(super) fn relocated(&self, kind: MemoryKind) -> &[u8] {
        &self.relocated[kind]
    }

    pub(super) fn found_memory(&self, kind: MemoryKind) -> Option<&[u8]> {
        self.found[kind].as_deref()
    }

    pub(super) fn patches(&self, kind: MemoryKind) -> &[Patch] {
        &self.patches[kind]
    }

    pub(super) fn patches_mut(&mut self, kind: MemoryKind) -> &mut Vec<Patch> {
        &mut self.patches[kind]
    }

    /// Something could not be kept: there will be no result.
    pub(super) fn out_of_memory(&mut self) {
        self.out_of_memory = true;
    }

    pub(super) fn check(&self) -> Result<(), VerifyError> {
        if self.out_of_memory { Err(VerifyError::OutOfMemory) } else { Ok(()) }
    }

    fn range(&self, address: RunAddr, length: usize) -> Option<(MemoryKind, core::ops::Range<usize>)> {
        let (kind, offset) = self.placement.locate(address)?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.placement.bytes(kind).len()).then_some((kind, start..end))
    }

    /// Bytes as they must be so far.
    pub(crate) fn ours(&self, address: RunAddr, length: usize) -> Option<&[u8]> {
        let (kind, range) = self.range(address, length)?;
        self.placement.bytes(kind).get(range)
    }

    /// Bytes as the relocated file has them.
    pub(crate) fn relocated_at(&self, address: RunAddr, length: usize) -> Option<&[u8]> {
        let (kind, range) = self.range(address, length)?;
        self.relocated[kind].get(range)
    }

    /// As many bytes from `address` on as there are, at most `length`.
    pub(crate) fn ours_up_to(&self, address: RunAddr, length: usize) -> &[u8] {
        let Some((kind, offset)) = self.placement.locate(address) else { return &[] };
        let rest = self.placement.bytes(kind).get(offset as usize..).unwrap_or_default();
        &rest[..rest.len().min(length)]
    }

    /// Bytes as the guest has them.
    pub(crate) fn found(&self, address: RunAddr, length: usize) -> Option<&[u8]> {
        let (kind, range) = self.range(address, length)?;
        self.found[kind].as_deref()?.get(range)
    }

    /// Whether the bytes at `address` are code that is still there.
    pub(crate) fn has_text(&self, address: RunAddr) -> bool {
        self.placement.locate(address).is_some_and(|(kind, _)| kind.is_text() && self.found[kind].is_some())
    }

    /// The memory that an address is in.
    pub(crate) fn kind_at(&self, address: RunAddr) -> Option<MemoryKind> {
        self.placement.locate(address).map(|(kind, _)| kind)
    }

    /// Writes what a rule makes of a place.
    pub(crate) fn write(&mut self, address: RunAddr, bytes: &[u8], rule: Rule, standing: Standing) {
        let Some((kind, range)) = self.range(address, bytes.len()) else { return };
        let patch = Patch { offset: range.start as u32, length: bytes.len() as u32, rule, standing };
        if let Some(place) = self.placement.bytes_mut(kind).get_mut(range) {
            place.copy_from_slice(bytes);
        }
        let patches = &mut self.patches[kind];
        if patches.try_reserve(1).is_err() {
            self.out_of_memory = true;
            return;
        }
        patches.push(patch);
    }

    /// The 32-bit word at `address`, sign-extended.
    pub(crate) fn offset32(&self, address: RunAddr) -> Option<i64> {
        Some(i64::from(self.word32(address)? as i32))
    }

    /// The 32-bit word at `address`.
    pub(crate) fn word32(&self, address: RunAddr) -> Option<u32> {
        Some(self.format.order.u32(*self.ours(address, 4)?.first_chunk()?))
    }

    /// The address-sized word at `address`.
    pub(crate) fn word(&self, address: RunAddr) -> Option<u64> {
        self.format.read_word(self.ours(address, self.format.word())?)
    }
}
