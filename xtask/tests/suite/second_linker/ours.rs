//! The first linker: modmem, through what it offers to everybody.

use std::collections::HashMap;
use std::ops::Range;

use modmem::link::{
    Definition, Export, LinkError, LinkOptions, Linker, Provider, ProviderState, Scope, Symbols,
};
use modmem::space::{Request, SpaceError};
use modmem::{Block, Image, Layout, Memory, MemoryKind, ModuleId, Name, Placement, Protection, RunAddr};

use crate::second_linker::module;
use crate::second_linker::probe::Setting;
use crate::second_linker::target::Target;

/// Hands out blocks one behind the other, each with a hole behind it.
#[derive(Debug)]
struct Fixed(u64);

#[derive(Debug)]
struct FixedBlock {
    address: RunAddr,
    bytes: Vec<u8>,
}

impl Memory for Fixed {
    type Block = FixedBlock;

    fn allocate(&mut self, request: Request) -> Result<FixedBlock, SpaceError> {
        let address = RunAddr(self.0);
        self.0 += request.size + request.alignment;
        // Not zero, so that what nobody writes is seen.
        Ok(FixedBlock { address, bytes: vec![0x77; request.size as usize] })
    }
}

impl Block for FixedBlock {
    fn address(&self) -> RunAddr {
        self.address
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

/// A kernel that has the probes' symbols.
#[derive(Debug)]
struct Kernel(HashMap<String, u64>);

impl Symbols for Kernel {
    fn find(&self, name: Name<'_>) -> Option<Definition<'_>> {
        let (name, &value) = self.0.get_key_value(&*name.to_text())?;
        let (name, namespace) = (Name::from(name.as_str()), Name::default());
        let export = Export { name, value, gpl_only: false, crc: None, namespace };
        Some(Definition { provider: Provider::Kernel, export })
    }
}

impl Scope for Kernel {
    fn provider(&self, _: ModuleId) -> Option<ProviderState<'_>> {
        None
    }
}

/// A file and where it lies.
#[derive(Debug)]
pub(crate) struct Placed<'f> {
    target: &'f Target,
    image: Image<'f>,
    /// Address of the test section.
    pub(crate) address: u64,
}

impl<'f> Placed<'f> {
    pub(crate) fn new(target: &'f Target, file: &'f [u8]) -> Placed<'f> {
        let image = Image::parse(file).unwrap_or_else(|error| panic!("{}: {error}", target.name));
        let mut placed = Placed { target, image, address: 0 };
        placed.address = placed.section(module::SECTION);
        placed
    }

    fn place(&self) -> Placement<FixedBlock> {
        let layout = Layout::of(&self.image, &self.target.profile);
        let layout = layout.unwrap_or_else(|error| panic!("{}: {error}", self.target.name));
        Placement::allocate(layout, &mut Fixed(self.target.base)).unwrap()
    }

    /// Links with these values of the probes' symbols; the addends are in the file.
    pub(crate) fn link(&self, settings: &[Setting]) -> Result<Linked, LinkError> {
        let values = settings.iter().enumerate();
        let values = values.map(|(number, setting)| (module::symbol(number), setting.symbol));
        let kernel = Kernel(values.collect());
        let options = LinkOptions::default();
        let linked = Linker::new().link(&self.image, &self.target.profile, self.place(), &kernel, options)?;
        let placement = linked.placement();
        let memories = MemoryKind::ALL.into_iter().filter_map(|kind| {
            let address = placement.address(kind)?;
            Some((address.0, placement.bytes(kind).to_vec()))
        });
        let size = self.image.section(module::SECTION).unwrap().size() as usize;
        Ok(Linked { memories: memories.collect(), section: (self.address, size) })
    }

    /// Where a section lies, and how many bytes from there on its memory has.
    pub(crate) fn section(&self, name: &str) -> u64 {
        let index = self.image.section(name).unwrap().index();
        let placement = self.place();
        let place = placement.layout().place(index).unwrap();
        placement.address(place.kind).unwrap().0 + place.offset
    }
}

/// What modmem made of a module.
#[derive(Debug)]
pub(crate) struct Linked {
    memories: Vec<(u64, Vec<u8>)>,
    /// Address and size of the test section.
    section: (u64, usize),
}

impl Linked {
    /// The bytes from an address to the end of its memory.
    pub(crate) fn from(&self, address: u64) -> Option<&[u8]> {
        self.memories.iter().find_map(|(start, bytes)| {
            bytes.get(usize::try_from(address.checked_sub(*start)?).ok()?..).filter(|rest| !rest.is_empty())
        })
    }

    /// The test section.
    pub(crate) fn section(&self) -> &[u8] {
        &self.from(self.section.0).unwrap()[..self.section.1]
    }

    /// All memories, by address.
    pub(crate) fn memories(&self) -> &[(u64, Vec<u8>)] {
        &self.memories
    }
}
