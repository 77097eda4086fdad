//! Somebody who owns a machine: all that it says and holds can be changed.

use std::collections::BTreeMap;
use std::ops::Range;

use modmem_linux::snapshot::{
    Area, Kprobe, MemoryRecord, MemoryRecords, ModuleRecord, Snapshot, Symbol, SymbolTable,
};

use super::machine::Machine;

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;

/// A symbol that can be changed.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) address: u64,
    pub(super) letter: char,
    pub(super) module: Option<String>,
}

/// A machine being changed.
#[derive(Debug)]
pub(super) struct Intruder<'m> {
    /// As it was.
    pub(super) machine: &'m Machine,
    memory: BTreeMap<u64, Vec<u8>>,
    pub(super) symbols: Vec<Listed>,
    pub(super) areas: Vec<Area>,
    pub(super) modules: Vec<ModuleRecord>,
    pub(super) kprobes: Option<Vec<Kprobe>>,
    pub(super) torn: Vec<Range<u64>>,
    pub(super) cpus: Option<u32>,
    pub(super) config: Option<String>,
    /// Whether whoever verifies expects the probes that the machine lists.
    pub(super) expects_probes: bool,
}

impl<'m> Intruder<'m> {
    pub(super) fn on(machine: &'m Machine) -> Intruder<'m> {
        let snapshot = &machine.snapshot;
        let memory = snapshot.memory.records().iter();
        let symbols = snapshot.symbols.iter().map(|symbol| Listed {
            name: symbol.name.to_owned(),
            address: symbol.address,
            letter: symbol.letter,
            module: symbol.module.map(str::to_owned),
        });
        Intruder {
            machine,
            memory: memory.map(|record| (record.address, record.bytes.clone())).collect(),
            symbols: symbols.collect(),
            areas: snapshot.areas.clone(),
            modules: snapshot.modules.clone(),
            kprobes: snapshot.kprobes.clone(),
            torn: snapshot.torn.clone(),
            cpus: snapshot.cpus,
            config: snapshot.config.clone(),
            expects_probes: false,
        }
    }

    /// What a snapshot of the machine has now.
    ///
    /// # Panics
    /// What was changed cannot be a snapshot.
    pub(super) fn snapshot(self) -> Snapshot {
        let of = &self.machine.snapshot;
        let symbols = self.symbols.iter().map(|symbol| Symbol {
            name: &symbol.name,
            address: symbol.address,
            letter: symbol.letter,
            module: symbol.module.as_deref(),
        });
        let records = self.memory.into_iter().map(|(address, bytes)| MemoryRecord { address, bytes });
        let memory = MemoryRecords::new(records.collect()).expect("memory");
        let mut areas = self.areas;
        areas.sort_by_key(|area| area.range.start);
        Snapshot {
            release: of.release.clone(),
            machine: of.machine.clone(),
            version: of.version.clone(),
            config: self.config,
            command_line: of.command_line.clone(),
            cpus: self.cpus,
            cpuinfo: of.cpuinfo.clone(),
            modules: self.modules,
            symbols: SymbolTable::new(symbols).expect("symbols"),
            areas,
            contradictory_areas: of.contradictory_areas.clone(),
            memory: memory.with_scanned(of.memory.scanned().to_vec()),
            torn: self.torn,
            kprobes: self.kprobes,
            missing: of.missing.clone(),
            module_files: None,
        }
    }

    /// Puts bytes over what is there; `None` if nothing is.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let (start, record) = self.memory.range_mut(..=address).next_back()?;
        let offset = usize::try_from(address - start).ok()?;
        record.get_mut(offset..offset.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }

    /// Makes a branch of five bytes at an address.
    pub(super) fn branch(&mut self, opcode: u8, site: u64, target: u64) -> Option<()> {
        let distance = (target.wrapping_sub(site + 5) as u32).to_le_bytes();
        self.write(site, &[opcode])?;
        self.write(site + 1, &distance)
    }

    /// Takes what is there out of the snapshot's memory.
    pub(super) fn forget(&mut self, address: u64) -> Option<()> {
        let (&start, record) = self.memory.range(..=address).next_back()?;
        (address < start + record.len() as u64).then_some(())?;
        let record = self.memory.remove(&start)?;
        // Whole pages around it stay.
        let offset = (address - start) as usize / PAGE as usize * PAGE as usize;
        let end = (offset + PAGE as usize).min(record.len());
        if offset > 0 {
            self.memory.insert(start, record[..offset].to_vec());
        }
        if end < record.len() {
            self.memory.insert(start + end as u64, record[end..].to_vec());
        }
        Some(())
    }

    /// Pages of the intruder's own code where modules may lie, behind some module and away from all that is there.
    pub(super) fn pages(&mut self, count: u64) -> Option<u64> {
        const APART: u64 = 4 * PAGE;
        let text = &self.machine.profile.ranges.text;
        let inside = |address: &u64| (text.start.0..text.end.0).contains(address);
        let ends = self.machine.memories.iter().map(|(.., range)| range.end).filter(inside);
        let mut places: Vec<u64> = ends.map(|end| end.next_multiple_of(PAGE) + APART).collect();
        places.sort_unstable();
        let is_free = |start: u64| {
            let (start, end) = (start - APART, start + count * PAGE + APART);
            let is_apart = |range: Range<u64>| range.end <= start || end <= range.start;
            self.areas.iter().all(|area| is_apart(area.range.clone()))
                && self.memory.iter().all(|(at, bytes)| is_apart(*at..at + bytes.len() as u64))
                && inside(&end)
        };
        let start = places.into_iter().find(|start| is_free(*start))?;
        self.put(start, count);
        Some(start)
    }

    /// Puts pages of own code at an address where nothing is.
    pub(super) fn put(&mut self, start: u64, count: u64) {
        let mut code = CODE.to_vec();
        code.resize((count * PAGE) as usize, 0);
        self.memory.insert(start, code);
    }

    /// Lists an area over pages.
    pub(super) fn area(&mut self, start: u64, pages: u64, caller: &str) {
        if self.areas.is_empty() {
            return;
        }
        self.areas.push(Area {
            range: start..start + (pages + 1) * PAGE,
            caller: caller.to_owned(),
            rest: format!("{caller}+0x10/0x20 pages={pages} vmalloc"),
        });
    }

    /// Lists a symbol behind all others.
    pub(super) fn list(&mut self, name: &str, address: u64, letter: char, module: Option<&str>) {
        let symbol = Listed { name: name.to_owned(), address, letter, module: module.map(str::to_owned) };
        // Where the kernel's own would stand by its address.
        let place = match module {
            Some(_) => self.symbols.len(),
            None => {
                let own = |listed: &Listed| listed.module.is_none() && listed.address <= address;
                self.symbols.iter().rposition(own).map_or(0, |at| at + 1)
            }
        };
        self.symbols.insert(place, symbol);
    }

    /// The kernel's own symbol.
    pub(super) fn own(&mut self, name: &str) -> Option<&mut Listed> {
        self.symbols.iter_mut().find(|symbol| symbol.name == name && symbol.module.is_none())
    }

    /// Takes a module out of a list of modules and of their symbols.
    pub(super) fn unlink(&mut self, module: &str) -> Option<ModuleRecord> {
        let at = self.modules.iter().position(|record| record.name == module)?;
        Some(self.modules.remove(at))
    }

    /// Takes a module's symbols out.
    pub(super) fn unlist(&mut self, module: &str) {
        self.symbols.retain(|symbol| symbol.module.as_deref() != Some(module));
    }
}

/// What the intruder runs: `mov $1, %eax; ret` and more of the kind.
pub(super) const CODE: [u8; 48] = [
    0x48, 0x31, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0x89, 0xc7, 0x48, 0x85, 0xff, 0x75, 0x05, 0xb8, 1, 0, 0, 0,
    0xc3, 0x48, 0x31, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0x89, 0xc7, 0x48, 0x85, 0xff, 0x75, 0x05, 0xb8, 1, 0, 0,
    0, 0xc3, 0x48, 0x31, 0xc0, 0x48, 0xff, 0xc0, 0x90, 0xc3,
];
