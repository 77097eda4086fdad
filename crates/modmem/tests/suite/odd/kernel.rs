//! A kernel that exports a few symbols, and the modules that tests load into it.

use modmem::image::Image;
use modmem::link::{Export, LinkOptions};
use modmem::modules::{LoadError, Module};
use modmem::space::SpaceBlock;
use modmem::{AddressSpace, Linker, ModuleId, Modules, Name, Profile};

use crate::support::{Elf, Symbol};

/// The address of the first symbol that the kernel exports; the others follow, 16 bytes apart.
pub(crate) const FIRST: u64 = 0xffff_ffff_8100_0000;

/// A block of modelled memory.
pub(crate) type SpaceBytes = SpaceBlock<Vec<u8>>;

pub(crate) struct Kernel {
    pub(crate) profile: Profile,
    pub(crate) space: AddressSpace,
    pub(crate) modules: Modules<SpaceBytes>,
}

impl Kernel {
    /// A kernel with that profile that exports symbols, with their CRCs where they have some.
    pub(crate) fn new(profile: Profile, symbols: &[(&str, Option<u32>)]) -> Kernel {
        let mut modules = Modules::new(&profile, 0x1000);
        let exports = symbols.iter().zip(0..).map(|(&(name, crc), index)| Export {
            name: Name::from(name),
            value: FIRST + index * 16,
            gpl_only: false,
            crc,
            namespace: Name::default(),
        });
        modules.add_kernel_symbols(exports).unwrap();
        Kernel { space: AddressSpace::new(&profile), profile, modules }
    }

    /// A kernel of that version on x86-64 that exports nothing.
    pub(crate) fn named(version: &str) -> Kernel {
        Kernel::new(Profile::named(version).unwrap(), &[])
    }

    pub(crate) fn load(&mut self, elf: &Elf) -> Result<ModuleId, LoadError> {
        self.load_file(&elf.build())
    }

    pub(crate) fn load_file(&mut self, file: &[u8]) -> Result<ModuleId, LoadError> {
        let image = Image::parse(file)?;
        let (holes, count) = (self.space.holes(), self.modules.exports().len());
        let options = LinkOptions::default();
        let loaded = self.modules.load(&image, &self.profile, &mut self.space, &mut Linker::new(), options);
        if loaded.is_err() {
            assert_eq!((self.space.holes(), self.modules.exports().len()), (holes, count));
        }
        loaded
    }

    /// The module that `elf` becomes.
    pub(crate) fn loaded(&mut self, elf: &Elf) -> &Module<SpaceBytes> {
        let id = self.load(elf).unwrap_or_else(|error| panic!("{error}"));
        self.modules.get(id).unwrap()
    }
}

/// A module that needs a symbol of each of these names.
pub(crate) fn user_of(symbols: &[&str]) -> Elf {
    let mut elf = Elf::x86_64();
    let mut strings = vec![0];
    let mut records = Vec::new();
    for symbol in symbols {
        records.push(Symbol { name: strings.len() as u32, info: 0x10, ..Symbol::default() });
        strings.extend(symbol.bytes());
        strings.push(0);
    }
    elf.add_module_parts("odd", &records, &strings);
    elf
}
