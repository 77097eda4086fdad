//! From an address to everything that is known about it.

use modmem_index::protection::Protection;

use super::symbols::FoundSymbol;
use super::{LoadedSection, Module, Modules};
use crate::address::RunAddr;
use crate::layout::MemoryKind;
use crate::link::{Definition, Symbols};
use crate::name::Name;
use crate::space::Block;

/// What an address belongs to.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'m> {
    /// A loaded module.
    Module(Place<'m>),
    /// Init memory that a module had and gave back; nobody has it now.
    Freed(Place<'m>),
    /// No module.
    Nothing,
}

/// A place in a module's memory.
#[derive(Clone, Copy, Debug)]
pub struct Place<'m> {
    /// The module's name.
    pub module: &'m str,
    /// The memory.
    pub kind: MemoryKind,
    /// How far into the memory.
    pub offset: u64,
    /// The section, and how far into it; none in padding and kallsyms parts.
    pub section: Option<(Name<'m>, u64)>,
    /// The symbol.
    pub symbol: Option<FoundSymbol<'m>>,
}

impl<B: Block, P: Protection> Modules<B, P> {
    /// All that is known about `address`.
    pub fn lookup(&self, address: RunAddr) -> Lookup<'_> {
        if let Some(owner) = self.find(address)
            && let Some(module) = self.get(owner.id())
        {
            return module.lookup(owner.kind(), address);
        }
        // The latest owner is the likeliest that is asked for.
        let modules = self.order.iter().rev().filter_map(|&id| self.get(id));
        for module in modules {
            for kind in MemoryKind::ALL {
                let Some(range) = module.original_range(kind) else { continue };
                if let (true, Some(offset)) = (range.contains(&address), address.offset_from(range.start)) {
                    return Lookup::Freed(place(module, kind, offset, None));
                }
            }
        }
        Lookup::Nothing
    }

    /// The definition of an exported symbol, the kernel's or a module's.
    pub fn exported(&self, name: Name<'_>) -> Option<Definition<'_>> {
        Symbols::find(&self.exports, name)
    }
}

impl<B: Block> Module<B> {
    /// What is known about an address in one of its memories; nothing if it does not lie there any more.
    pub(super) fn lookup(&self, kind: MemoryKind, address: RunAddr) -> Lookup<'_> {
        let offset = self.address(kind).and_then(|start| address.offset_from(start));
        offset.map_or(Lookup::Nothing, |offset| {
            Lookup::Module(place(self, kind, offset, self.symbol_at(address)))
        })
    }
}

fn place<'m, B: Block>(
    module: &'m Module<B>,
    kind: MemoryKind,
    offset: u64,
    symbol: Option<FoundSymbol<'m>>,
) -> Place<'m> {
    let inside = |section: &LoadedSection<'_>| {
        section.kind == kind && section.offset <= offset && offset - section.offset < section.size
    };
    let section = module.sections().find(inside).map(|section| (section.name, offset - section.offset));
    Place { module: module.name(), kind, offset, section, symbol }
}
