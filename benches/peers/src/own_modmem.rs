//! modmem, through the interface that its users have.

use crate::arena::{Arena, Bump, PAGE};
use crate::contender::{Contender, Loaded, Place, Placements};
use crate::files::File;
use crate::names::Names;
use crate::threads::Work;
use modmem::image::SymbolPlace;
use modmem::link::{Export, LinkOptions};
use modmem::modules::ModuleId;
use modmem::space::{AddressSpace, Backing, Fresh, Guard, SpaceBlock};
use modmem::{Image, Linker, Modules, Name, Profile};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Where the kernel's own percpu data ends.
const PERCPU_END: u64 = 0x3_0000;
/// Modules that several threads link before one of them commits and starts them.
const BATCH: usize = 128;

/// Loads and starts every module: a running kernel's set of modules is what is left.
#[derive(Debug)]
pub(crate) struct Modmem {
    profile: Profile,
    linker: Linker,
    /// Indices of the files, exporters before those who import from them.
    order: Vec<usize>,
    /// The same in batches, none of which imports from itself or from a later one.
    batches: Vec<Vec<usize>>,
    threads: usize,
    /// Symbols of the kernel: those that no module exports.
    symbols: Vec<KernelSymbol>,
    /// All names that modules leave undefined.
    undefined: BTreeSet<Vec<u8>>,
    modules: Modules<SpaceBlock<Slice>>,
    memory: Arc<Bump>,
}

#[derive(Debug)]
struct KernelSymbol {
    name: Vec<u8>,
    address: u64,
    crc: Option<u32>,
}

impl Modmem {
    /// `names` has addresses from `KERNEL_NAMES` on.
    pub(crate) fn new(files: &[File], names: &Names, threads: usize) -> Result<Self, Box<dyn Error>> {
        let mut profile = Profile::named("6.12")?;
        // No machine loads all modules at once; Linux's 8 KiB are not enough for that.
        profile.percpu_reserve = 1 << 20;
        let images = files.iter().map(|file| Image::parse(file.bytes())).collect::<Result<Vec<_>, _>>()?;
        let exporters = exporters(&images);
        let order = dependency_order(&images, &exporters);
        let batches = batches(&order, files, &images, &exporters);

        let mut crcs = BTreeMap::new();
        let mut undefined = BTreeSet::new();
        for image in &images {
            crcs.extend(image.versions().iter().map(|version| (version.name.bytes(), version.crc)));
            undefined.extend(undefined_names(image));
        }
        let symbols = undefined
            .iter()
            .filter(|name| !exporters.contains_key(**name))
            .map(|&name| KernelSymbol {
                name: name.to_vec(),
                address: names.get(name).unwrap_or(0),
                crc: crcs.get(name).and_then(|crc| u32::try_from(*crc).ok()),
            })
            .collect();
        let undefined = undefined.into_iter().map(<[u8]>::to_vec).collect();
        let modules = Modules::new(&profile, PERCPU_END);
        let memory = Arc::new(Bump::empty());
        let linker = Linker::new();
        Ok(Self { profile, linker, order, batches, threads, symbols, undefined, modules, memory })
    }

    /// An empty address space over the arena.
    fn space(&self, arena: &Arena, free: Option<Free>) -> AddressSpace<Blocks> {
        self.memory.follow(arena.bump());
        let blocks = Blocks { memory: self.memory.clone(), free };
        AddressSpace::with_backing(&self.profile, blocks, Guard::Page)
    }

    fn load(&mut self, image: &Image<'_>, space: &mut AddressSpace<Blocks>) -> Result<ModuleId, String> {
        let Self { profile, linker, modules, .. } = self;
        let loaded = modules.load(image, profile, space, linker, LinkOptions::default());
        loaded.map_err(|error| error.to_string())
    }

    /// Loads and starts every module by several threads.
    fn load_by_threads(&mut self, files: &[File], space: &AddressSpace<Blocks>) -> Loaded {
        let modules = std::mem::replace(&mut self.modules, Modules::new(&self.profile, PERCPU_END));
        let work = Work::new(files, &self.batches, &self.profile, modules, self.threads);
        let loaded = work.run(&mut self.linker, space, self.threads);
        self.modules = work.into_modules();
        loaded
    }

    /// Where the sections of a module that was not started yet are.
    fn places(&self, image: &Image<'_>, id: ModuleId, arena: &Arena) -> Option<Vec<Option<Place>>> {
        let module = self.modules.get(id)?;
        let layout = module.layout();
        let percpu = layout.percpu();
        let places = image.sections().iter().map(|section| {
            if percpu.is_some_and(|percpu| percpu.section == section.index()) {
                return Some(Place { address: module.percpu(), start: None });
            }
            let place = layout.place(section.index()).filter(|_| section.is_alloc())?;
            let block = module.bytes(place.kind).as_ptr().addr().checked_sub(arena.host_address());
            Some(Place {
                address: module.address(place.kind).map_or(0, |address| address.0) + place.offset,
                start: block.map(|block| block + place.offset as usize),
            })
        });
        Some(places.collect())
    }

    /// What happens to a module when its init has returned: modules that use it can be loaded from then on.
    fn start(&mut self, id: ModuleId) -> Result<(), String> {
        self.modules.start(id, |_| 0).map_err(|error| error.to_string())
    }
}

impl Contender for Modmem {
    fn name(&self) -> &str {
        if self.threads > 1 { "modmem, 2 threads" } else { "modmem" }
    }

    fn note(&self) -> &str {
        if self.threads > 1 {
            return "the same; both read and link a batch of modules, one commits and starts it";
        }
        "everything: also addresses with guards, names, exports, CRCs, kallsyms, index; init memory given back"
    }

    fn prepare(&mut self) {
        self.modules = Modules::new(&self.profile, PERCPU_END);
        let added = self.modules.add_kernel_symbols(self.symbols.iter().map(|symbol| Export {
            name: Name(&symbol.name),
            value: symbol.address,
            gpl_only: false,
            crc: symbol.crc,
            namespace: Name(b""),
        }));
        assert!(added.is_ok(), "a set has no name twice");
    }

    fn load_all(&mut self, files: &[File], arena: &mut Arena) -> Loaded {
        let mut space = self.space(arena, Some(Free::default()));
        let mut loaded = Loaded::default();
        if self.threads > 1 {
            loaded = self.load_by_threads(files, &space);
        }
        for index in 0..if self.threads > 1 { 0 } else { self.order.len() } {
            let file = &files[self.order[index]];
            let started = Image::parse(file.bytes())
                .map_err(|error| error.to_string())
                .and_then(|image| self.load(&image, &mut space))
                .and_then(|id| self.start(id));
            loaded.count(file, started);
        }
        arena.bump().follow(&self.memory);
        let modules = std::mem::replace(&mut self.modules, Modules::new(&self.profile, PERCPU_END));
        loaded.keep = Some(Box::new((modules, space)));
        loaded
    }

    fn place_all(&mut self, files: &[File], arena: &mut Arena) -> Option<Placements> {
        // Init memory stays as it is, so that it can be verified.
        let mut space = self.space(arena, None);
        let mut modules = vec![None; files.len()];
        for index in self.order.clone() {
            let image = Image::parse(files[index].bytes()).ok()?;
            // A module that fails is not reported as placed.
            let Ok(id) = self.load(&image, &mut space) else { continue };
            modules[index] = Some(self.places(&image, id, arena)?);
            self.start(id).ok()?;
        }
        arena.bump().follow(&self.memory);
        let address =
            |name: &Vec<u8>| self.modules.exported(Name(name)).map_or(0, |found| found.export.value);
        let names = Names::at(self.undefined.iter().map(|name| (name.as_slice(), address(name))));
        Some(Placements { names: Cow::Owned(names), modules })
    }
}

/// Who exports each name, by index.
type Exporters = BTreeMap<Vec<u8>, usize>;

fn exporters(images: &[Image<'_>]) -> Exporters {
    let exports = |(index, image): (usize, &Image<'_>)| {
        image.exports().map(move |(name, _)| (name.to_vec(), index)).collect::<Vec<_>>()
    };
    images.iter().enumerate().flat_map(exports).collect()
}

fn undefined_names<'a>(image: &Image<'a>) -> impl Iterator<Item = &'a [u8]> {
    let undefined = image.symbols().iter().skip(1).filter(|symbol| symbol.place == SymbolPlace::Undefined);
    undefined.map(|symbol| symbol.name.bytes())
}

/// All indices, each after those of the modules that it imports from.
fn dependency_order(images: &[Image<'_>], exporters: &Exporters) -> Vec<usize> {
    let mut order = Vec::with_capacity(images.len());
    let mut seen = vec![false; images.len()];
    for index in 0..images.len() {
        visit(index, images, exporters, &mut seen, &mut order);
    }
    order
}

fn visit(
    index: usize,
    images: &[Image<'_>],
    exporters: &Exporters,
    seen: &mut [bool],
    order: &mut Vec<usize>,
) {
    if std::mem::replace(&mut seen[index], true) {
        return;
    }
    for exporter in undefined_names(&images[index]).filter_map(|name| exporters.get(name)) {
        visit(*exporter, images, exporters, seen, order);
    }
    order.push(index);
}

/// The order in batches, none of which imports from itself or from a later one.
fn batches(order: &[usize], files: &[File], images: &[Image<'_>], exporters: &Exporters) -> Vec<Vec<usize>> {
    let mut depths = vec![0; images.len()];
    let mut levels: Vec<Vec<usize>> = Vec::new();
    for &index in order {
        let needed = undefined_names(&images[index]).filter_map(|name| exporters.get(name));
        let depth = needed.filter(|&&needed| needed != index).map(|&needed| depths[needed] + 1).max();
        depths[index] = depth.unwrap_or(0);
        if levels.len() <= depths[index] {
            levels.resize_with(depths[index] + 1, Vec::new);
        }
        levels[depths[index]].push(index);
    }
    // The largest first: who comes to the end of a batch waits for no large one then.
    for level in &mut levels {
        level.sort_by_key(|&index| std::cmp::Reverse(files[index].bytes().len()));
    }
    levels.iter().flat_map(|level| level.chunks(BATCH)).map(<[usize]>::to_vec).collect()
}

/// Blocks one behind the other in the arena; what was given back is used again for a block of the same size.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    memory: Arc<Bump>,
    /// Addresses of blocks that were given back, by number of pages; `None` if they are not to be used again.
    free: Option<Free>,
}

type Free = Arc<Mutex<Vec<Vec<usize>>>>;

fn locked(free: &Free) -> std::sync::MutexGuard<'_, Vec<Vec<usize>>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backing for Blocks {
    type Bytes = Slice;

    fn bytes(&mut self, size: usize) -> Option<Fresh<Slice>> {
        let pages = size.div_ceil(PAGE);
        let again = self.free.as_ref().and_then(|free| locked(free).get_mut(pages)?.pop());
        // The arena is zero before each load; what was used before is not.
        let zeroed = again.is_none();
        let start = again.or_else(|| self.memory.take(size))?;
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(start))?;
        Some(Fresh { bytes: Slice { start, size, free: self.free.clone() }, zeroed })
    }
}

/// Bytes of the arena that nobody else has.
#[derive(Debug)]
pub(crate) struct Slice {
    start: NonNull<u8>,
    size: usize,
    free: Option<Free>,
}

// SAFETY: nobody else has these bytes, whichever thread holds them.
unsafe impl Send for Slice {}
// SAFETY: shared, they are only read.
unsafe impl Sync for Slice {}

impl Drop for Slice {
    fn drop(&mut self) {
        if let Some(free) = &self.free {
            let (mut free, pages) = (locked(free), self.size.div_ceil(PAGE));
            if free.len() <= pages {
                free.resize_with(pages + 1, Vec::new);
            }
            free[pages].push(self.start.as_ptr().addr());
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: initialised bytes of the arena, which outlives what is loaded into it; they are handed out again
        // only once this has been dropped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }
}

impl AsMut<[u8]> for Slice {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_ref`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }
}
