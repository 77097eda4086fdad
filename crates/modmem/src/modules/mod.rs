//! The set of loaded modules: names, states, who uses whom, and what lies where.
//!
//! Sources: kernel/module/main.c:add_unformed_module, complete_formation, do_init_module, free_module,
//! SYSCALL_DEFINE2(delete_module).

mod error;
mod lookup;
mod module;
mod symbols;

use alloc::vec::Vec;

use hashbrown::HashTable;

pub use error::{LoadError, UnloadError};
pub use lookup::{Lookup, Place};
pub use module::{LoadedSection, Module, State};
pub use symbols::{FoundSymbol, ModuleSymbol};

use crate::address::RunAddr;
use crate::image::Image;
use crate::index::{AddressIndex, Hit, IndexError, Owner, SortedIndex};
use crate::layout::{Layout, MemoryKind};
use crate::link::exports::ExportsError;
use crate::link::{
    Definition, Export, Exports, LinkOptions, Linked, Linker, Placement, Provider, ProviderState, Scope,
    Symbols,
};
use crate::name::{self, HashedName, Name};
use crate::profile::Profile;
use crate::space::{Block, Memory, PerCpuSpace};

/// Names a loaded module. Once the module is gone, its id means nobody, even if its slot is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId {
    slot: u32,
    generation: u32,
}

/// The loaded modules of one kernel, its exported symbols and the index of its addresses.
#[derive(Debug)]
pub struct Modules<B> {
    slots: Vec<Slot<B>>,
    names: HashTable<ModuleId>,
    order: Vec<ModuleId>,
    exports: Exports,
    index: SortedIndex,
    percpu: PerCpuSpace,
    can_unload: bool,
}

#[derive(Debug)]
struct Slot<B> {
    generation: u32,
    module: Option<Module<B>>,
}

impl<B: Block> Modules<B> {
    /// A kernel without modules, whose own percpu data ends at `percpu_end`.
    pub fn new(profile: &Profile, percpu_end: u64) -> Modules<B> {
        Modules {
            slots: Vec::new(),
            names: HashTable::new(),
            order: Vec::new(),
            exports: Exports::new(),
            index: SortedIndex::new(),
            percpu: PerCpuSpace::new(percpu_end, profile.percpu_reserve),
            can_unload: profile.switches.module_unload,
        }
    }

    /// Adds symbols that the kernel itself exports.
    ///
    /// # Errors
    /// A name is there twice, or there is no memory; nothing has been added.
    pub fn add_kernel_symbols<'a>(
        &mut self,
        exports: impl IntoIterator<Item = Export<'a>>,
    ) -> Result<(), ExportsError<'a>> {
        self.exports.add(Provider::Kernel, exports).map(|_| ())
    }

    /// All exported symbols, the kernel's and the modules'.
    pub fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Where the percpu data of modules comes from.
    pub fn percpu_space(&self) -> &PerCpuSpace {
        &self.percpu
    }

    /// The index of addresses.
    pub fn index(&self) -> &SortedIndex {
        &self.index
    }

    /// Loads a module up to the point where its init would run: lays it out, places it and its percpu data, links it,
    /// registers it.
    ///
    /// # Errors
    /// What any of the stages says, or that the name is taken. Nothing is left behind.
    pub fn load<M: Memory<Block = B>>(
        &mut self,
        image: &Image<'_>,
        profile: &Profile,
        memory: &mut M,
        linker: &mut Linker,
        options: LinkOptions,
    ) -> Result<ModuleId, LoadError> {
        self.check_name(module_name(image)?)?;
        let layout = Layout::of(image, profile)?;
        let percpu = match layout.percpu() {
            Some(percpu) => Some(self.percpu.allocate(percpu.size, percpu.alignment)?),
            None => None,
        };
        let mut placement = Placement::allocate(layout, memory)?;
        if let Some(percpu) = percpu {
            placement = placement.with_percpu(percpu);
        }
        let linked = linker.link(image, profile, placement, self, options)?;
        self.commit(image, linked)
    }

    /// Registers a linked module: its exports can be used, its addresses are found, its memories are protected.
    ///
    /// # Errors
    /// The name is taken, a symbol that it exports is exported already, a module that it uses has gone since it was
    /// linked, or a protection cannot be set. The module is gone with the error, and nothing is left behind.
    pub fn commit(&mut self, image: &Image<'_>, linked: Linked<B>) -> Result<ModuleId, LoadError> {
        let name = module_name(image)?;
        self.check_name(name)?;
        if linked.uses().modules.iter().any(|&(used, _)| self.get(used).is_none()) {
            return Err(LoadError::ProviderGone);
        }
        let id = self.vacant_slot()?;
        self.reserve_users(&linked)?;
        let mut module = Module::new(id, name, image, linked)?;
        self.register_exports(&mut module)?;
        if let Err(error) = self.register_addresses(&mut module) {
            self.forget(&mut module);
            return Err(error);
        }
        // Nothing below can fail: room was made above.
        for &(used, _) in &module.uses().modules {
            if let Some(used) = self.slots.get_mut(used.slot as usize).and_then(|slot| slot.module.as_mut()) {
                used.users.push(id);
            }
        }
        self.names.insert_unique(name::hash(name.as_bytes()), id, |_| 0);
        self.order.push(id);
        self.slots[id.slot as usize].module = Some(module);
        Ok(id)
    }

    /// Runs a module's init and settles it: it becomes live, init memories go, read-only-after-init is sealed.
    ///
    /// `init` is given the address of the init function, if there is one, and returns what it returned.
    ///
    /// # Errors
    /// Init returned an error, and the module has been unloaded; or the module is not waiting to be started; or its
    /// read-only-after-init memory could not be sealed, which for Linux is a warning: the module is live then.
    pub fn start(
        &mut self,
        id: ModuleId,
        init: impl FnOnce(Option<RunAddr>) -> i32,
    ) -> Result<(), LoadError> {
        let module = self.get_mut(id).filter(|module| module.state == State::Coming);
        let module = module.ok_or(LoadError::NotComing)?;
        let code = init(module.init());
        if code < 0 {
            module.state = State::Going;
            self.remove(id);
            return Err(LoadError::Init { code });
        }
        module.state = State::Live;
        let kind = MemoryKind::RoAfterInit;
        let sealed = module.protect(kind, kind.final_protection());
        let init = [MemoryKind::InitText, MemoryKind::InitData, MemoryKind::InitRoData];
        for address in init.map(|kind| module.address(kind)).into_iter().flatten() {
            self.index.remove(address);
        }
        if let Some(module) = self.get_mut(id) {
            module.discard_init();
        }
        sealed.map_err(LoadError::NotSealed)
    }

    /// Unloads a module.
    ///
    /// `exit` is given the address of the exit function, if there is one.
    ///
    /// # Errors
    /// The kernel does not unload modules, other modules use it, it is not live, or it has an init but no exit (then Linux keeps it for good).
    pub fn unload(&mut self, id: ModuleId, exit: impl FnOnce(Option<RunAddr>)) -> Result<(), UnloadError> {
        let module = self.get(id).ok_or(UnloadError::NotLoaded)?;
        if !self.can_unload {
            return Err(UnloadError::NoUnloading);
        }
        if !module.users.is_empty() {
            let users = module.users.iter().filter_map(|&user| Some(self.get(user)?.name().into())).collect();
            return Err(UnloadError::InUse { users });
        }
        if module.state != State::Live {
            return Err(UnloadError::Busy);
        }
        if module.init().is_some() && module.exit().is_none() {
            return Err(UnloadError::Permanent);
        }
        let exit_address = module.exit();
        if let Some(module) = self.get_mut(id) {
            module.state = State::Going;
        }
        exit(exit_address);
        self.remove(id);
        Ok(())
    }

    /// The module of that id, if it is still loaded.
    pub fn get(&self, id: ModuleId) -> Option<&Module<B>> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.module.as_ref()
    }

    fn get_mut(&mut self, id: ModuleId) -> Option<&mut Module<B>> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.module.as_mut()
    }

    /// The module of that name.
    pub fn by_name(&self, name: &str) -> Option<&Module<B>> {
        let same = |&id: &ModuleId| self.get(id).is_some_and(|module| module.name() == name);
        self.get(*self.names.find(name::hash(name.as_bytes()), same)?)
    }

    /// All modules in load order.
    pub fn iter(&self) -> impl Iterator<Item = &Module<B>> {
        self.order.iter().filter_map(|&id| self.get(id))
    }

    /// Number of modules.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are no modules.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Who owns an address: only the index is asked.
    pub fn find(&self, address: RunAddr) -> Option<Hit> {
        self.index.find(address)
    }

    /// A memory that could be written and executed at once, or is writable although it holds code or constants, or
    /// executable although it holds data. There is none at any moment; tests ask after every step.
    pub fn protection_violation(&self) -> Option<(ModuleId, MemoryKind)> {
        self.iter().find_map(|module| Some((module.id(), module.protection_violation()?)))
    }

    fn check_name(&self, name: &str) -> Result<(), LoadError> {
        match self.by_name(name) {
            Some(module) => {
                Err(LoadError::AlreadyLoaded { name: name.into(), live: module.state == State::Live })
            }
            None => Ok(()),
        }
    }

    /// Finds or makes a free slot, and makes room for one more module in every table.
    fn vacant_slot(&mut self) -> Result<ModuleId, LoadError> {
        let (slots, names) = (&self.slots, &mut self.names);
        let rehash = |id: &ModuleId| {
            let module = slots.get(id.slot as usize).and_then(|slot| slot.module.as_ref());
            module.map_or(0, |module| name::hash(module.name().as_bytes()))
        };
        names.try_reserve(1, rehash).map_err(|_| LoadError::OutOfMemory)?;
        self.order.try_reserve(1).map_err(|_| LoadError::OutOfMemory)?;
        let used = self.order.len();
        let vacant = match self.slots.len() == used {
            true => None,
            false => self.slots.iter().position(|slot| slot.module.is_none()),
        };
        let index = vacant.unwrap_or(self.slots.len());
        if vacant.is_none() {
            self.slots.try_reserve(1).map_err(|_| LoadError::OutOfMemory)?;
            self.slots.push(Slot { generation: 0, module: None });
        }
        Ok(ModuleId { slot: index as u32, generation: self.slots[index].generation })
    }

    fn reserve_users(&mut self, linked: &Linked<B>) -> Result<(), LoadError> {
        for &(used, _) in &linked.uses().modules {
            if let Some(used) = self.get_mut(used) {
                used.users.try_reserve(1).map_err(|_| LoadError::OutOfMemory)?;
            }
        }
        Ok(())
    }

    fn register_exports(&mut self, module: &mut Module<B>) -> Result<(), LoadError> {
        if module.export_count() == 0 {
            return Ok(());
        }
        let added = self.exports.add(Provider::Module(module.id()), module.exports());
        let offer = match added {
            Ok(offer) => offer,
            Err(ExportsError::OutOfMemory) => return Err(LoadError::OutOfMemory),
            Err(ExportsError::Duplicate { name, owner }) => {
                let owner = match owner {
                    Provider::Kernel => "the kernel".into(),
                    // Nobody has that id yet but the module itself, which exports the name twice.
                    Provider::Module(id) => self.get(id).map_or(module.name(), Module::name).into(),
                };
                return Err(LoadError::DuplicateExport { symbol: name.to_text().into(), owner });
            }
        };
        module.offer = Some(offer);
        Ok(())
    }

    fn register_addresses(&mut self, module: &mut Module<B>) -> Result<(), LoadError> {
        for kind in MemoryKind::ALL {
            let Some(range) = module.range(kind) else { continue };
            let owner = Owner { module: module.id(), kind };
            self.index.insert(range, owner).map_err(|error| match error {
                IndexError::OutOfMemory => LoadError::OutOfMemory,
                IndexError::Overlap | IndexError::BadRange => LoadError::AddressTaken { kind },
            })?;
            module.indexed[kind] = true;
        }
        MemoryKind::ALL.into_iter().try_for_each(|kind| {
            if !module.begins_and_ends_with_pages(kind) {
                return Err(LoadError::SharedPages { kind });
            }
            Ok(module.protect(kind, kind.formed_protection())?)
        })
    }

    /// Takes a module out of the index and the export table: all that others could find it by.
    fn forget(&mut self, module: &mut Module<B>) {
        for kind in MemoryKind::ALL {
            if let (true, Some(address)) = (module.indexed[kind], module.address(kind)) {
                self.index.remove(address);
            }
        }
        if let Some(offer) = module.offer.take() {
            self.exports.remove(offer);
        }
    }

    fn remove(&mut self, id: ModuleId) {
        let Some(slot) = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)
        else {
            return;
        };
        let Some(mut module) = slot.module.take() else { return };
        slot.generation = slot.generation.wrapping_add(1);
        self.forget(&mut module);
        if let Ok(entry) = self.names.find_entry(name::hash(module.name().as_bytes()), |&other| other == id) {
            entry.remove();
        }
        self.order.retain(|&other| other != id);
        for &(used, _) in &module.uses().modules {
            if let Some(used) = self.get_mut(used) {
                used.users.retain(|&user| user != id);
            }
        }
    }
}

impl<B: Block> Symbols for Modules<B> {
    fn find(&self, name: Name<'_>) -> Option<Definition<'_>> {
        self.exports.find(name)
    }

    fn find_each<'s>(&'s self, names: &[HashedName<'_>], found: &mut [Option<Definition<'s>>]) {
        self.exports.find_each(names, found);
    }
}

impl<B: Block> Scope for Modules<B> {
    fn provider(&self, id: ModuleId) -> Option<ProviderState<'_>> {
        let module = self.get(id)?;
        let (live, proprietary) = (module.state == State::Live, module.taints().proprietary);
        Some(ProviderState { name: module.name(), live, proprietary })
    }
}

/// The name that a module is registered under: 1 to 55 characters, as MODULE_NAME_LEN leaves on a 64-bit machine.
fn module_name<'a>(image: &Image<'a>) -> Result<&'a str, LoadError> {
    let name = image.name();
    let text = name.as_str().filter(|text| (1..56).contains(&text.len()));
    text.ok_or_else(|| LoadError::BadName { name: name.to_text().into() })
}
