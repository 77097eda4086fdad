//! Taking a snapshot of the machine that runs: what `/proc` and `/sys` say, and memory through `/proc/kcore`.
//!
//! Nothing is taken that a reader does not need: the module list, all that is mapped where modules may lie, and the few
//! words of the kernel that decide how module code was patched (see [`words`]). What cannot be read is told in the
//! snapshot.

mod exports;
mod facts;
mod guess;
mod hookers;
mod kcore;
mod lists;
mod page_tables;
mod plan;
mod rights;
mod scan;
mod torn;
mod tracers;
mod words;

use std::{
    io::{BufRead, ErrorKind},
    path::PathBuf,
};

use self::kcore::Kcore;
use super::{
    MachineFiles, MemoryRecord, ModuleRecord, Snapshot, memory::MemoryRecords, merged, symbols::SymbolTable,
    uncovered,
};
use crate::Error;

/// How often all is read again because modules came or went meanwhile, or code was changed.
const ATTEMPTS: usize = 4;

/// Files of the machine, and what is missing among them.
struct Machine<'r> {
    files: &'r MachineFiles,
    missing: Vec<String>,
}

impl Machine<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.files.path(path)
    }

    fn open(&self, path: &str) -> Result<Box<dyn BufRead>, Error> {
        self.files.open(path)
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        self.files.read(path, limit)
    }

    /// Says what is missing, why, and what follows from it.
    fn miss(&mut self, what: &str, why: &str, consequence: &str) {
        let line = format!("{what}: {why}; {consequence}");
        if !self.missing.contains(&line) {
            self.missing.push(line);
        }
    }

    /// The same for a file that could not be read; `None`.
    fn missed<T>(&mut self, what: &str, error: &Error, consequence: &str) -> Option<T> {
        self.miss(what, &error.to_string(), consequence);
        None
    }
}

/// Takes a snapshot of the machine whose files these are.
pub(crate) fn capture(files: &MachineFiles) -> Result<Snapshot, Error> {
    let mut machine = Machine { files, missing: Vec::new() };
    let mut snapshot = facts::read(&mut machine)?;
    for attempt in 1.. {
        let before = machine.missing.len();
        take(&mut machine, &mut snapshot)?;
        let after = lists::modules(&machine)?;
        let is_same = same_moment(&snapshot.modules, &after);
        if is_same && snapshot.torn.is_empty() {
            break;
        }
        if attempt == ATTEMPTS {
            if !is_same {
                let why = format!("modules came or went while they were read, {ATTEMPTS} times");
                machine.miss("modules", &why, "lists and memory may be of different moments");
            }
            if !snapshot.torn.is_empty() {
                let why =
                    format!("code or what decides about it changed while it was read, {ATTEMPTS} times");
                machine.miss("torn", &why, "what lies there is of no one moment: take the snapshot again");
            }
            break;
        }
        machine.missing.truncate(before);
    }
    snapshot.missing = machine.missing;
    Ok(snapshot)
}

/// What changes from moment to moment: modules with their sections, symbols, areas, memory.
fn take(machine: &mut Machine<'_>, snapshot: &mut Snapshot) -> Result<(), Error> {
    snapshot.memory = MemoryRecords::default();
    snapshot.torn.clear();
    snapshot.symbols = SymbolTable::default();
    snapshot.modules = lists::modules(machine)?;
    if !snapshot.modules.is_empty() && snapshot.modules.iter().all(|module| module.address == 0) {
        let consequence = "nothing tells where modules lie but their sections";
        machine.miss("modules", &rights::why_hidden(machine), consequence);
    }
    lists::read_sysfs(machine, &mut snapshot.modules);
    snapshot.symbols = lists::symbols(machine);
    let listed = lists::areas(machine);
    let hidden = listed.as_ref().err().cloned();
    let listed = listed.unwrap_or_default();
    (snapshot.areas, snapshot.contradictory_areas) = (listed.areas, listed.contradictory);
    snapshot.kprobes = lists::kprobes(machine, snapshot.config.as_deref());
    let is_whole = memory(machine, snapshot)?;
    // Where all was read, no list is missed.
    if let Some(why) = hidden.filter(|_| !is_whole) {
        let consequence =
            "module memory is taken where sections and symbols lie, and verify cannot see who else is there";
        machine.miss("vmallocinfo", &why, consequence);
    }
    Ok(())
}

/// Memory of modules, and the kernel's own words. Gives whether all was read where modules may lie.
fn memory(machine: &mut Machine<'_>, snapshot: &mut Snapshot) -> Result<bool, Error> {
    let consequence = "no module memory is in the snapshot, so verify has nothing to compare";
    let mut kcore = match machine.files.kcore().and_then(|file| Kcore::of(file, &machine.path("proc/kcore")))
    {
        Ok(kcore) => kcore,
        Err(error) => {
            machine.miss("mem", &rights::why_no_memory(machine, &error), consequence);
            return Ok(false);
        }
    };
    if exports::are_missing(&snapshot.symbols)
        && let Some(symbols) = exports::completed(snapshot, &mut kcore)
    {
        snapshot.symbols = symbols;
    }
    // Where modules may lie all is read, whatever any list says; elsewhere what the lists say.
    let profile = snapshot.profile().ok();
    let ranges = profile.as_ref().map(|profile| snapshot.module_ranges(profile)).unwrap_or_default();
    let exclusive = profile.as_ref().map(|profile| snapshot.exclusive_module_ranges(profile));
    let text = snapshot.symbols.kernel("_stext").or_else(|| snapshot.symbols.kernel("_text"));
    let exclusive = exclusive.unwrap_or_default();
    let (mut records, scanned) = kcore.scan(&exclusive, text);
    let unseen = page_tables::unseen(snapshot, &mut kcore, &exclusive, &records);
    let is_whole = !ranges.is_empty() && uncovered(&ranges, &scanned).is_empty();
    let page = facts::page_size(machine);
    let elsewhere = match snapshot.areas.is_empty() {
        false => plan::areas(snapshot, page),
        true => guess::pages(snapshot, page, |address, bytes| kcore.page(address, bytes)),
    };
    records.extend(kcore.read_all(&uncovered(&merged(elsewhere), &scanned)));
    let memory = MemoryRecords::new(records).unwrap_or_default().with_scanned(scanned);
    let words = kcore.read_all(&words::ranges(snapshot, &memory, &kcore));
    let scanned = memory.scanned().to_vec();
    let mut records = memory.into_records();
    // Whoever changes code does it in several steps: what is read must be the same before and after all the rest.
    snapshot.torn = torn::other_than_data(snapshot, kcore.changed(&records));
    let changed = kcore.changed(&words);
    let is_of_one_moment = |word: &MemoryRecord| {
        changed.iter().all(|range| word.end() <= range.start || range.end <= word.address)
    };
    records.extend(words.into_iter().filter(is_of_one_moment));
    // Read where it lies in physical memory: under its own address kcore does not show it.
    records.extend(unseen);
    snapshot.torn.extend(changed);
    let read = merged(records.iter().map(|record| record.address..record.end()).collect());
    let hookers = merged(hookers::ranges(snapshot, &mut kcore));
    records.extend(kcore.read_all(&uncovered(&hookers, &read)));
    for hole in kcore.take_holes() {
        machine.miss("mem", &hole, "these bytes are not in the snapshot");
    }
    if records.is_empty() {
        machine.miss("mem", "no memory of a module can be read", consequence);
    }
    // Ranges are planned without overlap: this cannot fail.
    let memory = MemoryRecords::new(records).map_err(|problem| Error::malformed("/proc/kcore", problem))?;
    snapshot.memory = memory.with_scanned(scanned);
    Ok(is_whole)
}

/// Whether two lists of modules tell of the same memory; counts of users come and go without a change to it.
fn same_moment(before: &[ModuleRecord], after: &[ModuleRecord]) -> bool {
    let facts = |module: &ModuleRecord| (module.name.clone(), module.size, module.state, module.address);
    before.iter().map(facts).eq(after.iter().map(facts))
}

/// Whether a file is simply not there.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Read { source, .. } if source.kind() == ErrorKind::NotFound)
}
