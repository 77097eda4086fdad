//! Taking a snapshot of the machine that runs: what `/proc` and `/sys` say, and memory through `/proc/kcore`.
//!
//! Nothing is taken that a reader does not need: the module list, the memory of modules, and the few words of the
//! kernel that decide how module code was patched (see [`words`]). What cannot be read is told in the snapshot.

mod facts;
mod guess;
mod kcore;
mod kernel_words;
mod lists;
mod plan;
mod words;

pub use kernel_words::{KernelWord, kernel_words};

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind},
    path::{Path, PathBuf},
};

use self::kcore::Kcore;
use super::{ModuleRecord, Snapshot, memory::MemoryRecords, symbols::SymbolTable};
use crate::Error;

/// How often the lists are read again because modules came or went meanwhile.
const ATTEMPTS: usize = 3;
/// Bytes read at once.
const BUFFER: usize = 1 << 16;

/// Files of the machine, and what is missing among them.
struct Machine<'r> {
    root: &'r Path,
    missing: Vec<String>,
}

impl Machine<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn open(&self, path: &str) -> Result<impl BufRead + use<>, Error> {
        let path = self.path(path);
        let file = File::open(&path).map_err(Error::read(&path))?;
        Ok(BufReader::with_capacity(BUFFER, file))
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

/// Takes a snapshot of the machine whose root folder this is.
pub(crate) fn capture(root: &Path) -> Result<Snapshot, Error> {
    let mut machine = Machine { root, missing: Vec::new() };
    let mut snapshot = facts::read(&mut machine)?;
    for attempt in 1.. {
        let before = machine.missing.len();
        take(&mut machine, &mut snapshot)?;
        let after = lists::modules(&machine)?;
        if same_moment(&snapshot.modules, &after) {
            break;
        }
        if attempt == ATTEMPTS {
            let why = format!("modules came or went while they were read, {ATTEMPTS} times");
            machine.miss("modules", &why, "lists and memory may be of different moments");
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
    snapshot.symbols = SymbolTable::default();
    snapshot.modules = lists::modules(machine)?;
    if !snapshot.modules.is_empty() && snapshot.modules.iter().all(|module| module.address == 0) {
        let consequence = "nothing tells where modules lie but their sections";
        machine.miss(
            "modules",
            "all addresses are zero (run as root; kernel.kptr_restrict=2 hides them)",
            consequence,
        );
    }
    lists::read_sysfs(machine, &mut snapshot.modules);
    snapshot.symbols = lists::symbols(machine);
    let areas = lists::areas(machine);
    snapshot.areas = areas.unwrap_or_default();
    snapshot.kprobes = lists::kprobes(machine, snapshot.config.as_deref());
    let consequence = "no module memory is in the snapshot, so verify has nothing to compare";
    let mut kcore = match Kcore::open(&machine.path("proc/kcore")) {
        Ok(kcore) => kcore,
        Err(error) => {
            machine.miss("mem", &error.to_string(), consequence);
            return Ok(());
        }
    };
    let mut records = match snapshot.areas.is_empty() {
        false => kcore.read_all(&plan::areas(snapshot, facts::page_size(machine))),
        true => guess::memory(snapshot, facts::page_size(machine), &mut kcore),
    };
    let areas = MemoryRecords::new(std::mem::take(&mut records)).unwrap_or_default();
    let words = words::ranges(snapshot, &areas, &kcore);
    records = areas.into_records();
    records.extend(kcore.read_all(&words));
    for hole in kcore.take_holes() {
        machine.miss("mem", &hole, "these bytes are not in the snapshot");
    }
    if records.is_empty() {
        machine.miss("mem", "no area of a module is known or can be read", consequence);
    }
    // Ranges are planned without overlap: this cannot fail.
    snapshot.memory =
        MemoryRecords::new(records).map_err(|problem| Error::malformed("/proc/kcore", problem))?;
    Ok(())
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
