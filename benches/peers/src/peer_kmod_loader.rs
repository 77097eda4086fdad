//! kmod-loader, the nearest peer: Linux's loader for kernels written in Rust.

use crate::arena::{Arena, Bump, PAGE};
use crate::contender::{Contender, Loaded, Placements};
use crate::files::File;
use crate::names::Names;
use kmod_loader::{KernelModuleHelper, ModuleLoader, ModuleOwner, SectionMemOps, SectionPerm};
use object::LittleEndian;
use object::elf::{FileHeader64, SHF_ALLOC};
use object::read::elf::{FileHeader, SectionHeader};
use std::ffi::CString;
use std::sync::OnceLock;

/// kmod-loader asks for memory and symbols through functions without `self`.
static MEMORY: Bump = Bump::empty();
static NAMES: OnceLock<&'static Names> = OnceLock::new();

/// Loads for the addresses it writes to.
#[derive(Debug)]
pub(crate) struct KmodLoader;

impl KmodLoader {
    /// `names` has addresses from `HOST_NAMES` on.
    pub(crate) fn new(names: &'static Names) -> Self {
        NAMES.get_or_init(|| names);
        Self
    }
}

struct Helper;

struct Pages(*mut u8);

// SAFETY: an address in the arena, which outlives every load and is used by one thread.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl SectionMemOps for Pages {
    fn as_ptr(&self) -> *const u8 {
        self.0
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0
    }

    fn change_perms(&mut self, _perms: SectionPerm) -> bool {
        true
    }
}

impl KernelModuleHelper for Helper {
    fn vmalloc(size: usize) -> Box<dyn SectionMemOps> {
        let address = MEMORY.take(size).unwrap_or(0);
        Box::new(Pages(std::ptr::with_exposed_provenance_mut(address)))
    }

    fn resolve_symbol(name: &str) -> Option<usize> {
        NAMES.get()?.get(name.as_bytes()).map(|address| address as usize)
    }
}

fn load(file: &File) -> Result<ModuleOwner<Helper>, String> {
    ModuleLoader::<'_, Helper>::new(file.bytes())
        .and_then(|loader| loader.load_module(CString::default()))
        .map_err(|error| format!("{error:?}"))
}

impl Contender for KmodLoader {
    fn name(&self) -> &str {
        "kmod-loader 0.3.1"
    }

    fn note(&self) -> &str {
        "a block a section; no memory types, exports, versions, percpu"
    }

    fn load_all(&mut self, files: &[File], arena: &mut Arena) -> Loaded {
        MEMORY.follow(arena.bump());
        let mut loaded = Loaded::default();
        let mut owners = Vec::with_capacity(files.len());
        for file in files {
            loaded.count(file, load(file).map(|owner| owners.push(owner)));
        }
        arena.bump().follow(&MEMORY);
        loaded.keep = Some(Box::new(owners));
        loaded
    }

    fn place_all(&mut self, files: &[File], arena: &mut Arena) -> Option<Placements> {
        MEMORY.follow(arena.bump());
        let modules = files
            .iter()
            .map(|file| {
                let start = MEMORY.next();
                load(file).ok()?;
                let (places, end) = places(file.bytes(), start as u64).ok()?;
                assert_eq!(end, MEMORY.next() as u64, "{}: other memory taken than expected", file.name);
                Some(places)
            })
            .collect();
        arena.bump().follow(&MEMORY);
        Some(Placements::linear(arena.host_address() as u64, NAMES.get()?, modules))
    }
}

/// kmod-loader does not say where it put a section; but it asks for memory section by section, in order, except
/// for those it leaves out, which then count as being at 0.
fn places(data: &[u8], mut next: u64) -> object::read::Result<(Vec<Option<u64>>, u64)> {
    let header = FileHeader64::<LittleEndian>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let mut places = Vec::with_capacity(sections.len());
    for section in sections.iter() {
        let name = sections.section_name(endian, section)?;
        let size = section.sh_size(endian);
        let skipped: [&[u8]; 3] = [b".note", b".modinfo", b"__version"];
        let placed = section.sh_flags(endian).contains(SHF_ALLOC)
            && size != 0
            && !skipped.iter().any(|prefix| name.starts_with(prefix));
        places.push(placed.then_some(next));
        if placed {
            next += size.next_multiple_of(PAGE as u64);
        }
    }
    Ok((places, next))
}
