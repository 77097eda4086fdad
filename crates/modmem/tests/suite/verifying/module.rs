//! A small module to be: its sections, relocations and symbols, and the file that they make.

use modmem::MemoryKind;

use crate::support::{ALLOC, EXEC, Elf, PROGBITS, Section, Symbol, WRITE};

/// Bytes written as objdump prints them: `0f 1f 44 00 00`.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// A branch of five bytes at `from`: the opcode and the distance from the next instruction.
pub(crate) fn branch(opcode: u8, from: u64, to: u64) -> Vec<u8> {
    let distance = to.wrapping_sub(from + 5) as u32;
    [&[opcode][..], &distance.to_le_bytes()].concat()
}

pub(crate) const R_64: u32 = 1;
const R_PC32: u32 = 2;
/// SHF_RELA_LIVEPATCH, SHN_LIVEPATCH
const RELA_LIVEPATCH: u64 = 0x10_0000;
const LIVEPATCH: u16 = 0xff20;
const R_PLT32: u32 = 4;
pub(crate) const R_PC64: u32 = 24;

/// What a relocation is counted from.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Section(usize),
    Kernel(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Relocation {
    pub(crate) section: usize,
    pub(crate) offset: u64,
    pub(crate) kind: u32,
    pub(crate) target: Target,
    pub(crate) addend: i64,
}

/// A symbol with a name, in a section of the module.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) info: u8,
    pub(crate) section: usize,
    pub(crate) value: u64,
}

/// One section, and the memory that a kernel puts it into.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) kind: MemoryKind,
    pub(crate) alignment: u64,
    pub(crate) data: Vec<u8>,
}

/// A module to be.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Whether its init has returned.
    pub(crate) live: bool,
    /// Whether it says that it is a livepatch.
    pub(crate) livepatch: bool,
    pub(crate) parts: Vec<Part>,
    pub(crate) relocations: Vec<Relocation>,
    pub(crate) symbols: Vec<Named>,
    /// Branches that livepatch makes go to somebody's function.
    pub(crate) patched: Vec<Patched>,
}

/// A relocation that livepatch applies: when there is `object`, the displacement at (`section`, `offset`) gets what
/// brings a branch to the function that `symbol` names.
#[derive(Clone, Debug)]
pub(crate) struct Patched {
    pub(crate) object: &'static str,
    pub(crate) section: usize,
    pub(crate) offset: u64,
    pub(crate) symbol: &'static str,
}

impl Module {
    pub(crate) fn new(version: &'static str) -> Module {
        let (parts, relocations, symbols) = (Vec::new(), Vec::new(), Vec::new());
        let (live, livepatch, patched) = (true, false, Vec::new());
        Module { name: "tested", version, live, livepatch, parts, relocations, symbols, patched }
    }

    /// Adds a section whose memory is told by its kind, and returns its index.
    pub(crate) fn add(&mut self, name: &'static str, kind: MemoryKind, data: &[u8]) -> usize {
        self.add_aligned(name, kind, 1, data)
    }

    pub(crate) fn add_aligned(
        &mut self,
        name: &'static str,
        kind: MemoryKind,
        alignment: u64,
        data: &[u8],
    ) -> usize {
        self.parts.push(Part { name, kind, alignment, data: data.to_vec() });
        self.parts.len() - 1
    }

    pub(crate) fn text(&mut self, code: &str) -> usize {
        self.add_aligned(".text", MemoryKind::Text, 64, &hex(code))
    }

    /// Adds a table of 32-bit distances to places in a section, as objtool makes them.
    pub(crate) fn sites(&mut self, name: &'static str, section: usize, offsets: &[u64]) -> usize {
        let table = self.add(name, MemoryKind::RoData, &vec![0; offsets.len() * 4]);
        for (&offset, at) in offsets.iter().zip((0..).step_by(4)) {
            self.distance(table, at, section, offset);
        }
        table
    }

    /// Puts the 32-bit distance from (`section`, `offset`) to (`to`, `at`) there.
    pub(crate) fn distance(&mut self, section: usize, offset: u64, to: usize, at: u64) {
        self.relocate(section, offset, R_PC32, Target::Section(to), at as i64);
    }

    /// Puts the 32-bit distance from (`section`, `offset`) to something of the kernel there.
    pub(crate) fn distance_to_kernel(
        &mut self,
        section: usize,
        offset: u64,
        name: &'static str,
        addend: i64,
    ) {
        self.relocate(section, offset, R_PC32, Target::Kernel(name), addend);
    }

    /// Makes the branch whose displacement is at (`section`, `offset`) go to a function of the kernel.
    pub(crate) fn branch(&mut self, section: usize, offset: u64, name: &'static str) {
        self.relocate(section, offset, R_PLT32, Target::Kernel(name), -4);
    }

    /// The same for a place at or behind something of the kernel.
    pub(crate) fn branch_behind(&mut self, section: usize, offset: u64, name: &'static str, by: i64) {
        self.relocate(section, offset, R_PLT32, Target::Kernel(name), by - 4);
    }

    /// Puts an address there.
    pub(crate) fn address(&mut self, section: usize, offset: u64, to: usize, at: u64) {
        self.relocate(section, offset, R_64, Target::Section(to), at as i64);
    }

    /// Puts the 64-bit distance from (`section`, `offset`) there.
    pub(crate) fn distance64(&mut self, section: usize, offset: u64, to: usize, at: u64) {
        self.relocate(section, offset, R_PC64, Target::Section(to), at as i64);
    }

    pub(crate) fn distance64_to_kernel(
        &mut self,
        section: usize,
        offset: u64,
        name: &'static str,
        addend: i64,
    ) {
        self.relocate(section, offset, R_PC64, Target::Kernel(name), addend);
    }

    fn relocate(&mut self, section: usize, offset: u64, kind: u32, target: Target, addend: i64) {
        self.relocations.push(Relocation { section, offset, kind, target, addend });
    }

    /// Names a place; `info` is that of the symbol record.
    pub(crate) fn symbol(&mut self, name: &'static str, info: u8, section: usize, value: u64) {
        self.symbols.push(Named { name, info, section, value });
    }

    /// The file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut elf = Elf::x86_64();
        for part in &self.parts {
            let flags = match part.kind {
                MemoryKind::Text | MemoryKind::InitText => ALLOC | EXEC,
                MemoryKind::RoData | MemoryKind::InitRoData => ALLOC,
                MemoryKind::Data | MemoryKind::RoAfterInit | MemoryKind::InitData => ALLOC | WRITE,
            };
            elf.add(Section::new(part.name, PROGBITS, flags, part.alignment, part.data.clone()));
        }
        let (records, strings, externals) = self.symbol_table();
        elf.add_module_parts(self.name, &records, &strings);
        if self.livepatch {
            let modinfo = elf.sections.iter_mut().find(|section| section.name == ".modinfo").unwrap();
            modinfo.data.extend(b"livepatch=Y\0");
        }
        let symtab = elf.sections.len() as u32;
        for target in 0..self.parts.len() {
            let of_section = self.relocations.iter().filter(|relocation| relocation.section == target);
            let entries: Vec<(u64, u32, u32, i64)> = of_section
                .map(|relocation| {
                    let symbol = match relocation.target {
                        Target::Section(section) => section + 1,
                        Target::Kernel(name) => {
                            let at = externals.iter().position(|known| *known == name).unwrap();
                            1 + self.parts.len() + self.symbols.len() + at
                        }
                    };
                    (relocation.offset, symbol as u32, relocation.kind, relocation.addend)
                })
                .collect();
            if !entries.is_empty() {
                elf.add_relocations(target as u32 + 1, symtab, &entries);
            }
        }
        for (at, patched) in self.patched.iter().enumerate() {
            let symbol = 1 + records.len() - self.patched.len() + at;
            elf.add_relocations(
                patched.section as u32 + 1,
                symtab,
                &[(patched.offset, symbol as u32, R_PLT32, -4)],
            );
            let section = elf.sections.last_mut().unwrap();
            section.name = format!(".klp.rela.{}.{}", patched.object, self.parts[patched.section].name);
            section.flags |= RELA_LIVEPATCH;
        }
        elf.build()
    }

    /// A nameless symbol for each section, the named ones, and undefined ones for what the kernel has.
    pub(crate) fn symbol_table(&self) -> (Vec<Symbol>, Vec<u8>, Vec<&'static str>) {
        const SECTION: u8 = 3;
        const GLOBAL: u8 = 0x10;
        let mut strings = vec![0];
        let mut named = |name: &str| {
            let at = strings.len() as u32;
            strings.extend(name.bytes());
            strings.push(0);
            at
        };
        let sections = 1..=self.parts.len() as u16;
        let mut records: Vec<Symbol> =
            sections.map(|section| Symbol { name: 0, info: SECTION, section, value: 0 }).collect();
        for symbol in &self.symbols {
            let (name, section) = (named(symbol.name), symbol.section as u16 + 1);
            records.push(Symbol { name, info: symbol.info, section, value: symbol.value });
        }
        let mut externals = Vec::new();
        for relocation in &self.relocations {
            if let Target::Kernel(name) = relocation.target
                && !externals.contains(&name)
            {
                externals.push(name);
                records.push(Symbol { name: named(name), info: GLOBAL, section: 0, value: 0 });
            }
        }
        for patched in &self.patched {
            records.push(Symbol { name: named(patched.symbol), info: GLOBAL, section: LIVEPATCH, value: 0 });
        }
        (records, strings, externals)
    }
}
