//! A machine to be, with one module in it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use modmem::image::Image;
use modmem::verify::{
    Guest as GuestTrait, GuestMemory, GuestModule, GuestSymbol, ModuleReport, Rule, Verifier, VerifyError,
};
use modmem::{Name, Profile, RunAddr};

use crate::arm64::module::Loaded;

/// A symbol: name, whose, and whether it is code.
type Symbol = (&'static str, Option<&'static str>, bool);

/// A machine to be: memory and symbols.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guest {
    memory: BTreeMap<u64, Vec<u8>>,
    symbols: BTreeMap<u64, Symbol>,
    /// Where the kernel's data lies, for kernels that do not list it.
    pub(crate) data: Option<Range<u64>>,
}

impl Guest {
    /// A machine with the module as relocation makes it.
    pub(crate) fn with(loaded: &Loaded) -> Guest {
        let memory = loaded.memories.iter().filter(|(kind, ..)| !kind.is_init());
        let memory = memory.map(|(_, address, bytes)| (*address, bytes.clone())).collect();
        Guest { memory, symbols: BTreeMap::new(), data: None }
    }

    pub(crate) fn function(&mut self, name: &'static str, address: u64) {
        self.symbols.insert(address, (name, None, true));
    }

    pub(crate) fn variable(&mut self, name: &'static str, address: u64) {
        self.symbols.insert(address, (name, None, false));
    }

    pub(crate) fn made(&mut self, owner: &'static str, name: &'static str, address: u64) {
        self.symbols.insert(address, (name, Some(owner), true));
    }

    /// Makes memory readable with these bytes, or changes some.
    pub(crate) fn put(&mut self, address: u64, bytes: &[u8]) {
        if let Some((start, known)) = self.memory.range_mut(..=address).next_back()
            && let Some(field) = known.get_mut((address - start) as usize..)
            && field.len() >= bytes.len()
        {
            field[..bytes.len()].copy_from_slice(bytes);
            return;
        }
        self.memory.insert(address, bytes.to_vec());
    }

    pub(crate) fn words(&mut self, address: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(address, &bytes);
    }

    pub(crate) fn verify(&self, loaded: &Loaded, profile: &Profile) -> ModuleReport {
        self.try_verify(loaded, profile).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Why the module cannot be compared.
    pub(crate) fn refused(&self, loaded: &Loaded, profile: &Profile) -> String {
        self.try_verify(loaded, profile).expect_err("it was compared").to_string()
    }

    fn try_verify(&self, loaded: &Loaded, profile: &Profile) -> Result<ModuleReport, VerifyError> {
        let image = Image::parse(&loaded.file).unwrap();
        let names: Vec<(&String, u64)> = loaded.sections.iter().map(|(name, (at, _))| (name, *at)).collect();
        let sections: Vec<(Name<'_>, RunAddr)> =
            names.iter().map(|(name, at)| (Name::from(&***name), RunAddr(*at))).collect();
        let module = GuestModule {
            name: "made",
            sections: &sections,
            live: true,
            forced: false,
            build_id: None,
            size: None,
        };
        let mut verifier = Verifier::new(self, profile.clone(), Vec::new()).unwrap();
        let report = verifier.check(0, &image, &module)?;
        match verifier.settle()?.is_empty() {
            true => Ok(report),
            false => verifier.check(0, &image, &module),
        }
    }
}

/// The report of a machine where all is as it should be.
pub(crate) fn clean(report: &ModuleReport) {
    assert!(report.is_clean(), "{:#x?}", report.unexplained);
}

/// Whether something is unexplained in the word or two at an address.
pub(crate) fn blames(report: &ModuleReport, address: u64) -> bool {
    report.unexplained.iter().any(|span| {
        let (start, end) = (span.address.0, span.address.0 + span.found.len() as u64);
        start < address + 8 && address < end
    })
}

/// Bytes that a rule explains in all memories.
pub(crate) fn explained(report: &ModuleReport, rule: Rule) -> u64 {
    report.total().explained_by(rule)
}

impl GuestMemory for Guest {
    fn read(&self, address: RunAddr, buffer: &mut [u8]) -> bool {
        let length = buffer.len();
        self.bytes(address, length).inspect(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }

    fn bytes(&self, address: RunAddr, length: usize) -> Option<Cow<'_, [u8]>> {
        let (start, bytes) = self.memory.range(..=address.0).next_back()?;
        let offset = (address.0 - start) as usize;
        bytes.get(offset..offset.checked_add(length)?).map(Cow::Borrowed)
    }
}

impl GuestTrait for Guest {
    fn kernel_symbol(&self, name: Name<'_>) -> Option<u64> {
        let mut own = self.symbols.iter().filter(|(_, symbol)| symbol.1.is_none());
        own.find(|(_, symbol)| name == symbol.0).map(|(&address, _)| address)
    }

    fn module_symbol(&self, _: &str, _: Name<'_>) -> Option<u64> {
        None
    }

    fn any_module_symbol(&self, _: Name<'_>) -> Option<u64> {
        None
    }

    fn kernel_data(&self) -> Option<Range<RunAddr>> {
        self.data.as_ref().map(|data| RunAddr(data.start)..RunAddr(data.end))
    }

    fn symbol_at(&self, address: RunAddr) -> Option<GuestSymbol<'_>> {
        let (&start, &(name, module, text)) = self.symbols.range(..=address.0).next_back()?;
        Some(GuestSymbol { name, offset: address.0 - start, module, text })
    }
}
