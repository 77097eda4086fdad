//! A linked module while it is finalized: its bytes at the addresses where it runs, and what was written there.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use super::live::{LiveText, Noted, Site};
use super::{OutOfMemory, Rule, Variable};
use crate::address::RunAddr;
use crate::image::elf::Format;
use crate::layout::{Layout, MemoryKind, PerKind, SectionPlace};
use crate::link::Placement;
use crate::space::Block;

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

/// A module as the loader makes it, and, where it is compared with a guest's, that one's bytes beside it.
#[derive(Debug)]
pub(crate) struct Target<'t> {
    layout: &'t Layout,
    format: Format,
    /// Where each memory starts, also one that has no bytes.
    starts: PerKind<RunAddr>,
    bytes: PerKind<&'t mut [u8]>,
    /// Memories that are still there.
    present: PerKind<bool>,
    /// As the relocated file has it, before anything was patched.
    relocated: PerKind<Vec<u8>>,
    found: PerKind<Option<Cow<'t, [u8]>>>,
    patches: PerKind<Vec<Patch>>,
    beside: Option<RunAddr>,
    /// What the kernel changes later, where nothing is compared.
    noted: Noted,
    /// Whether there is a guest to compare with.
    compared: bool,
    out_of_memory: bool,
}

impl<'t> Target<'t> {
    /// A module that nothing is compared with.
    pub(crate) fn new<B: Block>(
        placement: &'t mut Placement<B>,
        format: Format,
    ) -> Result<Target<'t>, OutOfMemory> {
        let beside = placement.beside();
        let mut starts = PerKind::default();
        let mut present = PerKind::default();
        for kind in MemoryKind::ALL {
            starts[kind] = placement.section_address(SectionPlace { kind, offset: 0 });
            present[kind] = placement.address(kind).is_some();
        }
        let (layout, bytes) = placement.views_mut();
        let mut relocated = PerKind::<Vec<u8>>::default();
        for kind in MemoryKind::ALL {
            relocated[kind].try_reserve_exact(bytes[kind].len()).map_err(|_| OutOfMemory)?;
            relocated[kind].extend_from_slice(bytes[kind]);
        }
        Ok(Target {
            layout,
            format,
            starts,
            bytes,
            present,
            relocated,
            found: PerKind::default(),
            patches: PerKind::default(),
            beside,
            noted: Noted::default(),
            compared: false,
            out_of_memory: false,
        })
    }

    /// The same beside a guest's bytes: `find` says for each memory what the guest has, if it is there and can be read.
    #[cfg(feature = "verify")]
    pub(crate) fn beside_guest(
        mut self,
        mut find: impl FnMut(MemoryKind, RunAddr, usize) -> Option<Cow<'t, [u8]>>,
    ) -> Target<'t> {
        for kind in MemoryKind::ALL {
            let length = self.bytes[kind].len();
            self.found[kind] = self
                .address(kind)
                .and_then(|address| find(kind, address, length))
                .filter(|found| found.len() == length);
            self.present[kind] = self.found[kind].is_some();
        }
        self.compared = true;
        self
    }

    /// Whether there is a guest to compare with.
    pub(crate) fn is_compared(&self) -> bool {
        self.compared
    }

    /// Width of addresses and byte order.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn layout(&self) -> &'t Layout {
        self.layout
    }

    /// Where a memory starts, if the module has it.
    pub(crate) fn address(&self, kind: MemoryKind) -> Option<RunAddr> {
        (!self.bytes[kind].is_empty()).then_some(self.starts[kind])
    }

    pub(crate) fn section_address(&self, place: SectionPlace) -> RunAddr {
        self.starts[place.kind] + place.offset
    }

    /// What the loader allocated beside the module's memories.
    pub(crate) fn beside(&self) -> Option<RunAddr> {
        self.beside
    }

    /// All bytes of a memory, as they must be so far.
    pub(crate) fn memory(&self, kind: MemoryKind) -> &[u8] {
        self.bytes[kind]
    }

    pub(crate) fn relocated(&self, kind: MemoryKind) -> &[u8] {
        &self.relocated[kind]
    }

    pub(crate) fn found_memory(&self, kind: MemoryKind) -> Option<&[u8]> {
        self.found[kind].as_deref()
    }

    pub(crate) fn patches(&self, kind: MemoryKind) -> &[Patch] {
        &self.patches[kind]
    }

    pub(crate) fn patches_mut(&mut self, kind: MemoryKind) -> &mut Vec<Patch> {
        &mut self.patches[kind]
    }

    pub(crate) fn into_patches(self) -> PerKind<Vec<Patch>> {
        self.patches
    }

    /// What the kernel changes in the text while it runs, as far as rules have noted it.
    pub(crate) fn take_live_text(&mut self) -> LiveText {
        core::mem::take(&mut self.noted).into_live()
    }

    /// Notes a place that the kernel changes while it runs.
    pub(crate) fn may_change(&mut self, site: Site) {
        if !self.compared && self.noted.site(site).is_err() {
            self.out_of_memory = true;
        }
    }

    /// Notes where the entries of functions may lead, or what their marks may name.
    pub(crate) fn may_trace(&mut self, tracer: RunAddr) {
        if !self.compared && self.noted.tracer(tracer).is_err() {
            self.out_of_memory = true;
        }
    }

    /// Something could not be kept: there will be no result.
    pub(crate) fn lack_memory(&mut self) {
        self.out_of_memory = true;
    }

    pub(crate) fn check(&self) -> Result<(), OutOfMemory> {
        if self.out_of_memory { Err(OutOfMemory) } else { Ok(()) }
    }

    /// The memory that `address` lies in, and how far in.
    fn locate(&self, address: RunAddr) -> Option<(MemoryKind, u64)> {
        MemoryKind::ALL.into_iter().find_map(|kind| {
            let offset = address.offset_from(self.address(kind)?)?;
            (offset < self.bytes[kind].len() as u64).then_some((kind, offset))
        })
    }

    fn range(&self, address: RunAddr, length: usize) -> Option<(MemoryKind, Range<usize>)> {
        let (kind, offset) = self.locate(address)?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.bytes[kind].len()).then_some((kind, start..end))
    }

    /// Bytes as they must be so far.
    pub(crate) fn ours(&self, address: RunAddr, length: usize) -> Option<&[u8]> {
        let (kind, range) = self.range(address, length)?;
        self.bytes[kind].get(range)
    }

    /// Bytes as the relocated file has them.
    pub(crate) fn relocated_at(&self, address: RunAddr, length: usize) -> Option<&[u8]> {
        let (kind, range) = self.range(address, length)?;
        self.relocated[kind].get(range)
    }

    /// As many bytes from `address` on as there are, at most `length`.
    pub(crate) fn ours_up_to(&self, address: RunAddr, length: usize) -> &[u8] {
        let Some((kind, offset)) = self.locate(address) else { return &[] };
        let rest = self.bytes[kind].get(offset as usize..).unwrap_or_default();
        &rest[..rest.len().min(length)]
    }

    /// Bytes as the guest has them; none where there is no guest to compare with.
    pub(crate) fn found(&self, address: RunAddr, length: usize) -> Option<&[u8]> {
        let (kind, range) = self.range(address, length)?;
        self.found[kind].as_deref()?.get(range)
    }

    /// Whether the bytes at `address` are still there.
    pub(crate) fn has(&self, address: RunAddr) -> bool {
        self.locate(address).is_some_and(|(kind, _)| self.present[kind])
    }

    /// Whether the bytes at `address` are code that is still there.
    pub(crate) fn has_text(&self, address: RunAddr) -> bool {
        self.locate(address).is_some_and(|(kind, _)| kind.is_text() && self.present[kind])
    }

    /// The memory that an address is in.
    pub(crate) fn kind_at(&self, address: RunAddr) -> Option<MemoryKind> {
        self.locate(address).map(|(kind, _)| kind)
    }

    /// Writes what a rule makes of a place.
    pub(crate) fn write(&mut self, address: RunAddr, bytes: &[u8], rule: Rule, standing: Standing) {
        let Some((kind, range)) = self.range(address, bytes.len()) else { return };
        let patch = Patch { offset: range.start as u32, length: bytes.len() as u32, rule, standing };
        if let Some(place) = self.bytes[kind].get_mut(range) {
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
