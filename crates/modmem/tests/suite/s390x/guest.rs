//! A machine to be, with one module in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use modmem::image::Image;
use modmem::verify::{
    Guest as GuestTrait, GuestMemory, GuestModule, GuestSymbol, ModuleReport, Verifier, Why,
};
use modmem::{Name, Profile, RunAddr};

use crate::s390x::module::Loaded;

/// A machine to be: memory, and symbols with their owners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guest {
    memory: BTreeMap<u64, Vec<u8>>,
    symbols: BTreeMap<u64, (&'static str, Option<&'static str>)>,
}

impl Guest {
    /// A machine with the module as relocation makes it.
    pub(crate) fn with(loaded: &Loaded) -> Guest {
        let memory = loaded.memories.iter().filter(|(kind, ..)| !kind.is_init());
        let memory = memory.map(|(_, address, bytes)| (*address, bytes.clone())).collect();
        Guest { memory, symbols: BTreeMap::new() }
    }

    pub(crate) fn symbol(&mut self, name: &'static str, address: u64) {
        self.symbols.insert(address, (name, None));
    }

    pub(crate) fn made(&mut self, owner: &'static str, name: &'static str, address: u64) {
        self.symbols.insert(address, (name, Some(owner)));
    }

    /// A variable of the kernel's with these bytes.
    pub(crate) fn variable(&mut self, name: &'static str, address: u64, bytes: &[u8]) {
        self.symbol(name, address);
        self.put(address, bytes);
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

    pub(crate) fn verify(&self, loaded: &Loaded, profile: &Profile) -> ModuleReport {
        let image = Image::parse(&loaded.file).unwrap();
        let sections = loaded.sections.iter();
        let sections: Vec<(Name<'_>, RunAddr)> =
            sections.map(|(name, (at, _))| (Name::from(&**name), RunAddr(*at))).collect();
        let module = GuestModule {
            name: "made",
            sections: &sections,
            live: true,
            forced: false,
            build_id: None,
            size: None,
        };
        let mut verifier = Verifier::new(self, profile.clone(), Vec::new()).unwrap();
        let report = verifier.check(0, &image, &module).unwrap_or_else(|error| panic!("{error}"));
        match verifier.settle().unwrap().is_empty() {
            true => report,
            false => verifier.check(0, &image, &module).unwrap_or_else(|error| panic!("{error}")),
        }
    }
}

/// Asserts that all is as it should be.
#[track_caller]
pub(crate) fn clean(report: &ModuleReport) {
    assert!(report.is_clean() && report.unexplained.is_empty(), "{:#x?}", report.unexplained);
}

/// Why the one span is unexplained that there is, which has the byte at `address`.
#[track_caller]
pub(crate) fn blamed(report: &ModuleReport, address: u64) -> &Why {
    assert!(!report.is_clean());
    let [span] = &report.unexplained[..] else { panic!("{:#x?}", report.unexplained) };
    let range = span.address.0..span.address.0 + span.found.len() as u64;
    assert!(range.contains(&address), "{address:#x}: {span:#x?}");
    &span.why
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

    fn symbol_at(&self, address: RunAddr) -> Option<GuestSymbol<'_>> {
        let (&start, &(name, module)) = self.symbols.range(..=address.0).next_back()?;
        Some(GuestSymbol { name, offset: address.0 - start, module, text: true })
    }
}
