//! One loaded module.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use modmem_index::Retirable;

use super::{LoadError, ModuleId};
use crate::address::RunAddr;
use crate::image::Image;
use crate::image::elf::{Format, section_type};
use crate::layout::{Layout, MemoryKind, PerKind, SectionPlace};
use crate::link::{Export, Linked, Remark, Taints, Uses};
use crate::name::Name;
use crate::space::{Block, Protection, SpaceError};

/// Where a module is in its life (`enum module_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// MODULE_STATE_COMING: complete, init has not returned.
    Coming = 0,
    /// MODULE_STATE_LIVE
    Live = 1,
    /// MODULE_STATE_GOING
    Going = 2,
}

/// A section of a loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedSection<'m> {
    /// Name.
    pub name: Name<'m>,
    /// The memory that it is in.
    pub kind: MemoryKind,
    /// Where in that memory it starts.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Whether it holds notes (SHT_NOTE).
    pub is_note: bool,
}

/// A section as it is kept: offsets and sizes are below 4 GiB by layout.
#[derive(Clone, Copy, Debug)]
struct SectionRecord {
    name: u32,
    name_length: u32,
    kind: MemoryKind,
    offset: u32,
    size: u32,
    is_note: bool,
}

/// A loaded module.
///
/// Readers that pinned it look at it while it is started and unloaded: what changes then is atomic, and the init
/// memories that go are waited for before they are freed.
#[derive(Debug)]
pub struct Module<B> {
    id: ModuleId,
    name: Box<str>,
    state: AtomicU8,
    /// Whether its read-only-after-init memory is read-only.
    sealed: AtomicBool,
    format: Format,
    linked: Linked<B>,
    addresses: PerKind<Option<RunAddr>>,
    /// Whether its memories have the protections that loading gives them.
    formed: bool,
    sections: Vec<SectionRecord>,
    section_names: Vec<u8>,
}

impl<B: Block> Module<B> {
    pub(super) fn new(
        id: ModuleId,
        name: &str,
        image: &Image<'_>,
        linked: Linked<B>,
    ) -> Result<Module<B>, LoadError> {
        let placement = linked.placement();
        let mut section_names = Vec::new();
        let mut sections = Vec::new();
        let layout = placement.layout();
        let placed = || image.sections().iter().filter_map(|s| Some((s, layout.place(s.index())?)));
        let (count, bytes) =
            placed().fold((0, 0), |(count, bytes), (s, _)| (count + 1, bytes + s.name().len()));
        sections.try_reserve_exact(count).map_err(|_| LoadError::OutOfMemory)?;
        section_names.try_reserve_exact(bytes).map_err(|_| LoadError::OutOfMemory)?;
        for (section, place) in placed() {
            sections.push(SectionRecord {
                name: section_names.len() as u32,
                name_length: section.name().len() as u32,
                kind: place.kind,
                offset: place.offset as u32,
                size: layout.shape(section).size as u32,
                is_note: section.kind() == section_type::NOTE,
            });
            section_names.extend_from_slice(section.name().bytes());
        }
        let addresses = PerKind::from_fn(|kind| placement.address(kind));
        let mut owned = String::new();
        owned.try_reserve_exact(name.len()).map_err(|_| LoadError::OutOfMemory)?;
        owned.push_str(name);
        Ok(Module {
            id,
            name: owned.into_boxed_str(),
            state: AtomicU8::new(State::Coming as u8),
            sealed: AtomicBool::new(false),
            format: image.format(),
            linked,
            addresses,
            formed: false,
            sections,
            section_names,
        })
    }

    /// Its id.
    pub fn id(&self) -> ModuleId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        // Relaxed: nothing else is found by it.
        match self.state.load(Ordering::Relaxed) {
            0 => State::Coming,
            1 => State::Live,
            _ => State::Going,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// What it tainted the kernel with.
    pub fn taints(&self) -> Taints {
        self.linked.taints
    }

    /// What is odd about it and did not keep it from being loaded.
    pub fn remarks(&self) -> &[Remark] {
        self.linked.remarks()
    }

    /// How its memories are laid out.
    pub fn layout(&self) -> &Layout {
        self.linked.placement.layout()
    }

    /// Where its undefined symbols came from.
    pub fn uses(&self) -> &Uses {
        &self.linked.uses
    }

    /// How many relocations were applied.
    pub fn relocations(&self) -> usize {
        self.linked.relocations
    }

    /// The address of its init function.
    pub fn init(&self) -> Option<RunAddr> {
        self.linked.init
    }

    /// The address of its exit function.
    pub fn exit(&self) -> Option<RunAddr> {
        self.linked.exit
    }

    /// How many symbols it exports.
    pub fn export_count(&self) -> usize {
        self.linked.exports.len()
    }

    /// The symbols that it exports.
    pub fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.linked.exports.iter(&self.linked.placement)
    }

    /// Those of them that can be found: not the same name twice, nor what a search cannot find in a table that is not
    /// sorted.
    pub(super) fn offered(&self) -> impl Iterator<Item = Export<'_>> {
        self.linked.exports.offered(&self.linked.placement)
    }

    /// Where a memory starts, if the module has it and it has not been discarded.
    pub fn address(&self, kind: MemoryKind) -> Option<RunAddr> {
        self.linked.placement.address(kind)
    }

    /// The addresses of a memory that the module still has.
    pub fn range(&self, kind: MemoryKind) -> Option<Range<RunAddr>> {
        Some(self.address(kind)?.extent(self.layout().memories()[kind].allocated))
    }

    /// Value of a symbol at the start of its percpu data.
    pub fn percpu(&self) -> u64 {
        self.linked.placement.percpu()
    }

    /// The addresses that a memory had when the module was loaded, discarded or not.
    pub fn original_range(&self, kind: MemoryKind) -> Option<Range<RunAddr>> {
        Some(self.addresses[kind]?.extent(self.layout().memories()[kind].allocated))
    }

    /// What may be done with a memory.
    pub fn protection(&self, kind: MemoryKind) -> Protection {
        match kind {
            _ if !self.formed => Protection::ReadWrite,
            MemoryKind::RoAfterInit if self.sealed.load(Ordering::Relaxed) => Protection::settled(kind),
            _ => Protection::formed(kind),
        }
    }

    /// The bytes of a memory; none if the module does not have it, or no longer.
    pub fn bytes(&self, kind: MemoryKind) -> &[u8] {
        self.linked.placement.bytes(kind)
    }

    /// Its sections, in file order.
    pub fn sections(&self) -> impl Iterator<Item = LoadedSection<'_>> {
        self.sections.iter().map(|record| LoadedSection {
            name: Name(&self.section_names[record.name as usize..][..record.name_length as usize]),
            kind: record.kind,
            offset: u64::from(record.offset),
            size: u64::from(record.size),
            is_note: record.is_note,
        })
    }

    /// Where its text starts, or would if it had some: with one block for several memories, where that block starts;
    /// else 0.
    pub(super) fn text_base(&self) -> RunAddr {
        self.linked.placement.section_address(SectionPlace { kind: MemoryKind::Text, offset: 0 })
    }

    /// Whether it exports that symbol by `__ksymtab`.
    pub(super) fn has_plain_export(&self, name: Name<'_>, value: u64) -> bool {
        self.linked.exports.has_plain(&self.linked.placement, name, value)
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Protects its memories as they stay until init has returned.
    ///
    /// # Errors
    /// Memories share pages, or a protection cannot be set; some may be set then.
    pub(super) fn form(&mut self) -> Result<(), LoadError> {
        for kind in MemoryKind::ALL {
            if !self.begins_and_ends_with_pages(kind) {
                return Err(LoadError::SharedPages { kind });
            }
            self.linked.placement.protect(kind, Protection::formed(kind))?;
        }
        self.formed = true;
        Ok(())
    }

    /// Makes read-only what init was the last to write.
    pub(super) fn seal(&self) -> Result<(), SpaceError> {
        let kind = MemoryKind::RoAfterInit;
        self.linked.placement.protect(kind, Protection::settled(kind))?;
        self.sealed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn begins_and_ends_with_pages(&self, kind: MemoryKind) -> bool {
        let memory = self.layout().memories()[kind];
        let page = self.layout().page_size();
        memory.offset.is_multiple_of(page) && memory.allocated.is_multiple_of(page)
    }

    /// The blocks that go when init has returned.
    pub(super) fn init_blocks(&self) -> impl Iterator<Item = &Retirable<B>> {
        self.linked.placement.init_blocks()
    }

    pub(super) fn protection_violation(&self) -> Option<MemoryKind> {
        MemoryKind::ALL.into_iter().filter(|&kind| self.address(kind).is_some()).find(|&kind| {
            let expected = match self.state() {
                State::Coming => Protection::formed(kind),
                State::Live | State::Going => Protection::settled(kind),
            };
            let placement = &self.linked.placement;
            self.protection(kind) != expected
                || placement.block_protections(kind).any(|found| found != expected)
        })
    }
}
