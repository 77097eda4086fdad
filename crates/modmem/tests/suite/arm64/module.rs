//! A module to be, and the memory that it is loaded into.

use std::collections::BTreeMap;
use std::ops::Range;

use modmem::image::Image;
use modmem::layout::MemoryKind;
use modmem::link::{Export, LinkOptions};
use modmem::modules::LoadError;
use modmem::space::{Block, Memory, Protection, Request, SpaceError};
use modmem::{Linker, Modules, Name, Profile, RunAddr};

use crate::support::{ALLOC, EXEC, Elf, PROGBITS, Section, Symbol};

pub(crate) const JUMP26: u32 = 282;
pub(crate) const CALL26: u32 = 283;
pub(crate) const ADRP: u32 = 275;

/// Where text lies; the other memories follow.
pub(crate) const TEXT: u64 = 0xffff_8000_7c00_0000;
const APART: u64 = 0x100_0000;

/// A relocation: offset, symbol, type, addend.
pub(crate) type Relocation = (u64, u32, u32, i64);

/// A module to be.
#[derive(Debug)]
pub(crate) struct Module {
    elf: Elf,
    symbols: Vec<Symbol>,
    strings: Vec<u8>,
    relocations: Vec<(u32, Vec<Relocation>)>,
}

impl Module {
    /// A module with the sections that the kernel's linker script gives each: text is section 1.
    pub(crate) fn new(text: Vec<u8>) -> Module {
        let mut module = Module::without_tables(text);
        for (name, flags) in [
            (".plt", ALLOC | EXEC),
            (".init.plt", ALLOC),
            (".text.ftrace_trampoline", ALLOC | EXEC),
            (".init.text.ftrace_trampoline", ALLOC),
        ] {
            module.section(name, flags, 1, vec![0]);
        }
        module
    }

    /// The same linked without the kernel's script.
    pub(crate) fn without_tables(text: Vec<u8>) -> Module {
        let elf = Elf { is_64: true, big: false, machine: 183, sections: Vec::new() };
        let mut module = Module { elf, symbols: Vec::new(), strings: vec![0], relocations: Vec::new() };
        module.section(".text", ALLOC | EXEC, 8, text);
        module
    }

    pub(crate) fn section(&mut self, name: &str, flags: u64, alignment: u64, data: Vec<u8>) -> u32 {
        self.elf.add(Section::new(name, PROGBITS, flags, alignment, data))
    }

    /// Adds a symbol of a section, 0 for one that the kernel has, and returns its index.
    pub(crate) fn symbol(&mut self, name: &str, section: u32, value: u64) -> u32 {
        let symbol = Symbol { name: self.strings.len() as u32, info: 0x10, section: section as u16, value };
        self.strings.extend(name.bytes());
        self.strings.push(0);
        self.symbols.push(symbol);
        self.symbols.len() as u32
    }

    pub(crate) fn relocate(&mut self, section: u32, entries: &[Relocation]) {
        self.relocations.push((section, entries.to_vec()));
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut elf = self.elf.clone();
        elf.add_module_parts("made", &self.symbols, &self.strings);
        let symtab = elf.sections.len() as u32;
        for (section, entries) in &self.relocations {
            elf.add_relocations(*section, symtab, entries);
        }
        elf.build()
    }

    /// Loads it into a kernel with these symbols.
    pub(crate) fn load(
        &self,
        profile: &Profile,
        symbols: &[(&'static str, u64)],
    ) -> Result<Loaded, LoadError> {
        self.load_behind(profile, symbols, 0)
    }

    /// Loads it into a kernel whose own percpu data ends there.
    pub(crate) fn load_with_percpu(&self, profile: &Profile, percpu_end: u64) -> Result<Loaded, LoadError> {
        self.load_behind(profile, &[], percpu_end)
    }

    fn load_behind(
        &self,
        profile: &Profile,
        symbols: &[(&'static str, u64)],
        percpu_end: u64,
    ) -> Result<Loaded, LoadError> {
        let file = self.build();
        let image = Image::parse(&file).unwrap_or_else(|error| panic!("{error}"));
        let mut modules = Modules::new(profile, percpu_end);
        let export = |&(name, value)| {
            let namespace = Name::default();
            Export { name: Name::from(name), value, gpl_only: false, crc: None, namespace }
        };
        modules.add_kernel_symbols(symbols.iter().map(export)).expect("symbols");
        let (mut linker, options) = (Linker::new(), LinkOptions::default());
        let id = modules.load(&image, profile, &mut Given, &mut linker, options)?;
        let module = modules.get(id).expect("the module");
        let mut sections = BTreeMap::new();
        for section in module.sections() {
            let range = section.offset as usize..(section.offset + section.size) as usize;
            let address = module.address(section.kind).unwrap_or_default() + section.offset;
            let bytes = module.bytes(section.kind).get(range).unwrap_or_default().to_vec();
            sections.insert(section.name.to_text(), (address.0, bytes));
        }
        let memories = MemoryKind::ALL.into_iter();
        let memories =
            memories.filter_map(|kind| Some((kind, module.address(kind)?.0, module.bytes(kind).to_vec())));
        Ok(Loaded { file: file.clone(), sections, memories: memories.collect() })
    }
}

/// What became of a module.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) file: Vec<u8>,
    /// Address and bytes of each section.
    pub(crate) sections: BTreeMap<String, (u64, Vec<u8>)>,
    pub(crate) memories: Vec<(MemoryKind, u64, Vec<u8>)>,
}

impl Loaded {
    pub(crate) fn address(&self, section: &str) -> u64 {
        self.sections[section].0
    }

    pub(crate) fn words(&self, section: &str) -> Vec<u32> {
        let bytes = &self.sections[section].1;
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("4 bytes"))).collect()
    }
}

/// The profile of Linux 6.12, on a machine with the erratum or without.
pub(crate) fn profile(erratum: bool) -> Profile {
    let mut profile = Profile::named_for(modmem::arch::Machine::Arm64, "6.12").expect("a profile");
    profile.machine_state.erratum_843419 = erratum;
    profile.switches.modversions = false;
    profile
}

/// Memory that gives each kind its own place.
#[derive(Debug)]
struct Given;

#[derive(Debug)]
pub(crate) struct GivenBlock {
    address: u64,
    bytes: Vec<u8>,
}

impl Memory for Given {
    type Block = GivenBlock;

    fn allocate(&mut self, request: Request) -> Result<GivenBlock, SpaceError> {
        let at = MemoryKind::ALL.into_iter().position(|kind| kind == request.kind).expect("a kind");
        Ok(GivenBlock { address: TEXT + at as u64 * APART, bytes: vec![0xa5; request.size as usize] })
    }
}

impl Block for GivenBlock {
    fn address(&self) -> RunAddr {
        RunAddr(self.address)
    }
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
    fn protect(&self, _: Range<u64>, _: Protection) -> Result<(), SpaceError> {
        Ok(())
    }
}
