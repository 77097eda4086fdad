//! A recorded machine that nobody has touched.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use modmem::MemoryKind;
use modmem::image::SymbolPlace;
use modmem::profile::Profile;
use modmem::{Image, Name};
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Options, Outcome, OwnFiles, Verification, verify};
use modmem_linux::{KernelList, ListedSymbol};

/// A machine, its modules' files, and what is where.
#[derive(Debug)]
pub struct Machine {
    pub(super) name: String,
    pub(super) snapshot: Snapshot,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) profile: Profile,
    /// The memories that modules have, with whose and which they are.
    pub(super) memories: Vec<(String, MemoryKind, Range<u64>)>,
    /// Stands for what the kernel's image says of its symbols.
    image: KernelList,
}

/// A call of one of the kernel's functions.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The instruction, `e8` and a distance.
    pub(super) site: u64,
    pub(super) function: String,
}

impl Machine {
    /// Reads a recording that brings its module files along.
    ///
    /// # Errors
    /// It does not, or is not clean as it was recorded.
    pub fn read(path: &Path) -> Result<Machine> {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let snapshot = Snapshot::open(path)?;
        let files = snapshot.module_files.as_ref().context("it has no module files")?.read()?;
        let own = snapshot.symbols.iter().filter(|symbol| symbol.module.is_none());
        let own: Vec<ListedSymbol> = own
            .map(|symbol| ListedSymbol {
                name: symbol.name.into(),
                letter: symbol.letter,
                address: symbol.address,
                moves: symbol.address > 1 << 32,
            })
            .collect();
        let profile = snapshot.profile()?;
        let image = KernelList::new(&own);
        let mut machine = Machine { name, snapshot, files, profile, memories: Vec::new(), image };
        let verification = machine.verify(super::Intruder::on(&machine).snapshot(), true, false);
        ensure!(verification.is_clean(), "{}: not clean as it was recorded", path.display());
        for checked in &verification.modules {
            let Outcome::Compared(report) = &checked.outcome else {
                return Err(anyhow!("{}: {} was not compared", path.display(), checked.name));
            };
            for (kind, memory) in report.memories.iter() {
                let Some(memory) = memory else { continue };
                let range = memory.address.0..memory.address.0 + memory.tally.total;
                machine.memories.push((checked.name.clone(), kind, range));
            }
        }
        Ok(machine)
    }

    /// What `modmem verify` makes of a snapshot of it.
    pub(super) fn verify(&self, mut snapshot: Snapshot, with_image: bool, probes: bool) -> Verification {
        let mut options = Options { listed_kprobes: probes, ..Options::default() };
        if with_image {
            let config = self.snapshot.config.clone().unwrap_or_default();
            options.contradictions = snapshot.check_config(&config).into_iter().collect();
            options.own_config = true;
            options.own_symbols =
                snapshot.check_own_symbols(&self.image).unwrap_or_else(|problem| panic!("{problem}"));
        }
        let own = OwnFiles::of(&self.snapshot).ok().flatten();
        let mut files = |name: &str| match self.files.get(name) {
            Some(file) => Ok(Some(file.clone())),
            None => own.as_ref().map_or(Ok(None), |own| own.get(name)),
        };
        verify(&snapshot, &options, &mut files).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The module whose text is largest, with where that is.
    pub(super) fn largest(&self) -> Option<(&str, Range<u64>)> {
        let texts = self.memories.iter().filter(|(_, kind, _)| *kind == MemoryKind::Text);
        let (name, _, range) = texts.max_by_key(|(.., range)| range.end - range.start)?;
        Some((name, range.clone()))
    }

    /// Address of the kernel's symbol.
    pub(super) fn kernel(&self, name: &str) -> Option<u64> {
        self.snapshot.symbols.kernel(name)
    }

    pub(super) fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.snapshot.memory.bytes(address, length)
    }

    pub(super) fn word(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes(address, 8)?.first_chunk()?))
    }

    /// Whose memory of that kind an address is in.
    pub(super) fn is_in(&self, kind: MemoryKind, address: u64) -> bool {
        self.memories.iter().any(|(_, other, range)| *other == kind && range.contains(&address))
    }

    /// Where a section of a module lies.
    pub(super) fn section(&self, module: &str, name: &str) -> Option<Range<u64>> {
        let image = Image::parse(self.files.get(module)?).ok()?;
        let size = image.section(name)?.size();
        let start = self.snapshot.module(module)?.section(name)?;
        Some(start..start + size)
    }

    /// The places that tables of distances of 32 bits name, in all modules, of code that is still there.
    pub(super) fn sites(&self, table: &str) -> Vec<u64> {
        let mut sites = Vec::new();
        for module in &self.snapshot.modules {
            let Some(range) = self.section(&module.name, table) else { continue };
            for at in range.step_by(4) {
                let Some(distance) = self.bytes(at, 4).and_then(<[u8]>::first_chunk) else { continue };
                let site = at.wrapping_add_signed(i64::from(i32::from_le_bytes(*distance)));
                if self.is_in(MemoryKind::Text, site) {
                    sites.push(site);
                }
            }
        }
        sites
    }

    /// The entries of functions that can be traced, in the text of one module.
    pub(super) fn entries(&self, module: &str) -> Vec<u64> {
        let table = self.section(module, "__mcount_loc").unwrap_or_default();
        let entries = table.step_by(8).filter_map(|at| self.word(at));
        entries.filter(|entry| self.is_in(MemoryKind::Text, *entry)).collect()
    }

    /// Calls that go straight to the kernel's functions, in all modules, as their relocations tell.
    pub(super) fn calls(&self) -> Vec<Call> {
        let mut calls = Vec::new();
        for module in &self.snapshot.modules {
            let Some(image) = self.files.get(&module.name).and_then(|file| Image::parse(file).ok()) else {
                continue;
            };
            for table in image.relocations() {
                let Some(start) = table.target().name().as_str().and_then(|name| module.section(name)) else {
                    continue;
                };
                for relocation in table.iter() {
                    let symbol = image.symbols().get(relocation.symbol as usize);
                    let symbol = symbol.filter(|symbol| symbol.place == SymbolPlace::Undefined);
                    let Some(name) = symbol.and_then(|symbol| symbol.name.as_str()) else { continue };
                    let site = start.wrapping_add(relocation.offset).wrapping_sub(1);
                    let Some([0xe8, distance @ ..]) = self.bytes(site, 5) else { continue };
                    let Some(distance) = distance.first_chunk() else { continue };
                    let target = (site + 5).wrapping_add_signed(i64::from(i32::from_le_bytes(*distance)));
                    if Some(target) == self.kernel(name) && self.is_in(MemoryKind::Text, site) {
                        calls.push(Call { site, function: name.to_owned() });
                    }
                }
            }
        }
        calls
    }

    /// The function of the kernel that is called most, with all calls of it.
    pub(super) fn favourite(&self) -> Option<(String, Vec<u64>)> {
        let mut all: HashMap<String, Vec<u64>> = HashMap::new();
        for Call { site, function } in self.calls() {
            all.entry(function).or_default().push(site);
        }
        // Not one that rules know by name.
        let plain = |name: &String| !name.starts_with("__") && name.as_str() != "_printk";
        all.into_iter()
            .filter(|(name, _)| plain(name))
            .max_by_key(|(name, sites)| (sites.len(), name.clone()))
    }

    /// The places of alternatives of x86-64 in all modules, of kernels whose paravirt calls are alternatives (6.8 and later).
    pub(super) fn alternative_sites(&self) -> Vec<u64> {
        const ENTRY: usize = 14;
        let mut sites = Vec::new();
        for module in &self.snapshot.modules {
            let Some(range) = self.section(&module.name, ".altinstructions") else { continue };
            for at in range.step_by(ENTRY) {
                let Some(distance) = self.bytes(at, 4).and_then(<[u8]>::first_chunk) else { continue };
                sites.push(at.wrapping_add_signed(i64::from(i32::from_le_bytes(*distance))));
            }
        }
        sites
    }

    /// The places of `.static_call_sites` of all modules: code, and the key's address.
    pub(super) fn static_calls(&self) -> Vec<(u64, u64)> {
        let mut calls = Vec::new();
        for module in &self.snapshot.modules {
            let Some(range) = self.section(&module.name, ".static_call_sites") else { continue };
            for at in range.step_by(8) {
                let distance = |at: u64| {
                    let distance = i32::from_le_bytes(*self.bytes(at, 4)?.first_chunk()?);
                    Some(at.wrapping_add_signed(i64::from(distance)))
                };
                let Some((code, key)) = distance(at).zip(distance(at + 4)) else { continue };
                if self.is_in(MemoryKind::Text, code) {
                    calls.push((code, key & !3));
                }
            }
        }
        calls
    }

    /// Branches on static keys: code and key.
    pub(super) fn jump_labels(&self) -> Vec<(u64, u64)> {
        let mut labels = Vec::new();
        for module in &self.snapshot.modules {
            let Some(range) = self.section(&module.name, "__jump_table") else { continue };
            for at in range.step_by(16) {
                let code = self.bytes(at, 4).and_then(<[u8]>::first_chunk);
                let Some((code, key)) = code.zip(self.word(at + 8)) else { continue };
                let code = at.wrapping_add_signed(i64::from(i32::from_le_bytes(*code)));
                if self.is_in(MemoryKind::Text, code) {
                    labels.push((code, (at + 8).wrapping_add(key) & !3));
                }
            }
        }
        labels
    }

    /// A symbol of a module's text that stands alone at its address.
    pub(super) fn function_of(&self, module: &str) -> Option<(String, u64)> {
        let symbols = self.snapshot.symbols.iter().filter(|symbol| symbol.module == Some(module));
        let mut functions = symbols.filter(|symbol| matches!(symbol.letter, 't' | 'T'));
        let found = functions.find(|symbol| self.is_in(MemoryKind::Text, symbol.address))?;
        Some((found.name.to_owned(), found.address))
    }

    /// Whether the machine's code is x86-64's.
    pub(super) fn is_x86(&self) -> bool {
        self.profile.machine == modmem::arch::Machine::X86_64
    }

    /// The image of a module's file.
    pub(super) fn has_section(&self, module: &str, name: &str) -> bool {
        let image = self.files.get(module).and_then(|file| Image::parse(file).ok());
        image.is_some_and(|image| image.section(Name::from(name).as_str().unwrap_or_default()).is_some())
    }
}
