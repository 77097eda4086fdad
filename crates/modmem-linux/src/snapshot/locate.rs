//! From an address to what lies there, in a snapshot.
//!
//! The snapshot alone tells which section an address follows; where a memory ends and of which type it is, only the
//! module's file does. A [`Locator`] asks for the files of the modules that addresses hit, and no others.

use std::{cell::RefCell, collections::HashMap, fmt, ops::Range};

use modmem::{Image, Layout, MemoryKind, RunAddr, image::SymbolPlace};

use super::{Area, ModuleRecord, Nearest, Snapshot, Symbol, kinds::kind_of_section, symbols::is_mapping};

/// How far behind a section that was freed an address may lie, where no file tells its size.
const FARTHEST_FREED: u64 = 1 << 20;
/// Names under which the kernel lists code that it made at run time.
const RUNTIME: [&str; 3] = ["bpf", "__builtin__ftrace", "__builtin__kprobes"];

/// Where the memories of a module lie, as its file's layout and the snapshot's section addresses say together.
#[derive(Clone, Debug)]
pub struct Memories {
    memories: Vec<Memory>,
}

#[derive(Clone, Debug)]
struct Memory {
    kind: MemoryKind,
    /// All that it takes of its block.
    range: Range<u64>,
    /// Sections that are not empty, by address.
    sections: Vec<(Range<u64>, String)>,
    /// Symbols by address, of init memories alone: the kernel forgets them with what it frees.
    symbols: Vec<(u64, String)>,
}

impl Memories {
    /// Places the memories of a layout. A memory without a listed section has no known place.
    ///
    /// # Errors
    /// In words, if the sections do not lie as the layout has them: the file is of another build or kernel.
    pub fn of(module: &ModuleRecord, image: &Image<'_>, layout: &Layout) -> Result<Memories, String> {
        let mut memories: Vec<Memory> = Vec::new();
        let mut addresses: HashMap<&str, u64> = HashMap::new();
        for section in &module.sections {
            addresses.entry(&section.name).or_insert(section.address);
        }
        for section in image.sections().iter().filter(|section| section.size() > 0) {
            let Some(place) = layout.place(section.index()) else { continue };
            let name = section.name().to_text();
            let Some(&address) = addresses.get(name.as_str()) else { continue };
            let size = layout.memories()[place.kind].allocated;
            let start = address.wrapping_sub(place.offset);
            let at = match memories.iter().position(|memory| memory.kind == place.kind) {
                Some(at) => at,
                None => {
                    let end =
                        start.checked_add(size).ok_or_else(|| format!("{name} lies at {address:#x}"))?;
                    memories.push(Memory {
                        kind: place.kind,
                        range: start..end,
                        sections: Vec::new(),
                        symbols: Vec::new(),
                    });
                    memories.len() - 1
                }
            };
            let memory = &mut memories[at];
            if memory.range.start != start {
                return Err(format!("{name} does not lie where the file has it"));
            }
            memory.sections.push((address..address.saturating_add(section.size()), name));
        }
        for symbol in image.symbols().iter() {
            let SymbolPlace::Section(section) = symbol.place else { continue };
            let Some(place) = layout.place(section).filter(|place| place.kind.is_init()) else { continue };
            let name = symbol.name.to_text();
            if let Some(memory) = memories.iter_mut().find(|memory| memory.kind == place.kind)
                && !name.is_empty()
                && !is_mapping(&name)
            {
                let address = memory.range.start.wrapping_add(place.offset).wrapping_add(symbol.value);
                memory.symbols.push((address, name));
            }
        }
        for memory in &mut memories {
            memory.sections.sort_by_key(|(range, _)| range.start);
            memory.symbols.sort_by_key(|(address, _)| *address);
        }
        Ok(Memories { memories })
    }

    /// Where the memory of a type starts, if that is known.
    pub fn start(&self, kind: MemoryKind) -> Option<RunAddr> {
        let memory = self.memories.iter().find(|memory| memory.kind == kind)?;
        Some(RunAddr(memory.range.start))
    }

    fn find(&self, address: u64, freed: bool, module: &ModuleRecord) -> Option<&Memory> {
        let is_freed = |kind: MemoryKind| kind.is_init() && module.init_is_over();
        let mut found = self.memories.iter().filter(|memory| memory.range.contains(&address));
        found.find(|memory| is_freed(memory.kind) == freed)
    }
}

impl Memory {
    /// The file's symbol at or before an address.
    fn symbol<'l>(&'l self, address: u64, module: &'l str) -> Option<Nearest<'l>> {
        let after = self.symbols.partition_point(|(start, _)| *start <= address);
        let start = self.symbols.get(after.checked_sub(1)?)?.0;
        let first = self.symbols.partition_point(|(other, _)| *other < start);
        let end = self.symbols.get(after).map_or(self.range.end, |(next, _)| *next);
        let letter = if self.kind == MemoryKind::InitText { 't' } else { 'd' };
        let symbol = Symbol { name: &self.symbols[first].1, address: start, letter, module: Some(module) };
        Some(Nearest { symbol, offset: address - start, size: end.checked_sub(start) })
    }
}

/// What lies at an address.
#[derive(Clone, Debug)]
pub enum Found<'l> {
    /// Memory that a module has.
    Module(Place<'l>),
    /// Memory that a module had until its init was over, and that is nobody's now.
    Freed(Place<'l>),
    /// The kernel itself; `freed` if it is its own init memory.
    Kernel {
        /// The symbol, where one is known.
        symbol: Nearest<'l>,
        /// Whether it was given back after boot.
        freed: bool,
    },
    /// Code that the kernel made at run time: `bpf`, `__builtin__ftrace`, `__builtin__kprobes`.
    Runtime {
        /// The name under which the kernel lists it.
        owner: &'l str,
        /// The symbol.
        symbol: Nearest<'l>,
    },
    /// An area of vmalloc that is no module's.
    Area(&'l Area),
    /// Nothing that the snapshot knows.
    Nothing,
}

/// A place in a module's memory.
#[derive(Clone, Debug)]
pub struct Place<'l> {
    /// The module.
    pub module: &'l ModuleRecord,
    /// The memory's type.
    pub kind: MemoryKind,
    /// Whether a file says so. Otherwise the section's name does, and the address may lie behind the section's end.
    pub certain: bool,
    /// Bytes from the memory's start, if that is known.
    pub offset: Option<u64>,
    /// The section with the bytes from its start; `None` between sections and in symbol tables.
    pub section: Option<(&'l str, u64)>,
    /// The symbol.
    pub symbol: Option<Nearest<'l>>,
}

/// Where the layouts of modules come from; `None` for a module that has none.
type Layouts<'s> = dyn FnMut(&ModuleRecord) -> Option<Memories> + 's;

/// Answers what lies at addresses of one snapshot.
pub struct Locator<'s> {
    snapshot: &'s Snapshot,
    layouts: Box<Layouts<'s>>,
    /// Layouts that were asked for, by the module's place in the list.
    known: HashMap<usize, Option<Memories>>,
    /// What the sections of a module in an area are, by the module's place and the area's start.
    guessed: RefCell<HashMap<(usize, u64), Option<MemoryKind>>>,
    /// Sections whose memory is there, by address.
    present: Vec<Start<'s>>,
    /// Sections whose memory was given back.
    freed: Vec<Start<'s>>,
    kernel: Range<u64>,
    kernel_init: Range<u64>,
}

#[derive(Clone, Copy)]
struct Start<'s> {
    address: u64,
    module: usize,
    section: &'s str,
}

impl<'s> Locator<'s> {
    /// A locator that knows the snapshot and the files that `layouts` has.
    pub fn new(
        snapshot: &'s Snapshot,
        layouts: impl FnMut(&ModuleRecord) -> Option<Memories> + 's,
    ) -> Locator<'s> {
        let (mut present, mut freed) = (Vec::new(), Vec::new());
        for (number, module) in snapshot.modules.iter().enumerate() {
            for section in module.sections.iter().filter(|section| section.address != 0) {
                let start = Start { address: section.address, module: number, section: &section.name };
                match module.is_freed(&section.name, &snapshot.machine) {
                    true => freed.push(start),
                    false => present.push(start),
                }
            }
        }
        for starts in [&mut present, &mut freed] {
            starts.sort_by_key(|start| start.address);
        }
        let range = |starts: &[&str], ends: &[&str]| {
            let first = |names: &[&str]| names.iter().find_map(|name| snapshot.symbols.kernel(name));
            first(starts).unwrap_or_default()..first(ends).unwrap_or_default()
        };
        Locator {
            snapshot,
            layouts: Box::new(layouts),
            known: HashMap::new(),
            guessed: RefCell::default(),
            present,
            freed,
            kernel: range(&["_text", "_stext"], &["_end", "__bss_stop", "_edata", "_etext"]),
            kernel_init: range(&["__init_begin"], &["__init_end"]),
        }
    }

    /// What lies at an address.
    pub fn find(&mut self, address: RunAddr) -> Found<'_> {
        let address = address.0;
        let snapshot = self.snapshot;
        if self.kernel.contains(&address) {
            let symbol = snapshot.symbols.nearest_in(self.kernel.clone(), address, None);
            return match symbol {
                Some(symbol) => Found::Kernel { symbol, freed: self.kernel_init.contains(&address) },
                None => Found::Nothing,
            };
        }
        let area = snapshot.area(address);
        let present =
            self.candidate(&self.present, address).filter(|start| self.may_own(start, address, area));
        let freed =
            self.candidate(&self.freed, address).filter(|start| self.may_have_owned(start, address, area));
        for start in present.into_iter().chain(freed) {
            self.ask_for(start.module);
        }
        if let Some(place) = present.and_then(|start| self.place(start, address, false)) {
            return Found::Module(place);
        }
        if let Some(area) = area {
            let runtime = RUNTIME.into_iter().find_map(|owner| {
                let symbol = snapshot.symbols.nearest_in(area.range.clone(), address, Some(owner))?;
                Some(Found::Runtime { owner, symbol })
            });
            if let Some(runtime) = runtime {
                return runtime;
            }
        }
        match (freed.and_then(|start| self.place(start, address, true)), area) {
            (Some(place), _) => Found::Freed(place),
            (None, Some(area)) => Found::Area(area),
            (None, None) => Found::Nothing,
        }
    }

    /// The last section that starts at the address or before it.
    fn candidate(&self, starts: &[Start<'s>], address: u64) -> Option<Start<'s>> {
        let after = starts.partition_point(|start| start.address <= address);
        starts.get(after.checked_sub(1)?).copied()
    }

    /// Whether a section's memory may reach as far as the address: to the end of its area.
    fn may_own(&self, start: &Start<'_>, address: u64, area: Option<&Area>) -> bool {
        match area {
            Some(area) => area.range.contains(&start.address) && area.backed().contains(&address),
            None if !self.snapshot.areas.is_empty() => false,
            None => address - start.address < self.snapshot.modules[start.module].size,
        }
    }

    /// Whether memory that was given back may have reached as far: nothing else may lie between or there now.
    fn may_have_owned(&self, start: &Start<'_>, address: u64, area: Option<&Area>) -> bool {
        let between =
            self.candidate(&self.present, address).is_some_and(|other| other.address > start.address);
        let areas = &self.snapshot.areas;
        let later = areas.partition_point(|area| area.range.start <= address);
        let between_areas = later.checked_sub(1).is_some_and(|last| areas[last].range.start > start.address);
        area.is_none() && !between && !between_areas && address - start.address < FARTHEST_FREED
    }

    /// The type of a section's memory by its name, or else by the names of others in the same area.
    fn guess(&self, start: Start<'_>) -> MemoryKind {
        let neighbours = || {
            let area = self.snapshot.area(start.address)?;
            let find = || {
                let mut sections = self.snapshot.modules[start.module].sections.iter();
                sections.find_map(|other| {
                    kind_of_section(&other.name)
                        .filter(|kind| area.range.contains(&other.address) && !kind.is_init())
                })
            };
            *self.guessed.borrow_mut().entry((start.module, area.range.start)).or_insert_with(find)
        };
        kind_of_section(start.section).or_else(neighbours).unwrap_or(MemoryKind::Data)
    }

    fn ask_for(&mut self, module: usize) {
        let layouts = &mut self.layouts;
        self.known.entry(module).or_insert_with(|| layouts(&self.snapshot.modules[module]));
    }

    /// The place in the module whose section comes before it; `None` if the module's file says otherwise.
    fn place(&self, start: Start<'s>, address: u64, freed: bool) -> Option<Place<'_>> {
        let module = &self.snapshot.modules[start.module];
        let symbols = &self.snapshot.symbols;
        if let Some(memories) = self.known.get(&start.module).and_then(Option::as_ref) {
            let memory = memories.find(address, freed, module)?;
            // By address, and none overlaps another.
            let after = memory.sections.partition_point(|(range, _)| range.start <= address);
            let before = after.checked_sub(1).and_then(|last| memory.sections.get(last));
            let section = before.filter(|(range, _)| range.contains(&address));
            let symbol = match freed {
                false => symbols.nearest_in(memory.range.clone(), address, Some(&module.name)),
                true => memory.symbol(address, &module.name),
            };
            return Some(Place {
                module,
                kind: memory.kind,
                certain: true,
                offset: Some(address - memory.range.start),
                section: section.map(|(range, name)| (name.as_str(), address - range.start)),
                symbol,
            });
        }
        // Before the section other types of memory may lie in the same area.
        let from = match self.snapshot.area(address) {
            Some(area) => start.address..area.backed().end,
            None => start.address..u64::MAX,
        };
        let symbol = symbols.nearest_in(from, address, Some(&module.name));
        Some(Place {
            module,
            kind: self.guess(start),
            certain: false,
            offset: None,
            section: Some((start.section, address - start.address)),
            symbol: symbol.filter(|_| !freed),
        })
    }
}

impl fmt::Debug for Locator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locator").field("sections", &self.present.len()).finish_non_exhaustive()
    }
}
