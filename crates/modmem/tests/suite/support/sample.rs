//! The sample kernel, into which tests load the sample modules.

use std::path::Path;

use modmem::image::Image;
use modmem::link::{Export, LinkError, LinkOptions, Reason};
use modmem::modules::{LoadError, UnloadError};
use modmem::space::SpaceBlock;
use modmem::{AddressSpace, Linker, ModuleId, Modules, Name, Profile, RunAddr};

const ROOT: &str = "../../samples/root/lib/modules/6.12.0-sample";

pub(crate) fn read(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(ROOT).join(path)).unwrap()
}

pub(crate) fn lib() -> Vec<u8> {
    read("kernel/lib/sample_lib.ko")
}

pub(crate) fn core() -> Vec<u8> {
    read("kernel/drivers/sample/sample_core.ko")
}

/// A kernel that exports what its Module.symvers says.
pub(crate) struct Kernel {
    pub(crate) profile: Profile,
    pub(crate) space: AddressSpace,
    pub(crate) modules: Modules<SpaceBlock<Vec<u8>>>,
}

impl Kernel {
    pub(crate) fn new() -> Kernel {
        Kernel::with(Profile::named("6.12").unwrap())
    }

    pub(crate) fn with(profile: Profile) -> Kernel {
        let mut modules = Modules::new(&profile, 0x39000);
        let symvers = String::from_utf8(read("Module.symvers")).unwrap();
        let exports = symvers.lines().enumerate().filter_map(|(line, text)| {
            let [crc, name, "vmlinux", kind, namespace] = text.split('\t').collect::<Vec<_>>()[..] else {
                return None;
            };
            Some(Export {
                name: Name::from(name),
                value: 0xffff_ffff_8100_0000 + line as u64 * 16,
                gpl_only: kind.ends_with("_GPL"),
                crc: Some(u32::from_str_radix(&crc[2..], 16).unwrap()),
                namespace: Name::from(namespace),
            })
        });
        modules.add_kernel_symbols(exports).unwrap();
        Kernel { space: AddressSpace::new(&profile), profile, modules }
    }

    pub(crate) fn load(&mut self, file: &[u8]) -> Result<ModuleId, LoadError> {
        let image = Image::parse(file).unwrap();
        let options = LinkOptions::default();
        let loaded = self.modules.load(&image, &self.profile, &mut self.space, &mut Linker::new(), options);
        assert_eq!(self.modules.protection_violation(), None);
        loaded
    }

    pub(crate) fn start(&mut self, file: &[u8]) -> ModuleId {
        let id = self.load(file).unwrap_or_else(|error| panic!("{error}"));
        self.modules.start(id, |_| 0).unwrap();
        assert_eq!(self.modules.protection_violation(), None);
        id
    }

    pub(crate) fn unload(&mut self, id: ModuleId) -> Result<(), UnloadError> {
        let unloaded = self.modules.unload(id, |_| ());
        assert_eq!(self.modules.protection_violation(), None);
        unloaded
    }

    /// Everything that a failed load must leave as it was.
    pub(crate) fn state(&self) -> (Vec<std::ops::Range<RunAddr>>, usize, usize, usize) {
        let index = modmem::index::AddressIndex::iter(self.modules.index()).count();
        let holes = [self.space.holes(), self.space.pack_holes()].concat();
        (holes, self.modules.len(), self.modules.exports().len(), index)
    }

    /// The reasons why a file's symbols cannot be resolved; nothing is left of the attempt.
    pub(crate) fn refused(&mut self, file: &[u8]) -> Vec<(String, Reason)> {
        let before = self.state();
        let error = self.load(file).unwrap_err();
        assert_eq!(self.state(), before);
        let LoadError::Link(LinkError::Unresolved(symbols)) = error else { panic!("{error}") };
        symbols.into_iter().map(|unresolved| (unresolved.symbol.into(), unresolved.reason)).collect()
    }
}
