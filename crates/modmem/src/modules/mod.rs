//! The set of loaded modules: names, states, who uses whom, and what lies where.
//!
//! Sources: kernel/module/main.c:add_unformed_module, complete_formation, do_init_module, free_module,
//! SYSCALL_DEFINE2(delete_module).

mod addresses;
mod error;
mod init_memory;
mod internals;
mod lookup;
mod module;
mod parameters;
mod reader;
mod symbols;
pub mod views;

use alloc::vec::Vec;

use hashbrown::HashTable;
use modmem_index::protection::{Counters, Protection};
use modmem_index::{AddressIndex, IndexError, Owner, OwnerId, PageMap, Registry, Reservation};

use addresses::Addresses;
pub use error::{LoadError, UnloadError};
use internals::Internals;
pub use lookup::{Lookup, Place};
pub use module::{LoadedSection, Module, State};
pub use reader::{PinnedModule, Reader};
pub use symbols::{FoundSymbol, ModuleSymbol};

use crate::address::RunAddr;
use crate::image::Image;
use crate::layout::{Layout, MemoryKind};
use crate::link::exports::ExportsError;
use crate::link::{
    Definition, Export, Exports, InternalSymbol, LinkError, LinkOptions, Linked, Linker, OfferId, Placement,
    Provider, ProviderState, Scope, Symbols,
};
use crate::name::{self, HashedName, Name};
use crate::profile::{Profile, Switches};
use crate::space::{Block, Memory, PerCpuSpace};

/// Names a loaded module. Once the module is gone, its id means nobody, even if its slot is used again.
pub type ModuleId = OwnerId;

/// The loaded modules of one kernel, its exported symbols and the index of its addresses.
///
/// This is the handle of the one who loads and unloads. Others look modules up through [`Modules::reader`], at the same
/// time and without waiting; what they pin is waited for before it is freed, by the rules of `P`: counters that any
/// process and any kernel can use, or what the embedder has (RCU, a preemption count).
///
/// # Waiting
///
/// [`start`](Modules::start), [`unload`](Modules::unload) and dropping the table wait until all pins that exist by then
/// are gone, of whatever module: a thread that calls them while it has one itself waits for ever, and so does one that
/// has a pin and waits for a lock that the caller holds. The counters of [`Modules::new`] spin while they wait; a process
/// whose readers can lose the processor does better with
/// `Modules::with_protection(.., Counters::new().with_relax(std::thread::yield_now))`.
#[derive(Debug)]
pub struct Modules<B, P: Protection = Counters> {
    modules: Registry<Module<B>, P>,
    /// By slot: what only the writer needs to know of a module.
    relations: Vec<Relations>,
    names: HashTable<ModuleId>,
    order: Vec<ModuleId>,
    exports: Exports,
    internals: Internals,
    addresses: Addresses,
    percpu: PerCpuSpace,
    switches: Switches,
}

/// What a module is to others.
#[derive(Debug, Default)]
struct Relations {
    /// The modules that use it, in order of their loading.
    users: Vec<ModuleId>,
    /// Its symbols in the table of exports.
    offer: Option<OfferId>,
}

impl<B: Block> Modules<B> {
    /// A kernel without modules, whose own percpu data ends at `percpu_end`.
    pub fn new(profile: &Profile, percpu_end: u64) -> Modules<B> {
        Modules::with_protection(profile, percpu_end, Counters::new())
    }
}

impl<B: Block, P: Protection> Modules<B, P> {
    /// A kernel without modules that has a protection of its own for who looks modules up.
    pub fn with_protection(profile: &Profile, percpu_end: u64, protection: P) -> Modules<B, P> {
        Modules {
            modules: Registry::new(protection),
            relations: Vec::new(),
            names: HashTable::new(),
            order: Vec::new(),
            exports: Exports::new(),
            internals: Internals::default(),
            addresses: Addresses::new(profile),
            percpu: PerCpuSpace::new(percpu_end, profile.percpu_reserve),
            switches: profile.switches.clone(),
        }
    }

    /// A handle for those who look modules up while this one loads and unloads.
    pub fn reader(&self) -> Reader<B, P> {
        Reader { index: self.addresses.map().clone(), modules: self.modules.reader() }
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

    /// Tells all symbols of the kernel itself, exported or not, in place of those told before: livepatch modules name such.
    ///
    /// # Errors
    /// There is no memory; nothing is told then.
    pub fn set_internal_symbols<'a>(
        &mut self,
        symbols: impl IntoIterator<Item = (Name<'a>, u64)>,
    ) -> Result<(), LoadError> {
        self.internals = Internals::of(symbols).ok_or(LoadError::OutOfMemory)?;
        Ok(())
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
    pub fn index(&self) -> &PageMap<u64> {
        self.addresses.map()
    }

    /// Loads a module up to the point where its init would run: lays it out, places it and its percpu data, links it,
    /// registers it.
    ///
    /// Its code is as relocation leaves it; a kernel does more to it before it runs. Who wants that too
    /// [links](Modules::link), finalizes (feature `finalize`) and [commits](Modules::commit).
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
        let linked = self.link(image, profile, memory, linker, options)?;
        self.commit(image, linked)
    }

    /// Lays a module out, places it and its percpu data, and links it with the modules that are there, without
    /// registering it. Several threads can do this at a time, each with a linker and a handle of the memory; only
    /// [committing](Modules::commit) is one's alone.
    ///
    /// # Errors
    /// What any of the stages says, or that the name is taken. Nothing is left behind.
    pub fn link<M: Memory<Block = B>>(
        &self,
        image: &Image<'_>,
        profile: &Profile,
        memory: &mut M,
        linker: &mut Linker,
        options: LinkOptions,
    ) -> Result<Linked<B>, LoadError> {
        self.check_name(module_name(image, &self.switches)?)?;
        if image.modinfo().get("livepatch").is_some() && !self.switches.livepatch {
            return Err(LoadError::Link(LinkError::NoLivepatch));
        }
        let layout = Layout::of(image, profile)?;
        let percpu = match layout.percpu() {
            Some(percpu) => Some(self.percpu.allocate(percpu.size, percpu.alignment)?),
            None => None,
        };
        let mut placement = Placement::allocate(layout, memory)?.with_beside(memory)?;
        if let Some(percpu) = percpu {
            placement = placement.with_percpu(percpu);
        }
        Ok(linker.link(image, profile, placement, self, options)?)
    }

    /// Registers a module that was linked, and perhaps finalized: its exports can be used, its addresses are found, its memories are protected.
    ///
    /// # Errors
    /// It was linked from another image, the name is taken, a symbol that it exports is exported already, a module that it uses has gone since it was
    /// linked, or a protection cannot be set. The module is gone with the error, and nothing is left behind.
    pub fn commit(&mut self, image: &Image<'_>, module: impl Into<Linked<B>>) -> Result<ModuleId, LoadError> {
        let linked = module.into();
        if !linked.placement().layout().is_of(image) {
            return Err(LoadError::Link(LinkError::OtherImage));
        }
        let name = module_name(image, &self.switches)?;
        self.check_name(name)?;
        if linked.uses().modules.iter().any(|&(used, _)| self.get(used).is_none()) {
            return Err(LoadError::ProviderGone);
        }
        let reserved = self.make_room()?;
        let id = reserved.id();
        self.reserve_users(&linked)?;
        let mut module = Module::new(id, name, image, linked)?;
        module.check_parameters()?;
        module.form()?;
        let offer = self.register_exports(&module)?;
        if let Err(error) = self.register_addresses(&module) {
            if let Some(offer) = offer {
                self.exports.remove(offer);
            }
            return Err(error);
        }
        // Nothing below can fail: room was made above.
        for &(used, _) in &module.uses().modules {
            if let Some(used) = self.relations.get_mut(self.modules.slot(used) as usize) {
                used.users.push(id);
            }
        }
        self.relations[self.modules.slot(id) as usize] = Relations { users: Vec::new(), offer };
        self.names.insert_unique(name::hash(name.as_bytes()), id, |_| 0);
        self.order.push(id);
        self.modules.publish(reserved, module);
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
        let module = self.get(id).filter(|module| module.state() == State::Coming);
        let module = module.ok_or(LoadError::NotComing)?;
        let code = init(module.init());
        if code < 0 {
            module.set_state(State::Going);
            self.remove(id);
            return Err(LoadError::Init { code });
        }
        module.set_state(State::Live);
        let sealed = module.seal();
        self.discard_init(id);
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
        if !self.switches.module_unload {
            return Err(UnloadError::NoUnloading);
        }
        if !self.users(id).is_empty() {
            let name = |&user: &ModuleId| Some(self.get(user)?.name().into());
            return Err(UnloadError::InUse { users: self.users(id).iter().filter_map(name).collect() });
        }
        if module.state() != State::Live {
            return Err(UnloadError::Busy);
        }
        if module.init().is_some() && module.exit().is_none() {
            return Err(UnloadError::Permanent);
        }
        module.set_state(State::Going);
        exit(module.exit());
        self.remove(id);
        Ok(())
    }

    /// The module of that id, if it is still loaded.
    pub fn get(&self, id: ModuleId) -> Option<&Module<B>> {
        self.modules.get(id)
    }

    /// The modules that use that one, in order of their loading.
    pub fn users(&self, id: ModuleId) -> &[ModuleId] {
        let relations = self.get(id).and_then(|_| self.relations.get(self.modules.slot(id) as usize));
        relations.map_or(&[], |relations| &relations.users)
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
    #[inline]
    pub fn find(&self, address: RunAddr) -> Option<Owner> {
        self.index().find(address.0)
    }

    /// A memory that could be written and executed at once, or is writable although it holds code or constants, or
    /// executable although it holds data. There is none at any moment; tests ask after every step.
    pub fn protection_violation(&self) -> Option<(ModuleId, MemoryKind)> {
        self.iter().find_map(|module| Some((module.id(), module.protection_violation()?)))
    }

    fn check_name(&self, name: &str) -> Result<(), LoadError> {
        match self.by_name(name) {
            Some(module) => {
                Err(LoadError::AlreadyLoaded { name: name.into(), live: module.state() == State::Live })
            }
            None => Ok(()),
        }
    }

    /// Reserves an id, and makes room for one more module in every table.
    fn make_room(&mut self) -> Result<Reservation<Module<B>, P>, LoadError> {
        let (modules, names) = (&self.modules, &mut self.names);
        let rehash =
            |&id: &ModuleId| modules.get(id).map_or(0, |module| name::hash(module.name().as_bytes()));
        names.try_reserve(1, rehash).map_err(|_| LoadError::OutOfMemory)?;
        self.order.try_reserve(1).map_err(|_| LoadError::OutOfMemory)?;
        let reserved = self.modules.reserve()?;
        let slots = self.modules.slot(reserved.id()) as usize + 1;
        if let Some(missing) = slots.checked_sub(self.relations.len()) {
            self.relations.try_reserve(missing).map_err(|_| LoadError::OutOfMemory)?;
            self.relations.resize_with(slots, Relations::default);
        }
        Ok(reserved)
    }

    fn reserve_users(&mut self, linked: &Linked<B>) -> Result<(), LoadError> {
        for &(used, _) in &linked.uses().modules {
            if let Some(used) = self.relations.get_mut(self.modules.slot(used) as usize) {
                used.users.try_reserve(1).map_err(|_| LoadError::OutOfMemory)?;
            }
        }
        Ok(())
    }

    fn register_exports(&mut self, module: &Module<B>) -> Result<Option<OfferId>, LoadError> {
        if module.export_count() == 0 {
            return Ok(None);
        }
        // Names of others are taken, found or not (main.c:verify_exported_symbols). The module's own do not count yet: it
        // may export a name twice.
        let taken = |name: Name<'_>, owner| {
            let owner = match owner {
                Provider::Kernel => "the kernel".into(),
                Provider::Module(id) => self.get(id).map_or(module.name(), Module::name).into(),
            };
            LoadError::DuplicateExport { symbol: name.to_text().into(), owner }
        };
        for export in module.exports() {
            if let Some(other) = self.exports.find(export.name) {
                return Err(taken(export.name, other.provider));
            }
        }
        let added = self.exports.add(Provider::Module(module.id()), module.offered());
        added.map(Some).map_err(|error| match error {
            ExportsError::OutOfMemory => LoadError::OutOfMemory,
            ExportsError::Duplicate { name, .. } => {
                LoadError::DuplicateExport { symbol: name.to_text().into(), owner: module.name().into() }
            }
        })
    }

    /// Puts a module's memories into the index; all of them, or on error none.
    fn register_addresses(&mut self, module: &Module<B>) -> Result<(), LoadError> {
        for kind in MemoryKind::ALL {
            let Some(range) = module.range(kind) else { continue };
            if let Err(error) = self.addresses.insert(&range, Owner::new(module.id(), kind)) {
                let inserted = MemoryKind::ALL.into_iter().take_while(|&before| before != kind);
                inserted
                    .filter_map(|before| module.address(before))
                    .for_each(|start| self.addresses.remove(start));
                return Err(match error {
                    IndexError::OutOfMemory => LoadError::OutOfMemory,
                    error => LoadError::Unindexable { kind, error },
                });
            }
        }
        Ok(())
    }

    /// Takes a module out of all that others could find it by, waits until nobody looks at it, and frees it.
    fn remove(&mut self, id: ModuleId) {
        let Modules { modules, relations, names, order, exports, addresses, .. } = self;
        let slot = modules.slot(id) as usize;
        let module = modules.remove(id, |module| {
            let memories = MemoryKind::ALL.into_iter().filter_map(|kind| module.address(kind));
            memories.for_each(|start| addresses.remove(start));
            if let Some(offer) = relations.get_mut(slot).and_then(|relations| relations.offer.take()) {
                exports.remove(offer);
            }
        });
        let Some(module) = module else { return };
        if let Ok(entry) = names.find_entry(name::hash(module.name().as_bytes()), |&other| other == id) {
            entry.remove();
        }
        order.retain(|&other| other != id);
        for &(used, _) in &module.uses().modules {
            if let Some(used) = relations.get_mut(modules.slot(used) as usize) {
                used.users.retain(|&user| user != id);
            }
        }
    }
}

impl<B: Block, P: Protection> Symbols for Modules<B, P> {
    fn find(&self, name: Name<'_>) -> Option<Definition<'_>> {
        self.exports.find(name)
    }

    fn find_each<'s>(&'s self, names: &[HashedName<'_>], found: &mut [Option<Definition<'s>>]) {
        self.exports.find_each(names, found);
    }
}

impl<B: Block, P: Protection> Scope for Modules<B, P> {
    fn provider(&self, id: ModuleId) -> Option<ProviderState<'_>> {
        let module = self.get(id)?;
        let (live, proprietary) = (module.state() == State::Live, module.taints().proprietary);
        Some(ProviderState { name: module.name(), live, proprietary })
    }

    fn internal_symbol(&self, object: Option<Name<'_>>, name: Name<'_>, position: u64) -> InternalSymbol {
        if !self.switches.livepatch {
            return InternalSymbol::Unknown;
        }
        match object {
            Some(object) => {
                let module = object.as_str().and_then(|object| self.by_name(object));
                let symbols = module.into_iter().flat_map(Module::symbols);
                let named = symbols.filter(|symbol| symbol.name == name && !symbol.undefined);
                InternalSymbol::of(named.map(|symbol| symbol.value), position)
            }
            None => match (self.internals.find(name, position), self.exports.find(name)) {
                // What the kernel exports it has, and nearly always once.
                (InternalSymbol::Unknown, Some(Definition { provider: Provider::Kernel, export })) => {
                    InternalSymbol::of(core::iter::once(export.value), position)
                }
                (found, _) => found,
            },
        }
    }
}

/// The name that a module is registered under. Sysfs takes none that is empty, and behind one that does not end Linux
/// reads on.
fn module_name<'a>(image: &Image<'a>, switches: &Switches) -> Result<&'a str, LoadError> {
    let name = match switches.random_structures {
        true => Some(image.name()),
        false => image.registered_name(),
    };
    // One byte of MODULE_NAME_LEN is for the end.
    let limit = 63 - image.format().word();
    let text = name.and_then(Name::as_str).filter(|text| (1..=limit).contains(&text.len()));
    text.ok_or_else(|| LoadError::BadName { name: name.unwrap_or_default().to_text().into(), limit })
}
