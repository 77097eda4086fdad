//! A recorded kernel's loads once more: the same files, in the same order, at the addresses where the kernel had them.

use std::collections::BTreeMap;
use std::ops::Range;

use modmem::image::Image;
use modmem::layout::{Layout, MemoryKind};
use modmem::link::{Export, LinkOptions};
use modmem::profile::{KernelConfig, Profile};
use modmem::space::{Block, Memory, Protection, Request, SpaceError};
use modmem::{Linker, ModuleId, Modules, Name, RunAddr};

use crate::oracle::Oracle;

/// The modules of a recorded kernel as modmem loads them.
#[derive(Debug)]
pub struct Replay<'o> {
    oracle: &'o Oracle,
    /// The kernel's profile.
    pub profile: Profile,
    /// What has been loaded so far.
    pub modules: Modules<GivenBlock>,
    linker: Linker,
}

impl<'o> Replay<'o> {
    /// The kernel before the first module, with the symbols that it exports.
    ///
    /// # Panics
    /// As all of this does: the recording is not one of a kernel that modmem can lay out, or not a whole one.
    pub fn new(oracle: &'o Oracle) -> Replay<'o> {
        let config = KernelConfig::parse(&oracle.config);
        let profile = Profile::from_config(&config, &oracle.release).expect("a profile");
        let mut modules = Modules::new(&profile, oracle.symbols["__per_cpu_end"]);
        modules.add_kernel_symbols(exports(oracle)).expect("symbols that differ");
        Replay { oracle, profile, modules, linker: Linker::new() }
    }

    /// Loads a module up to the point where its init would run.
    pub fn load(&mut self, name: &str) -> ModuleId {
        let image = Image::parse(&self.oracle.files[name]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let layout = Layout::of(&image, &self.profile).unwrap_or_else(|error| panic!("{name}: {error}"));
        let addresses = block_addresses(self.oracle, name, &image, &layout);
        let (mut memory, options) = (GivenMemory { addresses }, LinkOptions::default());
        let id = self.modules.load(&image, &self.profile, &mut memory, &mut self.linker, options);
        id.unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// What the kernel itself exports, as far as its symbols tell: neither licences nor CRCs.
pub fn exports(oracle: &Oracle) -> impl Iterator<Item = Export<'_>> {
    let mut symbols: Vec<(&String, &u64)> = oracle.symbols.iter().collect();
    symbols.sort();
    symbols.into_iter().filter_map(|(name, &value)| {
        // What is exported has an entry in the export table, and that has a symbol.
        let exported = oracle.symbols.contains_key(&format!("__ksymtab_{name}"));
        let name = Name::from(&**name);
        exported.then_some(Export { name, value, gpl_only: false, crc: None, namespace: Name::default() })
    })
}

/// Where the kernel had each block of a module, from the addresses of the sections in it.
fn block_addresses(
    oracle: &Oracle,
    name: &str,
    image: &Image<'_>,
    layout: &Layout,
) -> BTreeMap<MemoryKind, u64> {
    let mut addresses = BTreeMap::new();
    for section in image.sections().iter().filter(|section| section.size() > 0) {
        let Some(place) = layout.place(section.index()) else { continue };
        let memory = layout.memories()[place.kind];
        let kind = layout.blocks()[memory.block.expect("a block")].kind;
        let address = oracle.sections[name][&section.name().to_text()];
        addresses.insert(kind, address - place.offset - memory.offset);
    }
    addresses
}

/// Memory whose addresses are given from outside.
#[derive(Debug)]
struct GivenMemory {
    addresses: BTreeMap<MemoryKind, u64>,
}

/// A block at an address that was given.
#[derive(Debug)]
pub struct GivenBlock {
    address: u64,
    bytes: Vec<u8>,
}

impl Memory for GivenMemory {
    type Block = GivenBlock;

    fn allocate(&mut self, request: Request) -> Result<GivenBlock, SpaceError> {
        let address = self.addresses[&request.kind];
        // Not zero: whatever the loader does not write must not look right by chance.
        Ok(GivenBlock { address, bytes: vec![0xa5; request.size as usize] })
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
