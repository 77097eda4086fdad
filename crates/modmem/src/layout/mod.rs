//! Laying out: which section lies in which memory, at which offset, and how large each memory is.
//!
//! A [`Layout`] is a pure function of an [`Image`] and a [`Profile`]. Sources: kernel/module/main.c:layout_sections,
//! layout_and_allocate, module_get_offset_and_type; kernel/module/kallsyms.c:layout_symtab.

mod duplicates;
mod error;
mod kallsyms;
mod mark;
mod rules;
mod shape;

use alloc::vec::Vec;
use core::ops::Range;

pub use error::LayoutError;
pub use kallsyms::KallsymsLayout;
pub(crate) use kallsyms::{CoreSymbols, struct_size as kallsyms_struct_size};
pub use modmem_index::{MemoryKind, PerKind};
use rules::by_flags;
pub use rules::{Classification, NotLoaded, Rule, classify};
pub(crate) use rules::{is_init, is_not_kept};
pub use shape::Shape;
pub(crate) use shape::{Shapes, Slot};

use crate::address::align_up;
use crate::arch::{Architecture, with_machine};
use crate::image::elf::Format;
use crate::image::elf::section_flag::{EXECINSTR, RO_AFTER_INIT, WRITE};
use crate::image::{Image, Section};
use crate::profile::{MemoryModel, Profile};
use mark::ImageMark;

/// Largest memory of one type: Linux keeps sizes in an `unsigned int`.
const MEMORY_LIMIT: u64 = u32::MAX as u64;

/// Where each byte of a module will lie, relative to blocks that are not yet allocated.
#[derive(Clone, Debug)]
pub struct Layout {
    mark: ImageMark,
    page_size: u64,
    shapes: Shapes,
    sections: Vec<Option<SectionPlace>>,
    memories: PerKind<MemoryLayout>,
    blocks: Vec<BlockLayout>,
    kallsyms: Option<KallsymsLayout>,
    percpu: Option<PerCpuLayout>,
}

/// Where a section lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionPlace {
    /// In which memory.
    pub kind: MemoryKind,
    /// Offset in bytes from that memory's start.
    pub offset: u64,
}

/// One memory of a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLayout {
    /// Bytes that sections and kallsyms parts take, padding between them included.
    pub used: u64,
    /// Bytes that it takes of its block: `used` rounded up as Linux rounds; 0 if the module has no such memory.
    pub allocated: u64,
    /// Which block it is cut from, an index into [`Layout::blocks`]; `None` if there is no such block.
    pub block: Option<usize>,
    /// Where in that block it starts.
    pub offset: u64,
}

impl MemoryLayout {
    /// The bytes of its block that it is.
    pub(crate) fn range_in_block(&self) -> Range<usize> {
        // Sizes are kept below 4 GiB.
        self.offset as usize..(self.offset + self.allocated) as usize
    }
}

/// One block that the allocator is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLayout {
    /// The type that decides where the block may lie; the first of those that share it.
    pub kind: MemoryKind,
    /// Bytes, a multiple of the page size.
    pub size: u64,
}

/// Percpu data, which has a place in each CPU's area and none in module memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerCpuLayout {
    /// Index of `.data..percpu`.
    pub section: usize,
    /// Bytes for each CPU.
    pub size: u64,
    /// Alignment in bytes, at most a page as in Linux (main.c:percpu_modalloc).
    pub alignment: u64,
}

impl Layout {
    /// Lays out `image` as the kernel that `profile` describes would.
    ///
    /// # Errors
    /// The module is for another machine or another `struct module`, a section that the machine needs is missing, one
    /// is both writable and executable, `struct module` is not to be written to, two have one name, or a memory grows past 4 GiB.
    pub fn of(image: &Image<'_>, profile: &Profile) -> Result<Layout, LayoutError> {
        if image.machine() != profile.machine {
            return Err(LayoutError::OtherMachine { module: image.machine(), kernel: profile.machine });
        }
        let (expected, shapes): (Format, Result<Shapes, LayoutError>) =
            with_machine!(profile.machine, A => (A::FORMAT, A::shapes(image, profile)))?;
        if image.format() != expected {
            return Err(LayoutError::OtherFormat { module: image.format(), kernel: expected });
        }
        let shapes = shapes?;
        check(image, profile, &shapes)?;
        let mut places = Vec::new();
        places.try_reserve_exact(image.sections().len()).map_err(|_| LayoutError::OutOfMemory)?;
        places.resize(image.sections().len(), None);
        let mut layout = Layout {
            mark: ImageMark::of(image),
            page_size: profile.page_size,
            shapes,
            sections: places,
            memories: PerKind::default(),
            blocks: Vec::new(),
            kallsyms: None,
            percpu: percpu(image, profile),
        };
        match profile.model {
            MemoryModel::ModuleMemory => layout.fill_memories(image, profile)?,
            MemoryModel::ModuleLayout => layout.fill_blocks(image, profile)?,
        }
        let this_module = image.this_module();
        if let Some(SectionPlace { kind, .. }) = layout.place(this_module.index())
            && kind != MemoryKind::Data
        {
            return Err(LayoutError::ThisModuleReadOnly { section: this_module.label(), kind });
        }
        if profile.refuses_duplicate_sections && profile.switches.kallsyms {
            duplicates::check(image, &layout)?;
        }
        Ok(layout)
    }

    /// Where the section of that index lies, if it is loaded.
    pub fn place(&self, section: usize) -> Option<SectionPlace> {
        self.sections.get(section).copied().flatten()
    }

    /// The places of all sections, by index.
    pub fn places(&self) -> &[Option<SectionPlace>] {
        &self.sections
    }

    /// A section as it is laid out: on some machines the loader changes headers to make room for tables of its own.
    pub fn shape(&self, section: &Section<'_>) -> Shape {
        self.shapes.of(section)
    }

    /// Bytes that Text begins with, before its first section: on s390x a table of addresses and one of stubs.
    pub fn text_head(&self) -> u64 {
        self.shapes.head()
    }

    /// Bytes that the loader allocates for the module beside its memories: on s390x for the trampolines of functions that
    /// can be traced, which it makes itself.
    pub fn beside(&self) -> u64 {
        self.shapes.beside
    }

    pub(crate) fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// The seven memories.
    pub fn memories(&self) -> &PerKind<MemoryLayout> {
        &self.memories
    }

    /// The blocks to allocate, in order.
    pub fn blocks(&self) -> &[BlockLayout] {
        &self.blocks
    }

    /// Whether this is the layout of `image`, or of one whose sections are as large and of the same kinds.
    pub(crate) fn is_of(&self, image: &Image<'_>) -> bool {
        self.sections.len() == image.sections().len() && self.mark == ImageMark::of(image)
    }

    /// Where the symbol tables that stay in memory lie.
    pub fn kallsyms(&self) -> Option<&KallsymsLayout> {
        self.kallsyms.as_ref()
    }

    /// What the module needs of percpu memory.
    pub fn percpu(&self) -> Option<PerCpuLayout> {
        self.percpu
    }

    /// Bytes of a page under the profile.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// Linux 6.4 and later: every memory is a block of its own, so all sections go in one pass.
    fn fill_memories(&mut self, image: &Image<'_>, profile: &Profile) -> Result<(), LayoutError> {
        let mut sizes = PerKind::<u64>::default();
        sizes[MemoryKind::Text] = self.shapes.head();
        for section in image.sections() {
            if let Some(kind) = laid_out_kind(image, profile, section, &self.shapes) {
                self.put(section, kind, &mut sizes[kind])?;
            }
        }
        if profile.switches.kallsyms {
            let [_, data, .., init_data, _] = &mut sizes.0;
            self.kallsyms = Some(kallsyms::append(image, profile, &mut self.sections, data, init_data)?);
        }
        self.reserve_blocks(sizes.0.iter().filter(|&&size| size > 0).count())?;
        for kind in MemoryKind::ALL {
            let used = sizes[kind];
            if used > 0 {
                let allocated = self.page_align(kind, used)?;
                self.memories[kind] =
                    MemoryLayout { used, allocated, block: Some(self.blocks.len()), offset: 0 };
                self.blocks.push(BlockLayout { kind, size: allocated });
            }
        }
        Ok(())
    }

    /// Linux 5.10 to 6.3: core and init are one block each, cut into text, read-only data, read-only after init and
    /// data. With DATA_IN_VMALLOC the core's data is a third block.
    fn fill_blocks(&mut self, image: &Image<'_>, profile: &Profile) -> Result<(), LayoutError> {
        use MemoryKind::{Data, InitData, InitRoData, InitText, RoAfterInit, RoData, Text};
        let core: &[&[MemoryKind]] = match profile.switches.data_in_vmalloc {
            false => &[&[Text, RoData, RoAfterInit, Data]],
            true => &[&[Text], &[RoData, RoAfterInit, Data]],
        };
        let init: &[&[MemoryKind]] = &[&[InitText, InitRoData, InitData]];
        let mut cursors = Vec::new();
        cursors.try_reserve_exact(core.len() + init.len()).map_err(|_| LayoutError::OutOfMemory)?;
        for kinds in core.iter().chain(init) {
            let mut end = 0;
            for &kind in *kinds {
                let start = end;
                if kind == Text {
                    end += self.shapes.head();
                }
                // An init section that is read-only after init is data like others, but has a pass before them
                // (main.c:layout_sections).
                let passes: &[Option<bool>] =
                    if kind == InitData { &[Some(true), Some(false)] } else { &[None] };
                for pass in passes {
                    for section in image.sections() {
                        let early = self.shapes.of(section).flags & RO_AFTER_INIT != 0;
                        if laid_out_kind(image, profile, section, &self.shapes) == Some(kind)
                            && pass.is_none_or(|pass| pass == early)
                        {
                            self.put(section, kind, &mut end)?;
                        }
                    }
                }
                self.memories[kind] = MemoryLayout { used: end, allocated: 0, block: None, offset: start };
                end = self.strict_align(kind, end, profile)?;
            }
            cursors.push(end);
        }
        let (init_end, data_end) = (cursors.len() - 1, core.len() - 1);
        if profile.switches.kallsyms {
            let (core_cursors, init_cursors) = cursors.split_at_mut(init_end);
            let (data, init_data) = (&mut core_cursors[data_end], &mut init_cursors[0]);
            self.kallsyms = Some(kallsyms::append(image, profile, &mut self.sections, data, init_data)?);
            self.memories[Data].used = *data;
            self.memories[InitData].used = *init_data;
            *data = self.strict_align(Data, *data, profile)?;
            *init_data = self.strict_align(InitData, *init_data, profile)?;
        }
        self.cut_blocks(core.iter().chain(init), &cursors)
    }

    /// Turns offsets into blocks to offsets into memories, and drops memories and blocks that stayed empty.
    fn cut_blocks<'k>(
        &mut self,
        groups: impl Iterator<Item = &'k &'k [MemoryKind]>,
        sizes: &[u64],
    ) -> Result<(), LayoutError> {
        self.reserve_blocks(sizes.len())?;
        let mut starts = PerKind::<u64>::default();
        for (kinds, &size) in groups.zip(sizes) {
            let block = (size > 0).then_some(self.blocks.len());
            // The last memory of a block has the rest of the block's last page too.
            let size = self.page_align(kinds[0], size)?;
            for (index, &kind) in kinds.iter().enumerate() {
                let start = self.memories[kind].offset;
                let end = kinds.get(index + 1).map_or(size, |&next| self.memories[next].offset);
                starts[kind] = start;
                // An empty memory still has a place in its block: symbols of empty sections point there.
                let used = self.memories[kind].used - start;
                self.memories[kind] = MemoryLayout { used, allocated: end - start, block, offset: start };
            }
            if size > 0 {
                self.blocks.push(BlockLayout { kind: kinds[0], size });
            }
        }
        for place in self.sections.iter_mut().flatten() {
            place.offset -= starts[place.kind];
        }
        if let Some(kallsyms) = &mut self.kallsyms {
            kallsyms.rebase(starts[MemoryKind::Data], starts[MemoryKind::InitData]);
        }
        Ok(())
    }

    /// Makes room, so that adding blocks cannot fail.
    fn reserve_blocks(&mut self, count: usize) -> Result<(), LayoutError> {
        self.blocks.try_reserve_exact(count).map_err(|_| LayoutError::OutOfMemory)
    }

    fn put(&mut self, section: &Section<'_>, kind: MemoryKind, end: &mut u64) -> Result<(), LayoutError> {
        let shape = self.shapes.of(section);
        let offset = advance(end, kind, shape.size, shape.alignment)?;
        self.sections[section.index()] = Some(SectionPlace { kind, offset });
        Ok(())
    }

    fn page_align(&self, kind: MemoryKind, size: u64) -> Result<u64, LayoutError> {
        align_up(size, self.page_size)
            .filter(|&s| s <= MEMORY_LIMIT)
            .ok_or(LayoutError::TooLarge { kind, size })
    }

    fn strict_align(&self, kind: MemoryKind, size: u64, profile: &Profile) -> Result<u64, LayoutError> {
        if profile.switches.strict_module_rwx { self.page_align(kind, size) } else { Ok(size) }
    }
}

/// Takes `size` bytes at the next multiple of `alignment` and returns where they start
/// (main.c:module_get_offset_and_type).
fn advance(end: &mut u64, kind: MemoryKind, size: u64, alignment: u64) -> Result<u64, LayoutError> {
    let start = align_up(*end, alignment);
    let next = start.and_then(|start| start.checked_add(size)).filter(|&next| next <= MEMORY_LIMIT);
    match (start, next) {
        (Some(start), Some(next)) => {
            *end = next;
            Ok(start)
        }
        _ => Err(LayoutError::TooLarge { kind, size: end.saturating_add(size) }),
    }
}

/// The memory that a section is put into by the passes over the section table. The symbol table and its strings are put
/// elsewhere later; where the file says that they are loaded, the room that they had stays empty.
fn laid_out_kind(
    image: &Image<'_>,
    profile: &Profile,
    section: &Section<'_>,
    shapes: &Shapes,
) -> Option<MemoryKind> {
    by_flags(image, profile, section, shapes.of(section).flags).ok().map(|(kind, _)| kind)
}

fn percpu(image: &Image<'_>, profile: &Profile) -> Option<PerCpuLayout> {
    let section =
        image.known().percpu.filter(|_| profile.switches.smp).map(|index| &image.sections()[index])?;
    if section.size() == 0 {
        return None;
    }
    let alignment = section.alignment().min(profile.page_size);
    Some(PerCpuLayout { section: section.index(), size: section.size(), alignment })
}

fn check(image: &Image<'_>, profile: &Profile, shapes: &Shapes) -> Result<(), LayoutError> {
    let this_module = image.this_module();
    if let Some(expected) = profile.this_module_size.filter(|&size| size != this_module.size()) {
        let (section, found) = (this_module.label(), this_module.size());
        return Err(LayoutError::OtherThisModule { section, found, expected });
    }
    let [init, exit] = image.entry_offsets();
    let entries = [("init", init, profile.this_module_init), ("exit", exit, profile.this_module_exit)];
    for (entry, found, expected) in entries {
        if let (Some(found), Some(expected)) = (found, expected)
            && found != expected
        {
            let section = this_module.label();
            return Err(LayoutError::OtherEntry { section, entry, found, expected });
        }
    }
    let switches = &profile.switches;
    if switches.constructors && image.known().has_ctors && image.known().has_init_array {
        return Err(LayoutError::TwoKindsOfConstructors);
    }
    for section in image.sections() {
        let writable_code = WRITE | EXECINSTR;
        let shape = shapes.of(section);
        if switches.strict_module_rwx && shape.flags & writable_code == writable_code {
            return Err(LayoutError::WritableAndExecutable { section: section.label() });
        }
    }
    Ok(())
}

/// The bytes of `kind`'s memory that `place` takes for `size` bytes.
pub(crate) fn byte_range(place: SectionPlace, size: u64) -> Range<usize> {
    // Offsets and sizes were kept below 4 GiB by `advance`.
    place.offset as usize..(place.offset + size) as usize
}
