//! What a machine had in its module memory at one moment: modules, sections, symbols, areas, and the bytes themselves.
//!
//! A [`Snapshot`] comes from a `.mms` file, from a folder with the same members as files, or from a description of
//! a memory image in JSON ([`Snapshot::open`] tells them apart). docs/snapshot.md describes all three for those who
//! write them by other means.
//!
//! ```no_run
//! use modmem_linux::snapshot::Snapshot;
//!
//! let snapshot = Snapshot::open("host.mms")?;
//! for module in &snapshot.modules {
//!     let text = module.section(".text").unwrap_or_default();
//!     let symbol = snapshot.symbols.nearest(text, Some(&module.name));
//!     println!("{} {text:#x} {:?}", module.name, symbol.map(|symbol| symbol.symbol.name));
//! }
//! # Ok::<(), modmem_linux::Error>(())
//! ```
//!
//! Whatever is read here may have been made by an enemy: sizes are bounded before anything is held, numbers that
//! contradict each other are errors, and a file cut off anywhere is one too.

mod archive;
mod areas;
mod capture;
mod folder;
mod import;
mod kinds;
mod kprobes;
mod lines;
mod locate;
mod machine;
mod members;
mod memory;
mod module_files;
mod module_ranges;
mod modules;
mod notes;
mod ranges;
mod symbols;

use std::{
    fs,
    io::{BufRead, Read},
    ops::Range,
    path::Path,
};

use modmem::{
    RunAddr,
    arch::{KernelPlace, Machine},
    profile::{KernelConfig, Profile},
};

pub use self::{
    areas::Area,
    kinds::kind_of_section,
    kprobes::Kprobe,
    locate::{Found, Locator, Memories, Place},
    machine::{MachineFiles, serve},
    memory::{MemoryRecord, MemoryRecords},
    module_files::ModuleFiles,
    modules::{ModuleRecord, ModuleState, SectionAddress},
    symbols::{Nearest, Symbol, SymbolTable},
};
pub(crate) use self::{memory::merged, module_ranges::uncovered, modules::is_module_name};
use crate::{Error, Output, WriteOptions, compress::Format, files, image};

/// One machine's module memory and what the machine says about it.
///
/// What could not be had is `None` or empty, and [`missing`](Snapshot::missing) says why.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The kernel's release, such as `6.12.117+deb12-amd64`.
    pub release: String,
    /// The machine as `uname -m` has it: `x86_64`, `aarch64`, `s390x`...; empty if nothing tells.
    pub machine: String,
    /// The text of `/proc/version`.
    pub version: Option<String>,
    /// The kernel's configuration, as text.
    pub config: Option<String>,
    /// The kernel's command line.
    pub command_line: Option<String>,
    /// How many CPUs are online.
    pub cpus: Option<u32>,
    /// `/proc/cpuinfo`, of the first CPU at least.
    pub cpuinfo: Option<String>,
    /// The modules as `/proc/modules` lists them: the newest first.
    pub modules: Vec<ModuleRecord>,
    /// The symbols of the kernel and of its modules.
    pub symbols: SymbolTable,
    /// The areas of vmalloc, by address; none overlap.
    pub areas: Vec<Area>,
    /// Areas that the list has too, although they lie where one of the others does: it changed while it was read.
    pub contradictory_areas: Vec<Area>,
    /// The bytes of module memory, and of the kernel's own words that decide about patched code.
    pub memory: MemoryRecords,
    /// Pages that changed while they were read, each time that they were read: what they hold is of no one moment.
    pub torn: Vec<Range<u64>>,
    /// The kprobes that are set, if the list could be read.
    pub kprobes: Option<Vec<Kprobe>>,
    /// What could not be read, and why: a line each.
    pub missing: Vec<String>,
    /// The modules' own files, where the snapshot brings them along.
    pub module_files: Option<ModuleFiles>,
}

impl Snapshot {
    /// Reads a `.mms` file, a folder of its members, or a description in JSON.
    pub fn open(path: impl AsRef<Path>) -> Result<Snapshot, Error> {
        let path = path.as_ref();
        if fs::metadata(path).map_err(Error::read(path))?.is_dir() {
            return folder::read(path);
        }
        let shown = path.display().to_string();
        let mut file = files::open(path)?;
        let mut start = Vec::new();
        file.by_ref().take(512).read_to_end(&mut start).map_err(Error::read(path))?;
        let whole = start.as_slice().chain(file);
        match start.as_slice() {
            start if Format::of(start) == Some(Format::Zstd) => archive::read_compressed(&shown, whole),
            start if archive::is_tar(start) => archive::read_tar(&shown, whole),
            start if start.trim_ascii_start().starts_with(b"{") => import::read_beside(path, &shown, whole),
            _ => {
                let problem = "no snapshot: neither a .mms file, nor a folder of its members, nor JSON";
                Err(Error::malformed(shown, problem))
            }
        }
    }

    /// Reads the inside of a `.mms` file, which is a tar archive; `shown` names it in errors.
    pub fn from_tar(shown: &str, tar: impl Read) -> Result<Snapshot, Error> {
        archive::read_tar(shown, tar)
    }

    /// Reads a description of a machine in JSON (docs/snapshot.md); `shown` names it in errors, and `open` gives the
    /// files that it names.
    pub fn from_json(
        shown: &str,
        json: &[u8],
        open: impl FnMut(&str) -> Result<Box<dyn BufRead>, Error>,
    ) -> Result<Snapshot, Error> {
        import::read(shown, json, open)
    }

    /// Takes a snapshot of the machine whose root folder this is: `/`, or what looks like it.
    ///
    /// What cannot be read is in [`missing`](Snapshot::missing). It fails only if the kernel's release or its list of
    /// modules cannot be read.
    pub fn capture(root: impl AsRef<Path>) -> Result<Snapshot, Error> {
        capture::capture(&MachineFiles::direct(root.as_ref()))
    }

    /// The same of a machine whose files may be read by another process, which has the rights for it.
    pub fn capture_from(files: &MachineFiles) -> Result<Snapshot, Error> {
        capture::capture(files)
    }

    /// Writes the snapshot as a `.mms` file, which nobody else may read; as root, in no folder that others can write to.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let options = WriteOptions { private: true, ..WriteOptions::default() };
        Output::open(path.as_ref(), options)?.write(|out| archive::write(self, out))
    }

    /// Writes the snapshot in the format of `.mms` files.
    pub fn write_to(&self, out: impl std::io::Write) -> std::io::Result<()> {
        archive::write(self, out)
    }

    /// The module of exactly this name.
    pub fn module(&self, name: &str) -> Option<&ModuleRecord> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// What kernel this is, for layouts; without a configuration that of Debian is taken. Its module memory lies where it
    /// does in a kernel at the place that the symbols tell.
    pub fn profile(&self) -> Result<Profile, Error> {
        let profile = match &self.config {
            Some(config) => {
                Profile::from_config_at(&KernelConfig::parse(config), &self.release, self.kernel_place())
            }
            None => Profile::named_for(self.stated_machine()?, &self.release),
        };
        profile.map_err(|error| Error::malformed("the snapshot", error.to_string()))
    }

    /// The machine, where no configuration tells it; x86-64 if nothing does.
    fn stated_machine(&self) -> Result<Machine, Error> {
        if self.machine.is_empty() {
            return Ok(Machine::X86_64);
        }
        let unknown = || {
            let problem = format!("its machine, {:?}, is none that modmem knows", self.machine);
            Error::malformed("the snapshot", problem)
        };
        members::elf_machine(&self.machine).ok_or_else(unknown)
    }

    /// Where the kernel itself lies, if its symbols tell. Kernels that keep no symbols of data (without
    /// CONFIG_KALLSYMS_ALL) name their code alone; where they have areas of vmalloc for their parts, as on arm64, these
    /// tell the end.
    pub fn kernel_place(&self) -> Option<KernelPlace> {
        let symbol = |name| self.symbols.kernel(name);
        let text = symbol("_text").or_else(|| symbol("_stext"))?;
        let end = symbol("_end").or_else(|| self.end_of_areas(text)).or_else(|| symbol("_etext"));
        let end = end.filter(|end| *end > text)?;
        let start = image::start_of(text, self.config.as_ref().map(|config| config.as_bytes()));
        let text_end = symbol("_etext").unwrap_or(end);
        Some(KernelPlace { start: RunAddr(start), text_end: RunAddr(text_end), end: RunAddr(end) })
    }

    /// What a verification cannot do without, and what this snapshot has none of: memory of modules, addresses of their
    /// sections, symbols. A machine without modules needs none of them.
    pub fn lacks(&self) -> Vec<&'static str> {
        let modules = || self.modules.iter();
        let sections = || modules().flat_map(|module| &module.sections).map(|section| section.address);
        let mut places = sections().chain(modules().map(|module| module.address));
        let lacks = [
            (!places.any(|place| !self.memory.bytes_from(place).is_empty()), "memory of modules"),
            (sections().next().is_none(), "addresses of sections"),
            (self.symbols.is_empty(), "addresses of symbols"),
        ];
        let lacks = lacks.into_iter().filter(|(lacks, _)| *lacks && !self.modules.is_empty());
        lacks.map(|(_, what)| what).collect()
    }

    /// In words, that the list of areas contradicts itself, if it does.
    pub fn contradiction(&self) -> Option<String> {
        areas::contradiction(&self.contradictory_areas)
    }

    /// The end of the areas that follow each other from the one on that an address lies in.
    fn end_of_areas(&self, address: u64) -> Option<u64> {
        let mut end = self.area(address)?.range.end;
        while let Some(next) = self.area(end) {
            end = next.range.end;
        }
        Some(end)
    }

    /// The area of vmalloc that an address lies in.
    pub fn area(&self, address: u64) -> Option<&Area> {
        let after = self.areas.partition_point(|area| area.range.start <= address);
        let area = self.areas.get(after.checked_sub(1)?)?;
        area.range.contains(&address).then_some(area)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_lists_functions_alone_ends_where_its_areas_do() {
        let symbol = |name, address, letter| Symbol { name, address, letter, module: None };
        let area =
            |start, end, caller: &str| Area { range: start..end, caller: caller.into(), rest: String::new() };
        let mut snapshot = Snapshot {
            symbols: SymbolTable::new([symbol("_stext", 0x1_1000, 'T'), symbol("_etext", 0x1_8000, 'D')])
                .unwrap(),
            areas: vec![
                area(0x8000, 0x9000, "vmalloc"),
                area(0x1_1000, 0x1_8000, "paging_init"),
                area(0x1_8000, 0x1_c000, "paging_init"),
                area(0x1_d000, 0x1_e000, "vmalloc"),
            ],
            ..Snapshot::default()
        };
        let place = |snapshot: &Snapshot| {
            snapshot.kernel_place().map(|place| (place.start.0, place.text_end.0, place.end.0))
        };
        assert_eq!(place(&snapshot), Some((0x1_1000, 0x1_8000, 0x1_c000)));
        snapshot.areas.clear();
        assert_eq!(place(&snapshot), Some((0x1_1000, 0x1_8000, 0x1_8000)));
        snapshot.symbols = SymbolTable::default();
        assert_eq!(place(&snapshot), None);
    }
}
