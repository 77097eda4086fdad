//! elf_loader (Relink): a loader and run-time linker for any ELF file, `ET_REL` included.

use crate::arena::{Arena, Bump};
use crate::contender::{Contender, Loaded, Placements};
use crate::elf::R_PC64;
use crate::files::File;
use crate::names::Names;
use elf_loader::arch::NativeArch;
use elf_loader::elf::{ElfSectionFlags, ElfShdr};
use elf_loader::image::LoadedObject;
use elf_loader::input::ElfBinary;
use elf_loader::memory::{HostRegion, MappedRegion, RegionAccess, VmAddr};
use elf_loader::object::{SectionGroups, SectionLifetime};
use elf_loader::observer::{
    HandleResult, ObjectRelocatedEvent, RelocationEvent, RelocationObserver, SymbolBindingEvent,
};
use elf_loader::os::{MadviseAdvice, MapFlags, Mmap, ProtFlags};
use elf_loader::tls::TlsResolver;
use elf_loader::{AddressSpaceId, Domain, Loader, Relocator, Result};
use std::sync::Arc;

/// Loads for the addresses it writes to.
#[derive(Debug)]
pub(crate) struct ElfLoader {
    names: &'static Names,
    memory: Arc<Bump>,
}

impl ElfLoader {
    /// `names` has addresses from `HOST_NAMES` on.
    pub(crate) fn new(names: &'static Names) -> Self {
        Self { names, memory: Arc::new(Bump::empty()) }
    }

    /// Loads every file and hands out the result, with where its sections went if `placing`.
    fn load_each(
        &mut self,
        files: &[File],
        arena: &mut Arena,
        placing: bool,
        mut each: impl FnMut(&File, Result<LoadedObject>, Vec<Option<u64>>),
    ) {
        self.memory.follow(arena.bump());
        let loader = Loader::new().with_mmap(ArenaMmap(Arc::clone(&self.memory)));
        let mut run = loader
            .run::<()>(Domain::native(AddressSpaceId::PROCESS))
            .with_object_section_groups(section_groups());
        let relocator = Relocator::new().defer_init();
        for file in files {
            let mut observer = Observer { names: self.names, placing, places: Vec::new() };
            let result = run
                .load_object(ElfBinary::new(file.name.as_str(), file.bytes()))
                .and_then(|raw| relocator.run(raw).with_observer(&mut observer).relocate());
            each(file, result, observer.places);
        }
        arena.bump().follow(&self.memory);
    }
}

/// The default groups, which version 0.18.0 defines inside of `debug_assert_eq!`: a release build has none, and
/// every load fails. They are told by their order, so that the same calls repair it.
fn section_groups() -> SectionGroups {
    let (r, w, x) = (ProtFlags::PROT_READ, ProtFlags::PROT_WRITE, ProtFlags::PROT_EXEC);
    let mut groups = SectionGroups::default();
    if groups.define(r, r, 0, SectionLifetime::Core).index() != 0 {
        return SectionGroups::default();
    }
    groups.define(r | w, r | w, 1, SectionLifetime::Core);
    groups.define(r | x, r | x, 2, SectionLifetime::Core);
    groups.define(r | w | x, r | w | x, 3, SectionLifetime::Core);
    groups.define(r | w, r | w, usize::MAX, SectionLifetime::Init);
    groups
}

struct Observer {
    names: &'static Names,
    placing: bool,
    places: Vec<Option<u64>>,
}

impl RelocationObserver for Observer {
    /// elf_loader has no `R_X86_64_PC64` in objects; without this, each module with a jump table would fail.
    fn on_relocation_post<D: Send + Sync + 'static, R: RegionAccess, Tls: TlsResolver<NativeArch>, H>(
        &mut self,
        event: &mut RelocationEvent<'_, D, NativeArch, R, Tls, H>,
    ) -> Result<HandleResult> {
        Ok(if event.rel().r_type().raw() == R_PC64 { HandleResult::Handled } else { HandleResult::Unhandled })
    }

    fn on_symbol_binding<D: Send + Sync + 'static, R: RegionAccess, Tls: TlsResolver<NativeArch>>(
        &mut self,
        event: &mut SymbolBindingEvent<'_, D, NativeArch, R, Tls>,
    ) -> Result<()> {
        match self.names.get(event.symbol_name()) {
            Some(address) => event.set_resolved_addr(VmAddr::new(address as usize)),
            None if event.symbol().is_weak() => event.set_resolved_addr(VmAddr::null()),
            None => {}
        }
        Ok(())
    }

    fn on_object_relocated<D: Send + Sync + 'static, R: RegionAccess, Tls: TlsResolver<NativeArch>>(
        &mut self,
        event: &mut ObjectRelocatedEvent<'_, D, NativeArch, R, Tls>,
    ) -> Result<()> {
        if self.placing {
            let alloc = |header: &ElfShdr| header.flags().contains(ElfSectionFlags::ALLOC);
            let headers = event.sections().headers().iter();
            self.places = headers.map(|header| alloc(header).then(|| header.sh_addr() as u64)).collect();
        }
        Ok(())
    }
}

/// Maps by taking pages of the arena; gives nothing back, as the next load starts over.
struct ArenaMmap(Arc<Bump>);

impl Mmap for ArenaMmap {
    type Region = HostRegion;

    unsafe fn create_space(
        &self,
        _addr: Option<VmAddr>,
        len: usize,
        _prot: ProtFlags,
        _populate_later: bool,
    ) -> Result<MappedRegion<HostRegion>> {
        let address = self.0.take(len).expect("the arena is full");
        // SAFETY: pages of the arena that nobody else was given, zero, and mapped longer than any load lasts.
        Ok(unsafe { MappedRegion::local_alias_no_unmap(std::ptr::with_exposed_provenance_mut(address), len) })
    }

    unsafe fn alias_space(&self, addr: VmAddr, len: usize) -> Result<MappedRegion<HostRegion>> {
        // SAFETY: the caller vouches for the range.
        Ok(unsafe {
            MappedRegion::local_alias_no_unmap(std::ptr::with_exposed_provenance_mut(addr.get()), len)
        })
    }

    unsafe fn map_file_at(
        &self,
        _addr: VmAddr,
        _len: usize,
        _prot: ProtFlags,
        _flags: MapFlags,
        _offset: usize,
        _fd: isize,
    ) -> Result<()> {
        unreachable!("the files are in memory")
    }

    unsafe fn map_zero_at(
        &self,
        _addr: VmAddr,
        _len: usize,
        _prot: ProtFlags,
        _flags: MapFlags,
    ) -> Result<()> {
        Ok(())
    }

    unsafe fn munmap(&self, _addr: VmAddr, _len: usize) -> Result<()> {
        Ok(())
    }

    unsafe fn madvise(&self, _addr: VmAddr, _len: usize, _behavior: MadviseAdvice) -> Result<()> {
        Ok(())
    }

    unsafe fn mprotect(&self, _addr: VmAddr, _len: usize, _prot: ProtFlags) -> Result<()> {
        Ok(())
    }
}

impl Contender for ElfLoader {
    fn name(&self) -> &str {
        "elf_loader 0.18.0"
    }

    fn note(&self) -> &str {
        "leaves PC64 out (it has none); no module semantics, all sections mapped"
    }

    fn load_all(&mut self, files: &[File], arena: &mut Arena) -> Loaded {
        let mut loaded = Loaded::default();
        let mut objects = Vec::with_capacity(files.len());
        self.load_each(files, arena, false, |file, result, _| {
            loaded.count(file, result.map(|object| objects.push(object)));
        });
        loaded.keep = Some(Box::new(objects));
        loaded
    }

    fn place_all(&mut self, files: &[File], arena: &mut Arena) -> Option<Placements> {
        let mut modules = Vec::with_capacity(files.len());
        self.load_each(files, arena, true, |_, result, places| modules.push(result.ok().map(|_| places)));
        Some(Placements::linear(arena.host_address() as u64, self.names, modules))
    }
}
