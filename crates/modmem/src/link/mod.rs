//! Linking: the bytes of each memory, with symbols resolved and relocations applied.
//!
//! A [`Linker`] turns a [`Placement`] into a [`Linked`] module. Nothing is registered anywhere: dropping a `Linked`
//! undoes all that was done. Sources: kernel/module/main.c:move_module, simplify_symbols, apply_relocations,
//! post_relocation.

mod admission;
mod copy;
mod engine;
pub(crate) mod error;
mod export_table;
pub mod exports;
mod kallsyms;
mod livepatch;
mod namespace;
mod placement;
pub(crate) mod relocation;
mod remark;
mod resolve;
pub(crate) mod stubs;
mod version_join;

use alloc::vec::Vec;

pub use admission::Taints;
pub use error::{LinkError, LivepatchProblem, Reason, RelocationError, RelocationProblem, Unresolved};
pub use exports::{Definition, Export, Exports, ExportsError, OfferId, Provider, Symbols};
pub use livepatch::InternalSymbol;
pub use placement::Placement;
pub use relocation::{Bits, Check, Expression, Field, RelocationType, Relocations};
pub use remark::Remark;
pub use resolve::{ProviderState, Scope, Uses};

use crate::address::RunAddr;
use crate::arch::{Architecture, with_machine};
use crate::image::elf::Encoding;
use crate::image::{Image, RelocationSection, SymbolPlace};
use crate::profile::Profile;
use crate::space::Block;
use copy::Copier;
use engine::Task;
use export_table::ExportTable;
use livepatch::Livepatch;
use resolve::{Resolver, ResolverMemory};
use stubs::Stubs as _;

/// What a user may override when a module is linked.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkOptions {
    /// Take a module built for another kernel: its version magic and CRCs count as missing, which taints (F), or is
    /// refused by a kernel without MODULE_FORCE_LOAD. This is `modprobe --force` but for two things that Linux does as
    /// well then: it keeps `__versions` in RoData, and takes the module for unsigned.
    pub force: bool,
}

/// Links modules. It keeps its working memory from one module to the next.
#[derive(Debug, Default)]
pub struct Linker {
    values: Vec<u64>,
    bases: Vec<u64>,
    resolving: ResolverMemory,
}

/// A module whose memories hold their final bytes, not yet known to anybody.
#[derive(Debug)]
pub struct Linked<B> {
    pub(crate) placement: Placement<B>,
    pub(crate) exports: ExportTable,
    pub(crate) uses: Uses,
    pub(crate) taints: Taints,
    pub(crate) remarks: Vec<Remark>,
    pub(crate) relocations: usize,
    pub(crate) init: Option<RunAddr>,
    pub(crate) exit: Option<RunAddr>,
}

impl<B: Block> Linked<B> {
    /// Where the module lies, and its bytes.
    pub fn placement(&self) -> &Placement<B> {
        &self.placement
    }

    /// Where its undefined symbols came from.
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// How many relocations were applied.
    pub fn relocations(&self) -> usize {
        self.relocations
    }

    /// What is odd about it and does not keep Linux from loading it.
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

    /// The symbols that it exports.
    #[cfg(feature = "verify")]
    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.exports.iter(&self.placement)
    }

    /// The placement alone.
    #[cfg(feature = "verify")]
    pub(crate) fn into_placement(self) -> Placement<B> {
        self.placement
    }
}

impl Linker {
    /// A linker with no working memory yet.
    pub fn new() -> Linker {
        Linker::default()
    }

    /// Copies, resolves and relocates `image` into the blocks of `placement`, which was made from its layout.
    ///
    /// # Errors
    /// The kernel would not take the module (version magic, licence, CRCs, namespaces), symbols are missing, or a
    /// relocation cannot be applied. The placement is gone with the error.
    pub fn link<B: Block, S: Scope>(
        &mut self,
        image: &Image<'_>,
        profile: &Profile,
        placement: Placement<B>,
        scope: &S,
        options: LinkOptions,
    ) -> Result<Linked<B>, LinkError> {
        with_machine!(image.machine(), A => self.link_as::<A, B, S>(image, profile, placement, scope, options))?
    }

    fn link_as<A: Architecture, B: Block, S: Scope>(
        &mut self,
        image: &Image<'_>,
        profile: &Profile,
        mut placement: Placement<B>,
        scope: &S,
        options: LinkOptions,
    ) -> Result<Linked<B>, LinkError> {
        let table = A::relocations(&profile.machine_state);
        if !placement.layout().is_of(image) {
            return Err(LinkError::OtherImage);
        }
        if placement.lacks_percpu() {
            return Err(LinkError::NoPerCpuPlace);
        }
        let mut taints = Taints::of(image, profile);
        admission::check_version_magic(image, profile, options.force, &mut taints)?;
        admission::check_extended_versions(image, profile, options.force)?;
        namespace::check_imports(image, profile)?;
        self.fill_bases(image, &placement)?;
        let mut resolver = Resolver::new(
            image,
            profile,
            scope,
            &mut self.resolving,
            taints,
            options,
            [A::DEFINED, A::IGNORED],
        );
        resolver.run::<A::Encoding>(&self.bases, &mut self.values)?;
        let (mut taints, uses) = (resolver.taints, resolver.uses);
        let mut remarks = Vec::new();
        remark::of_layout(image, placement.layout(), &mut remarks)?;
        let livepatch = match profile.switches.livepatch {
            true => livepatch::resolve(image, scope, &mut self.values)?,
            false => Livepatch::default(),
        };
        if let Some(remark) = livepatch.unknown {
            remark::note(&mut remarks, remark)?;
        }
        if let Some(remark) = resolver.unversioned {
            remark::note(&mut remarks, remark)?;
        }

        let mut relocations = 0;
        let mut stubs = A::Stubs::new(image, profile, &placement)?;
        let mut relocate =
            |section: &RelocationSection<'_, '_>, placement: &mut Placement<B>| -> Result<(), LinkError> {
                let target = section.target();
                // Percpu data was set aside before relocation starts (fixed in Linux 6.16 only).
                let Some(place) = placement.layout().place(target.index()) else { return Ok(()) };
                let address = placement.section_address(place);
                let bytes = placement.section_bytes_mut(place, target.size());
                let (kind, values) = (place.kind, &self.values[..]);
                let task = Task { image, table, section: *section, kind, address, values };
                relocations += task.apply::<A>(bytes, &mut stubs)?;
                Ok(())
            };
        // Linkers put a section's relocations right behind it in the header table: applied at once, they find the
        // bytes that they change in the cache.
        let mut at_once = false;
        let mut later = Vec::new();
        let mut copier = Copier::new(image);
        for section in image.sections() {
            if let Some(section) = RelocationSection::of(image, section) {
                if at_once
                    && (later.is_empty() || !A::Stubs::ORDERED)
                    && section.target().index() + 1 == section.section().index()
                {
                    relocate(&section, &mut placement)?;
                } else {
                    later.try_reserve(1).map_err(|_| LinkError::OutOfMemory)?;
                    later.push(section);
                }
            }
            at_once = copier.copy(section, &mut placement);
        }
        copier.finish(&mut placement);
        kallsyms::write::<A::Encoding, B>(image, profile, &mut placement, &self.values)?;
        for section in later.iter().chain(&livepatch.sections) {
            relocate(section, &mut placement)?;
        }
        stubs.finish(&mut placement, &self.values)?;
        let exports = ExportTable::read::<A::Encoding, B>(image, profile, &placement, &mut taints)?;
        let [init, exit] = entry_points::<A::Encoding, B>(image, profile, &placement);
        Ok(Linked { placement, exports, uses, taints, remarks, relocations, init, exit })
    }

    /// The address of each section: 0 for those that are not loaded, which nothing that is loaded refers to.
    fn fill_bases<B: Block>(&mut self, image: &Image<'_>, placement: &Placement<B>) -> Result<(), LinkError> {
        let layout = placement.layout();
        self.bases.clear();
        self.bases.try_reserve(image.sections().len()).map_err(|_| LinkError::OutOfMemory)?;
        let addresses = layout.places().iter().map(|place| match place {
            Some(place) => placement.section_address(*place).0,
            None => 0,
        });
        self.bases.extend(addresses);
        if let Some(percpu) = layout.percpu()
            && let Some(base) = self.bases.get_mut(percpu.section)
        {
            *base = placement.percpu();
        }
        Ok(())
    }
}

/// Where init and exit are: what `struct module` holds (kernel/module/main.c:do_init_module calls `mod->init`). Where it
/// has them is the kernel's to say; if nobody does, it is where a relocation names the alias that modpost gives each.
fn entry_points<E: Encoding, B: Block>(
    image: &Image<'_>,
    profile: &Profile,
    placement: &Placement<B>,
) -> [Option<RunAddr>; 2] {
    let this_module = image.this_module();
    let Some(place) = placement.layout().place(this_module.index()) else { return [None; 2] };
    let bytes = placement.section_bytes(place, this_module.size());
    let [init, exit] = image.entry_offsets();
    let offsets = [profile.this_module_init.or(init), profile.this_module_exit.or(exit)];
    // One in a section that is not loaded is there, at an address in the copy that the loader had: nobody knows which.
    let is_elsewhere = |offset: u64| {
        let tables = image.relocations().filter(|table| table.target().index() == this_module.index());
        tables.flat_map(|table| table.iter()).filter(|relocation| relocation.offset == offset).any(
            |relocation| {
                let symbol = image.symbols().get(relocation.symbol as usize);
                matches!(symbol.map(|symbol| symbol.place), Some(SymbolPlace::Section(_)))
            },
        )
    };
    offsets.map(|offset| {
        let offset = offset?;
        let field = bytes.get(usize::try_from(offset).ok()?..)?.get(..image.format().word())?;
        Some(RunAddr(E::word(field, 0))).filter(|address| address.0 != 0 || is_elsewhere(offset))
    })
}
