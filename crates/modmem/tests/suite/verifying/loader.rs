//! What a kernel's loader makes of a module before anything is patched, in a few lines of its own: the layout, the four
//! relocations that the tests need, the symbol tables. What the engine expects is never compared with what it made.

use modmem::MemoryKind;

use crate::support::Symbol;
use crate::verifying::module::{Module, R_64, R_PC64, Target};

/// A module in a guest's memory.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) live: bool,
    pub(crate) file: Vec<u8>,
    /// Section names and addresses, as sysfs has them.
    pub(crate) sections: Vec<(&'static str, u64)>,
    pub(crate) build_id: Option<Vec<u8>>,
    /// Addresses by the index that [`Module::add`] gave.
    pub(crate) places: Vec<u64>,
}

impl Loaded {
    /// The address of a byte of a section.
    pub(crate) fn at(&self, section: usize, offset: u64) -> u64 {
        self.places[section] + offset
    }
}

/// A memory, where it lies and what is in it.
pub(crate) type Memory = (MemoryKind, u64, Vec<u8>);

/// Where the memories of the first module lie, from 6.4 on; those of the next are a megabyte further on.
const BASES: [u64; 7] = [0x1000, 0x11000, 0x21000, 0x31000, 0x41000, 0x51000, 0x61000];
const MODULES: u64 = 0xffff_ffff_c000_0000;
/// Percpu data, which lies in no memory of the module.
const PERCPU: &str = ".data..percpu";
const PERCPU_BASE: u64 = 0x2_f000;
const THIS_MODULE: u64 = 0x500;

impl Module {
    /// Where each section lies, and each memory of this kernel that the module has, with its pages.
    fn layout(&self, slot: u64) -> (Vec<u64>, Vec<Memory>) {
        use MemoryKind::{Data, InitData, InitRoData, InitText, RoAfterInit, RoData, Text};
        let base = MODULES + slot * 0x10_0000;
        // 6.1: one block for the core and one for init, each kind on pages of its own.
        let packed: &[(u64, &[MemoryKind])] =
            &[(0x1000, &[Text, RoData, RoAfterInit, Data]), (0x41000, &[InitText, InitRoData, InitData])];
        let mut starts: Vec<(MemoryKind, u64)> = Vec::new();
        let size = |kind: MemoryKind| {
            let sections = self.parts.iter().filter(|part| part.kind == kind);
            let size = sections
                .fold(0_u64, |end, part| end.next_multiple_of(part.alignment) + part.data.len() as u64);
            assert!(size < 0x10000, "the memories of a test lie so near to each other");
            let pages = size.next_multiple_of(4096);
            match kind {
                // `struct module` and the symbol tables fit the page too; 6.1 has a page of its own for the tables.
                Data => {
                    if ["5.10", "6.1"].contains(&self.version) {
                        8192
                    } else {
                        4096
                    }
                }
                InitData => {
                    if ["5.10", "6.1"].contains(&self.version) {
                        pages + 4096
                    } else {
                        4096
                    }
                }
                _ => pages,
            }
        };
        if ["5.10", "6.1"].contains(&self.version) {
            for (start, kinds) in packed {
                let mut at = base + start;
                for &kind in *kinds {
                    starts.push((kind, at));
                    at += size(kind);
                }
            }
        } else {
            starts.extend(MemoryKind::ALL.into_iter().zip(BASES).map(|(kind, start)| (kind, base + start)));
        }
        let mut places = Vec::new();
        let mut ends = starts.clone();
        for part in &self.parts {
            if part.name == PERCPU {
                places.push(PERCPU_BASE);
                continue;
            }
            let (_, end) = ends.iter_mut().find(|(kind, _)| *kind == part.kind).unwrap();
            *end = end.next_multiple_of(part.alignment);
            places.push(*end);
            *end += part.data.len() as u64;
        }
        let memories = starts.into_iter().filter(|(kind, _)| size(*kind) > 0);
        (places, memories.map(|(kind, start)| (kind, start, vec![0; size(kind) as usize])).collect())
    }

    /// Loads the module: the guest's view of it, and its memories. `kernel` finds the kernel's symbols.
    pub(crate) fn load(&self, slot: u64, kernel: impl Fn(&str) -> u64) -> (Loaded, Vec<Memory>) {
        let (places, mut memories) = self.layout(slot);
        let value = |target: &Target| match target {
            Target::Section(section) => places[*section],
            Target::Kernel(name) => kernel(name),
        };
        for (index, part) in self.parts.iter().enumerate().filter(|(_, part)| part.name != PERCPU) {
            let (_, start, bytes) = memories.iter_mut().find(|(kind, ..)| *kind == part.kind).unwrap();
            let from = (places[index] - *start) as usize;
            let section = &mut bytes[from..from + part.data.len()];
            section.copy_from_slice(&part.data);
            for relocation in self.relocations.iter().filter(|relocation| relocation.section == index) {
                let at = relocation.offset as usize;
                let sum = value(&relocation.target).wrapping_add(relocation.addend as u64);
                let relative = sum.wrapping_sub(places[index] + relocation.offset);
                match relocation.kind {
                    R_64 => section[at..at + 8].copy_from_slice(&sum.to_le_bytes()),
                    R_PC64 => section[at..at + 8].copy_from_slice(&relative.to_le_bytes()),
                    _ => section[at..at + 4].copy_from_slice(&(relative as u32).to_le_bytes()),
                }
            }
        }
        let mut sections: Vec<_> =
            self.parts.iter().zip(&places).map(|(part, &place)| (part.name, place)).collect();
        sections.extend(self.write_symbols(&places, &kernel, &mut memories));
        let build_id = self.parts.iter().find(|part| part.name == ".note.gnu.build-id");
        let loaded = Loaded {
            name: self.name,
            version: self.version,
            live: self.live,
            file: self.file(),
            sections,
            build_id: build_id.map(|part| part.data[16..].to_vec()),
            places,
        };
        (loaded, memories)
    }

    /// Writes what the loader keeps of the symbols (kernel/module/kallsyms.c:add_kallsyms): all of them in InitData,
    /// those with names in memory that stays at the end of Data. Says where `struct module` and the tables are.
    fn write_symbols(
        &self,
        places: &[u64],
        kernel: impl Fn(&str) -> u64,
        memories: &mut [Memory],
    ) -> [(&'static str, u64); 3] {
        let (symbols, strings, _) = self.symbol_table();
        let end = |kind: MemoryKind, start: u64| {
            let of_kind =
                self.parts.iter().zip(places).filter(|(part, _)| part.kind == kind && part.name != PERCPU);
            of_kind.map(|(part, place)| place + part.data.len() as u64).max().unwrap_or(start)
        };
        let kind_of =
            |symbol: &Symbol| Some(self.parts.get(usize::from(symbol.section).checked_sub(1)?)?.kind);
        let all: Vec<Record> = core::iter::once(Symbol::default())
            .chain(symbols)
            .map(|symbol| {
                let kind = kind_of(&symbol);
                let letter = match kind {
                    // In a section that is read and not kept.
                    None if symbol.section != 0 => b'?',
                    None => b'U',
                    Some(_) if self.parts[usize::from(symbol.section) - 1].name == PERCPU => b'a',
                    Some(MemoryKind::Text | MemoryKind::InitText) => b't',
                    Some(MemoryKind::RoData | MemoryKind::InitRoData) => b'r',
                    Some(_) => b'd',
                };
                let name = strings[symbol.name as usize..].split(|&byte| byte == 0).next().unwrap().to_vec();
                let value = match usize::from(symbol.section).checked_sub(1) {
                    Some(at) => places.get(at).copied().unwrap_or_default() + symbol.value,
                    None if symbol.name == 0 => 0,
                    None => kernel(str::from_utf8(&name).unwrap()),
                };
                let stays = symbol.name != 0 && kind.is_some_and(|kind| !kind.is_init()) || self.livepatch;
                Record { symbol, value, letter, name, stays }
            })
            .collect();

        let (_, start, bytes) = memories.iter_mut().find(|(kind, ..)| *kind == MemoryKind::Data).unwrap();
        let this_module = end(MemoryKind::Data, *start).next_multiple_of(64);
        let core: Vec<&Record> =
            all.iter().enumerate().filter(|(at, r)| *at == 0 || r.stays).map(|(_, r)| r).collect();
        let (mut records, mut names, mut letters) = (Vec::new(), Vec::new(), Vec::new());
        for record in &core {
            records.extend(record.bytes(names.len() as u32));
            names.extend(&record.name);
            names.push(0);
            letters.push(record.letter);
        }
        let at = if ["5.10", "6.1"].contains(&self.version) {
            4096
        } else {
            (this_module + THIS_MODULE - *start) as usize
        };
        let tables = [records, names, letters].concat();
        bytes[at..at + tables.len()].copy_from_slice(&tables);

        let (_, start, bytes) = memories.iter_mut().find(|(kind, ..)| *kind == MemoryKind::InitData).unwrap();
        let alignment = if ["5.10", "6.1"].contains(&self.version) { 4096 } else { 8 };
        let symtab = end(MemoryKind::InitData, *start).next_multiple_of(alignment);
        let mut tables: Vec<u8> = all.iter().flat_map(|record| record.bytes(record.symbol.name)).collect();
        let strtab = symtab + tables.len() as u64;
        tables.extend(&strings);
        tables.resize(tables.len().next_multiple_of(8), 0);
        // `struct mod_kallsyms`: symtab, their number, strtab, type letters.
        let types = symtab + tables.len() as u64 + 32;
        tables.extend([symtab, all.len() as u64, strtab, types].iter().flat_map(|word| word.to_le_bytes()));
        tables.extend(all.iter().map(|record| record.letter));
        let at = (symtab - *start) as usize;
        bytes[at..at + tables.len()].copy_from_slice(&tables);
        [(".gnu.linkonce.this_module", this_module), (".symtab", symtab), (".strtab", strtab)]
    }
}

/// A symbol as the loader keeps it.
struct Record {
    symbol: Symbol,
    value: u64,
    letter: u8,
    name: Vec<u8>,
    stays: bool,
}

impl Record {
    fn bytes(&self, name: u32) -> Vec<u8> {
        let mut bytes = name.to_le_bytes().to_vec();
        bytes.extend([self.symbol.info, 0]);
        bytes.extend(self.symbol.section.to_le_bytes());
        bytes.extend(self.value.to_le_bytes());
        bytes.extend([0; 8]);
        bytes
    }
}
