//! A recorded kernel's loads once more: the same files, in the same order, at the addresses where the kernel had them.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context as _, Result, anyhow};
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
    /// # Errors
    /// The recording is not one of a kernel that modmem can lay out.
    pub fn new(oracle: &'o Oracle) -> Result<Replay<'o>> {
        let profile = oracle.profile()?;
        let percpu_end = oracle.symbols.get("__per_cpu_end").context("no symbol __per_cpu_end")?;
        let mut modules = Modules::new(&profile, *percpu_end);
        modules.add_kernel_symbols(exports(oracle)).map_err(|error| anyhow!("{error}"))?;
        Ok(Replay { oracle, profile, modules, linker: Linker::new() })
    }

    /// All modules of the recording, each as far as it had come.
    ///
    /// # Errors
    /// A module cannot be loaded.
    pub fn all(oracle: &'o Oracle) -> Result<Replay<'o>> {
        let mut replay = Replay::new(oracle)?;
        for name in &oracle.order {
            let id = replay.load(name)?;
            if oracle.modinfo.get(name).is_some_and(|values| values.ends_with("state=live")) {
                replay.modules.start(id, |_| 0)?;
            }
        }
        Ok(replay)
    }

    /// Loads a module up to the point where its init would run.
    ///
    /// # Errors
    /// The recording does not have it, or it cannot be loaded.
    pub fn load(&mut self, name: &str) -> Result<ModuleId> {
        let file = self.oracle.files.get(name).with_context(|| format!("{name}: no file"))?;
        let image = Image::parse(file).with_context(|| name.to_owned())?;
        let layout = Layout::of(&image, &self.profile).with_context(|| name.to_owned())?;
        let addresses = block_addresses(self.oracle, name, &image, &layout)?;
        let (mut memory, options) = (GivenMemory { addresses }, LinkOptions::default());
        let id = self.modules.load(&image, &self.profile, &mut memory, &mut self.linker, options);
        id.with_context(|| name.to_owned())
    }
}

/// What the kernel itself exports, as far as its symbols tell: neither licences nor CRCs.
pub fn exports(oracle: &Oracle) -> impl Iterator<Item = Export<'_>> {
    // What is exported has an entry in the export table, and that has a symbol.
    let mut names: Vec<&str> =
        oracle.symbols.keys().filter_map(|name| name.strip_prefix("__ksymtab_")).collect();
    names.sort_unstable();
    let machine = KernelConfig::parse(&oracle.config).machine();
    let made = move |name: &str| {
        let (other, offset) = machine?.made_symbol(name.into())?;
        Some(oracle.symbols.get(other)? + offset)
    };
    names.into_iter().filter_map(move |name| {
        let value = oracle.symbols.get(name).copied().or_else(|| made(name))?;
        let name = Name::from(name);
        Some(Export { name, value, gpl_only: false, crc: None, namespace: Name::default() })
    })
}

/// Where the kernel had each block of a module, from the addresses of the sections in it.
fn block_addresses(
    oracle: &Oracle,
    name: &str,
    image: &Image<'_>,
    layout: &Layout,
) -> Result<BTreeMap<MemoryKind, u64>> {
    let mut addresses = BTreeMap::new();
    for section in image.sections().iter().filter(|section| layout.shape(section).size > 0) {
        let Some(place) = layout.place(section.index()) else { continue };
        let memory = layout.memories()[place.kind];
        let kind = layout.blocks()[memory.block.context("a memory without a block")?].kind;
        let section = section.name().to_text();
        let address = oracle.sections.get(name).and_then(|sections| sections.get(&section));
        let address = address.with_context(|| format!("{name}: the kernel does not report {section}"))?;
        addresses.insert(kind, address.wrapping_sub(place.offset).wrapping_sub(memory.offset));
    }
    Ok(addresses)
}

/// Memory whose addresses are given from outside.
#[derive(Debug)]
pub(crate) struct GivenMemory {
    pub(crate) addresses: BTreeMap<MemoryKind, u64>,
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
        // A memory in which no section has bytes: the kernel does not tell where it is.
        let Some(&address) = self.addresses.get(&request.kind) else {
            return Err(SpaceError::NoRoom {
                kind: request.kind,
                size: request.size,
                range: RunAddr(0)..RunAddr(0),
            });
        };
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
