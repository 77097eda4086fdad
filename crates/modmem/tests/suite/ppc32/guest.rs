//! A machine that has the module loaded, and that can be patched as its kernel would, or otherwise.

use std::collections::BTreeMap;

use modmem::image::Image;
use modmem::verify::{Guest as GuestTrait, GuestMemory, GuestModule, GuestSymbol, ModuleReport, Verifier};
use modmem::{MemoryKind, ModuleId, Name, RunAddr};

use crate::ppc32::module::{Kernel, Module, words};

/// A machine to be, with one live module.
pub(crate) struct Guest {
    kernel: Kernel,
    id: ModuleId,
    file: Vec<u8>,
    symbols: Vec<(String, u64)>,
    memory: BTreeMap<u64, Vec<u8>>,
    pub(crate) kprobes: Vec<RunAddr>,
}

impl Guest {
    /// Loads the module into a kernel with these symbols; nothing is patched yet.
    pub(crate) fn new(module: &Module, symbols: &[(&str, u64)]) -> Guest {
        let mut kernel = Kernel::new(crate::ppc32::module::profile(), symbols);
        let id = kernel.load(module).unwrap();
        let kinds = MemoryKind::ALL.into_iter().filter(|kind| !kind.is_init());
        let memory = kinds.filter_map(|kind| kernel.memory(id, kind)).collect();
        let symbols = symbols.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        Guest { kernel, id, file: module.file(), symbols, memory, kprobes: Vec::new() }
    }

    /// Puts words of the kernel's own into memory.
    pub(crate) fn map(&mut self, address: u64, values: &[u32]) {
        self.memory.insert(address, words(values));
    }

    /// Where a word of a section is.
    pub(crate) fn at(&self, section: &str, index: usize) -> u64 {
        self.kernel.word(self.id, section, index).1
    }

    /// Writes words over those of a section.
    pub(crate) fn patch(&mut self, section: &str, index: usize, values: &[u32]) {
        let at = self.at(section, index);
        let (start, bytes) = self.memory.range_mut(..=at).next_back().unwrap();
        let offset = (at - start) as usize;
        bytes[offset..offset + values.len() * 4].copy_from_slice(&words(values));
    }

    /// What a verifier says, once everybody has spoken.
    pub(crate) fn verify(&self) -> ModuleReport {
        let image = Image::parse(&self.file).unwrap();
        let module = self.kernel.modules.get(self.id).unwrap();
        let sections: Vec<(Name<'_>, RunAddr)> = module
            .sections()
            .filter_map(|section| {
                Some((section.name, module.original_range(section.kind)?.start + section.offset))
            })
            .collect();
        let guest = GuestModule {
            name: "made_up",
            sections: &sections,
            live: true,
            forced: true,
            build_id: None,
            size: None,
        };
        let mut verifier = Verifier::new(self, self.kernel.profile.clone(), self.kprobes.clone()).unwrap();
        verifier.check(0, &image, &guest).unwrap();
        verifier.settle().unwrap();
        verifier.check(0, &image, &guest).unwrap()
    }

    /// Whether a verifier believes what the kernel says of the CPU.
    pub(crate) fn has_cpu_words(&self) -> bool {
        Verifier::new(self, self.kernel.profile.clone(), Vec::new()).unwrap().has_cpu_words()
    }

    /// Nothing is unexplained.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let report = self.verify();
        assert!(report.is_clean(), "{:#x?}", report.unexplained);
    }

    /// What was put over a word of a section is found there, and nothing else is.
    #[track_caller]
    pub(crate) fn finds(&mut self, section: &str, index: usize, value: u32) -> String {
        let at = self.at(section, index);
        let mut before = [0; 4];
        assert!(self.read(RunAddr(at), &mut before));
        self.patch(section, index, &[value]);
        let report = self.verify();
        self.patch(section, index, &[u32::from_be_bytes(before)]);
        let [span] = &report.unexplained[..] else { panic!("{:#x?}", report.unexplained) };
        assert!((at..at + 4).contains(&span.address.0), "{span:#x?}");
        format!("{:?}", span.why)
    }
}

impl GuestMemory for Guest {
    fn read(&self, address: RunAddr, buffer: &mut [u8]) -> bool {
        let Some((start, bytes)) = self.memory.range(..=address.0).next_back() else { return false };
        let offset = (address.0 - start) as usize;
        let Some(found) = bytes.get(offset..offset + buffer.len()) else { return false };
        buffer.copy_from_slice(found);
        true
    }
}

impl GuestTrait for Guest {
    fn kernel_symbol(&self, name: Name<'_>) -> Option<u64> {
        self.symbols.iter().find(|(known, _)| name == known.as_str()).map(|(_, value)| *value)
    }

    fn module_symbol(&self, _: &str, _: Name<'_>) -> Option<u64> {
        None
    }

    fn any_module_symbol(&self, _: Name<'_>) -> Option<u64> {
        None
    }

    fn symbol_at(&self, address: RunAddr) -> Option<GuestSymbol<'_>> {
        let before = self.symbols.iter().filter(|(_, value)| *value <= address.0);
        let (name, value) = before.max_by_key(|(_, value)| *value)?;
        Some(GuestSymbol { name, offset: address.0 - value, module: None, text: true })
    }
}
