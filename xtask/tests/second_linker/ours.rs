//! The first linker: modmem, through what it offers to everybody.

use std::collections::HashMap;
use std::ops::Range;

use modmem::link::{
    Definition, Export, LinkError, LinkOptions, Linker, Provider, ProviderState, Scope, Symbols,
};
use modmem::space::{Request, SpaceError};
use modmem::{Block, Image, Layout, Memory, ModuleId, Name, Placement, Protection, RunAddr};

use crate::module;
use crate::target::Target;

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
        let (kind, offset) = placed.section();
        placed.address = placed.place().address(kind).unwrap().0 + offset;
        placed
    }

    fn place(&self) -> Placement<FixedBlock> {
        let layout = Layout::of(&self.image, &self.target.profile);
        let layout = layout.unwrap_or_else(|error| panic!("{}: {error}", self.target.name));
        Placement::allocate(layout, &mut Fixed(self.target.base)).unwrap()
    }

    fn section(&self) -> (modmem::MemoryKind, u64) {
        let index = self.image.section(module::SECTION).unwrap().index();
        let place = self.place().layout().place(index).unwrap();
        (place.kind, place.offset)
    }

    /// The bytes of the test section, with these values of the probes' symbols.
    pub(crate) fn link(&self, values: impl Iterator<Item = u64>) -> Result<Vec<u8>, LinkError> {
        let kernel =
            Kernel(values.enumerate().map(|(number, value)| (module::symbol(number), value)).collect());
        let options = LinkOptions::default();
        let linked = Linker::new().link(&self.image, &self.target.profile, self.place(), &kernel, options)?;
        let (kind, offset) = self.section();
        let size = self.image.section(module::SECTION).unwrap().size();
        Ok(linked.placement().bytes(kind)[offset as usize..][..size as usize].to_vec())
    }
}
