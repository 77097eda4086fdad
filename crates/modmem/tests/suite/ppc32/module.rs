//! A small module to be, and a kernel to load it into.

use modmem::arch::Machine;
use modmem::image::Image;
use modmem::layout::{Layout, LayoutError};
use modmem::link::{Export, LinkOptions};
use modmem::modules::LoadError;
use modmem::space::SpaceBlock;
use modmem::{AddressSpace, Linker, MemoryKind, ModuleId, Modules, Name, Profile};

use crate::support::{ALLOC, EXEC, Elf, NOBITS, PROGBITS, RELA, Section, Symbol, WRITE};

pub(crate) const ADDR32: u32 = 1;
pub(crate) const REL24: u32 = 10;
pub(crate) const REL32: u32 = 26;
/// `bl`, before it is relocated.
pub(crate) const CALL: u32 = 0x4800_0001;

/// Where kernel symbols lie that branches do not reach.
pub(crate) const FAR: u64 = 0xe000_0000;
/// And where they reach them: the text of a kernel of which only that is known begins there.
pub(crate) const NEAR: u64 = 0xc000_0100;

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A module to be. Symbols are numbered from 1; the first two are the sections `.text` and `.init.text`.
pub(crate) struct Module {
    elf: Elf,
    symbols: Vec<Symbol>,
    strings: Vec<u8>,
    relocations: Vec<(String, u32, Vec<Relocation>)>,
}

/// Offset, symbol, type, addend.
pub(crate) type Relocation = (u64, u32, u32, i64);

pub(crate) const TEXT: u32 = 1;
pub(crate) const INIT_TEXT: u32 = 2;

impl Module {
    /// One with code, and init code.
    pub(crate) fn new(text: &[u32], init: &[u32]) -> Module {
        let mut module = Module::without_tables(text, init);
        for name in [".plt", ".init.plt"] {
            module.elf.add(Section::new(name, NOBITS, ALLOC | EXEC, 8, Vec::new()));
        }
        module
    }

    /// The same, and the loader has nowhere to put stubs.
    pub(crate) fn without_tables(text: &[u32], init: &[u32]) -> Module {
        let mut elf = Elf { is_64: false, big: true, machine: 20, sections: Vec::new() };
        let mut symbols = Vec::new();
        for (name, code) in [(".text", text), (".init.text", init)] {
            let section = elf.add(Section::new(name, PROGBITS, ALLOC | EXEC, 4, words(code)));
            symbols.push(Symbol { info: 3, section: section as u16, ..Symbol::default() });
        }
        Module { elf, symbols, strings: vec![0], relocations: Vec::new() }
    }

    /// Adds data, writable or not, and returns its section and a symbol for it.
    pub(crate) fn data(&mut self, name: &str, writable: bool, data: &[u32]) -> (u32, u32) {
        let flags = if writable { ALLOC | WRITE } else { ALLOC };
        let section = self.elf.add(Section::new(name, PROGBITS, flags, 4, words(data)));
        self.symbols.push(Symbol { info: 3, section: section as u16, ..Symbol::default() });
        (section, self.symbols.len() as u32)
    }

    /// A symbol of the kernel's.
    pub(crate) fn symbol(&mut self, name: &str) -> u32 {
        let start = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        self.symbols.push(Symbol { name: start, info: 0x10, ..Symbol::default() });
        self.symbols.len() as u32
    }

    /// Relocations of a section; 0 is none that is kept.
    pub(crate) fn relocate(&mut self, section: &str, target: u32, entries: &[Relocation]) {
        self.relocations.push((section.to_owned(), target, entries.to_vec()));
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        let mut elf = self.elf.clone();
        elf.add_module_parts("made_up", &self.symbols, &self.strings);
        let symtab = elf.sections.len() as u32;
        for (name, target, entries) in &self.relocations {
            let records = entries.iter().flat_map(|&(offset, symbol, kind, addend)| {
                words(&[offset as u32, symbol << 8 | kind, addend as u32])
            });
            let mut section = Section::new(name, RELA, 0, 4, records.collect());
            (section.link, section.info, section.entry_size) = (symtab, *target, 12);
            elf.add(section);
        }
        elf.build()
    }
}

pub(crate) fn profile() -> Profile {
    Profile::named_for(Machine::PowerPc, "6.12").unwrap()
}

/// Bytes of `.plt` and `.init.plt`.
pub(crate) fn table_sizes(module: &Module, profile: &Profile) -> Result<(u64, u64), LayoutError> {
    let file = module.file();
    let image = Image::parse(&file).unwrap();
    let layout = Layout::of(&image, profile)?;
    let size = |name| layout.shape(image.section(name).unwrap()).size;
    Ok((size(".plt"), size(".init.plt")))
}

/// A kernel with symbols at given addresses.
pub(crate) struct Kernel {
    pub(crate) profile: Profile,
    pub(crate) modules: Modules<SpaceBlock<Vec<u8>>>,
    space: AddressSpace,
}

impl Kernel {
    pub(crate) fn new(profile: Profile, symbols: &[(&str, u64)]) -> Kernel {
        let mut modules = Modules::new(&profile, 0);
        let namespace = Name::default();
        let exports = symbols.iter().map(|&(name, value)| Export {
            name: Name::from(name),
            value,
            gpl_only: false,
            crc: None,
            namespace,
        });
        modules.add_kernel_symbols(exports).unwrap();
        let space = AddressSpace::new(&profile);
        Kernel { profile, modules, space }
    }

    pub(crate) fn load(&mut self, module: &Module) -> Result<ModuleId, LoadError> {
        let file = module.file();
        let image = Image::parse(&file).unwrap();
        let options = LinkOptions { force: true };
        self.modules.load(&image, &self.profile, &mut self.space, &mut Linker::new(), options)
    }

    /// A word of a loaded section, and its address.
    pub(crate) fn word(&self, id: ModuleId, section: &str, index: usize) -> (u32, u64) {
        let module = self.modules.get(id).unwrap();
        let section = module.sections().find(|known| known.name == section).unwrap();
        let at = section.offset as usize + index * 4;
        let bytes = &module.bytes(section.kind)[at..at + 4];
        let address = module.address(section.kind).unwrap() + at as u64;
        (u32::from_be_bytes(bytes.try_into().unwrap()), address.0)
    }

    /// A memory that the module has: where, and its bytes.
    pub(crate) fn memory(&self, id: ModuleId, kind: MemoryKind) -> Option<(u64, Vec<u8>)> {
        let module = self.modules.get(id).unwrap();
        Some((module.address(kind)?.0, module.bytes(kind).to_vec()))
    }
}

/// `bl` from one address to another.
pub(crate) fn call(from: u64, to: u64) -> u32 {
    CALL | to.wrapping_sub(from) as u32 & 0x03ff_fffc
}

/// The words of a stub.
pub(crate) fn stub(to: u64) -> [u32; 4] {
    let upper = (to as u32).wrapping_add(0x8000) >> 16;
    [0x3d80_0000 | upper, 0x398c_0000 | to as u32 & 0xffff, 0x7d89_03a6, 0x4e80_0420]
}
