//! Symbol values: where each symbol of a module's table is, undefined ones included (main.c:simplify_symbols).

use alloc::vec::Vec;

use super::LinkOptions;
use super::admission::Taints;
use super::error::{LinkError, Reason, Unresolved};
use super::exports::{Definition, Provider, Symbols};
use super::livepatch::InternalSymbol;
use super::namespace;
use super::remark::Remark;
use super::version_join::{VersionJoin, VersionTable};
use crate::image::Image;
use crate::image::elf::{Encoding, SymbolRecord, binding, section_index};
use crate::modules::ModuleId;
use crate::name::{HashedName, Name};
use crate::profile::Profile;

/// Where a module's undefined symbols came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Symbols of the kernel.
    pub kernel: usize,
    /// Modules whose symbols are used, and how many of each, in order of first use.
    pub modules: Vec<(ModuleId, usize)>,
    /// Weak symbols that nobody defines; their value stays what the file says, normally 0.
    pub weak_unresolved: usize,
}

/// What the table of loaded modules knows of a provider.
#[derive(Clone, Copy, Debug)]
pub struct ProviderState<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether its init has returned.
    pub live: bool,
    /// Whether it is proprietary.
    pub proprietary: bool,
}

/// Where symbols come from, and what is known of the modules among the providers.
pub trait Scope: Symbols {
    /// The state of a loaded module; `None` if it is unknown here, which makes it as good as live.
    fn provider(&self, id: ModuleId) -> Option<ProviderState<'_>>;

    /// A symbol that livepatch asks for: of a module, or with `None` of the kernel. Who does not know all symbols need not
    /// answer; then livepatch's relocations stay as they are.
    fn internal_symbol(&self, _object: Option<Name<'_>>, _name: Name<'_>, _position: u64) -> InternalSymbol {
        InternalSymbol::Unknown
    }
}

/// Undefined symbols that are looked up together.
const BATCH: usize = 64;

/// What resolving needs besides its result, kept from one module to the next.
#[derive(Debug, Default)]
pub(super) struct ResolverMemory {
    /// Indices of the undefined symbols.
    undefined: Vec<u32>,
    versions: VersionJoin,
}

pub(super) struct Resolver<'r, 'a, S> {
    image: &'r Image<'a>,
    profile: &'r Profile,
    scope: &'r S,
    memory: &'r mut ResolverMemory,
    /// What the module's symbols are compared by; `None` without versions, or where these are ignored.
    versions: Option<VersionTable<'a>>,
    /// Undefined symbols that the machine's loader makes absolute.
    defined: &'static [&'static str],
    /// Undefined symbols that need no definition.
    ignored: &'static [&'static str],
    /// Whether any symbol so far was for GPL-compatible modules only (`using_gplonly_symbols`).
    uses_gpl_only: bool,
    pub(super) taints: Taints,
    pub(super) uses: Uses,
    /// Symbols that the module has no version for, although it has versions.
    pub(super) unversioned: Option<Remark>,
    unresolved: Vec<Unresolved>,
    /// The namespaces that the module imports, sorted, once somebody asked.
    imports: Option<Vec<Name<'a>>>,
    /// Where in `uses` each module is, by module.
    places: Vec<(ModuleId, usize)>,
}

impl<'r, 'a, S: Scope> Resolver<'r, 'a, S> {
    pub(super) fn new(
        image: &'r Image<'a>,
        profile: &'r Profile,
        scope: &'r S,
        memory: &'r mut ResolverMemory,
        taints: Taints,
        options: LinkOptions,
        [defined, ignored]: [&'static [&'static str]; 2],
    ) -> Resolver<'r, 'a, S> {
        let plain = Some(image.versions()).filter(|versions| versions.is_present());
        let extended = image.extended_versions().filter(|_| profile.extended_versions);
        let versions = extended.map(VersionTable::Extended).or(plain.map(VersionTable::Plain));
        Resolver {
            image,
            profile,
            scope,
            memory,
            versions: versions.filter(|_| !options.force),
            defined,
            ignored,
            uses_gpl_only: false,
            taints,
            uses: Uses::default(),
            unversioned: None,
            unresolved: Vec::new(),
            imports: None,
            places: Vec::new(),
        }
    }

    /// Fills `values` with the final value of every symbol.
    ///
    /// `bases` has the address of each section, by index.
    pub(super) fn run<E: Encoding>(&mut self, bases: &[u64], values: &mut Vec<u64>) -> Result<(), LinkError> {
        self.define::<E>(bases, values)?;
        if let Some(versions) = self.versions.filter(|_| self.profile.switches.modversions) {
            self.memory.versions.fill(versions).ok_or(LinkError::OutOfMemory)?;
        }
        self.check_structures()?;
        let undefined = core::mem::take(&mut self.memory.undefined);
        let resolved = undefined.chunks(BATCH).try_for_each(|batch| self.resolve::<E>(batch, values));
        self.memory.undefined = undefined;
        resolved?;
        match self.unresolved.is_empty() {
            true => Ok(()),
            false => Err(LinkError::Unresolved(core::mem::take(&mut self.unresolved))),
        }
    }

    /// Gives defined symbols their final values and undefined ones what the file says, and notes the latter.
    fn define<E: Encoding>(&mut self, bases: &[u64], values: &mut Vec<u64>) -> Result<(), LinkError> {
        values.clear();
        values.try_reserve(self.image.symbols().len()).map_err(|_| LinkError::OutOfMemory)?;
        self.memory.undefined.clear();
        for (index, record) in self.image.symbols().records().chunks_exact(E::SYMBOL).enumerate() {
            let symbol = SymbolRecord::decode::<E>(record);
            let value = match symbol.section {
                // What the first one says is never looked at (main.c:simplify_symbols).
                _ if index == 0 => symbol.value,
                section_index::UNDEF => {
                    self.memory.undefined.try_reserve(1).map_err(|_| LinkError::OutOfMemory)?;
                    self.memory.undefined.push(index as u32);
                    symbol.value
                }
                section_index::ABS | section_index::LIVEPATCH => symbol.value,
                section_index::COMMON => self.common(&symbol)?,
                section => bases.get(usize::from(section)).copied().unwrap_or(0).wrapping_add(symbol.value),
            };
            // Room was reserved above.
            values.push(value);
        }
        Ok(())
    }

    /// Finds the values of a few undefined symbols.
    fn resolve<E: Encoding>(&mut self, batch: &[u32], values: &mut [u64]) -> Result<(), LinkError> {
        let symbols = self.image.symbols();
        let record = |index: u32| &symbols.records()[index as usize * E::SYMBOL..][..E::SYMBOL];
        let mut names = [HashedName::default(); BATCH];
        let mut found = [None; BATCH];
        let (names, found) = (&mut names[..batch.len()], &mut found[..batch.len()]);
        for (name, &index) in names.iter_mut().zip(batch) {
            let start = SymbolRecord::decode::<E>(record(index)).name;
            let length = self.image.name_ends().length(start);
            *name = HashedName::new(Name(&symbols.strings()[start as usize..][..length]));
        }
        self.scope.find_each(names, found);
        for ((&index, &name), definition) in batch.iter().zip(&*names).zip(&*found) {
            let symbol = SymbolRecord::decode::<E>(record(index));
            values[index as usize] = self.undefined(&symbol, name, definition.as_ref())?;
        }
        Ok(())
    }

    fn common(&self, symbol: &SymbolRecord) -> Result<u64, LinkError> {
        let name = self.image.symbols().name_at(symbol.name);
        match name.bytes().starts_with(b"__gnu_lto") {
            true => Ok(symbol.value),
            false => Err(LinkError::Common { symbol: name.to_text().into() }),
        }
    }

    fn undefined(
        &mut self,
        symbol: &SymbolRecord,
        name: HashedName<'_>,
        definition: Option<&Definition<'_>>,
    ) -> Result<u64, LinkError> {
        if self.defined.iter().any(|defined| name.name() == *defined) {
            return Ok(symbol.value);
        }
        let reason = match definition {
            None => Reason::Absent,
            Some(definition) => match self.admit(name, definition) {
                Ok(()) => {
                    self.count(definition.provider)?;
                    return Ok(definition.export.value);
                }
                Err(reason) => reason,
            },
        };
        let absent = matches!(reason, Reason::Absent | Reason::GplOnly | Reason::ProprietaryOwner);
        let name = name.name();
        let optional =
            symbol.binding() == binding::WEAK || self.ignored.iter().any(|ignored| name == *ignored);
        if absent && optional {
            self.uses.weak_unresolved += 1;
            return Ok(symbol.value);
        }
        self.unresolved.try_reserve(1).map_err(|_| LinkError::OutOfMemory)?;
        self.unresolved.push(Unresolved { symbol: name.to_text().into(), reason });
        Ok(0)
    }

    /// Linux's conditions, in its order (main.c:resolve_symbol).
    fn admit(&mut self, name: HashedName<'_>, definition: &Definition<'_>) -> Result<(), Reason> {
        let export = &definition.export;
        if export.gpl_only && self.taints.proprietary {
            return Err(Reason::GplOnly);
        }
        self.uses_gpl_only |= export.gpl_only;
        let owner = match definition.provider {
            Provider::Kernel => None,
            Provider::Module(id) => self.scope.provider(id),
        };
        if owner.is_some_and(|owner| owner.proprietary) {
            if self.uses_gpl_only {
                return Err(Reason::ProprietaryOwner);
            }
            self.taints.proprietary = true;
        }
        self.check_version(name, export.crc)?;
        if !self.is_open(export.namespace) {
            return Err(Reason::Namespace(export.namespace.to_text().into()));
        }
        match owner {
            Some(owner) if !owner.live => Err(Reason::Busy(owner.name.into())),
            _ => Ok(()),
        }
    }

    /// Whether the module may use symbols of that namespace (main.c:verify_namespace_is_imported).
    fn is_open(&mut self, namespace: Name<'_>) -> bool {
        if namespace.is_empty() || self.profile.switches.allow_missing_namespace_imports {
            return true;
        }
        let named = self.profile.module_namespaces && namespace::names(namespace, self.image.name());
        if named {
            return true;
        }
        let image = self.image;
        let imports = self.imports.get_or_insert_with(|| {
            let mut imports: Vec<Name<'a>> = image.modinfo().all("import_ns").collect();
            imports.sort_unstable();
            imports
        });
        imports.binary_search(&namespace).is_ok()
    }

    /// The module's CRC against the provider's (kernel/module/version.c:check_version).
    fn check_version(&mut self, name: HashedName<'_>, crc: Option<u32>) -> Result<(), Reason> {
        let Some(provider) = crc.filter(|_| self.profile.switches.modversions) else { return Ok(()) };
        let Some(versions) = self.versions else {
            return if self.taints.force_load(self.profile) { Ok(()) } else { Err(Reason::NoVersion) };
        };
        match self.memory.versions.find(versions, name) {
            Some(module) if module != u64::from(provider) => Err(Reason::Version { module, provider }),
            Some(_) => Ok(()),
            None if matches!(versions, VersionTable::Plain(_)) && self.profile.refuses_missing_versions => {
                Err(Reason::NoVersion)
            }
            None => {
                self.note_unversioned(name.name());
                Ok(())
            }
        }
    }

    fn note_unversioned(&mut self, name: Name<'_>) {
        match &mut self.unversioned {
            Some(Remark::NoVersions { count, .. }) => *count += 1,
            _ => self.unversioned = Some(Remark::NoVersions { first: name.to_text().into(), count: 1 }),
        }
    }

    /// The layout of the loader's own structures has a version too, under the name of a function that nobody calls
    /// (kernel/module/version.c:check_modstruct_version).
    fn check_structures(&mut self) -> Result<(), LinkError> {
        let name = HashedName::new(Name(b"module_layout"));
        let crc = self.scope.find(name.name()).and_then(|definition| definition.export.crc);
        self.check_version(name, crc).map_err(|reason| {
            LinkError::Unresolved([Unresolved { symbol: name.name().to_text().into(), reason }].into())
        })
    }

    fn count(&mut self, provider: Provider) -> Result<(), LinkError> {
        let Provider::Module(id) = provider else {
            self.uses.kernel += 1;
            return Ok(());
        };
        match self.places.binary_search_by_key(&id, |(used, _)| *used) {
            Ok(at) => {
                let place = self.places[at].1;
                self.uses.modules[place].1 += 1;
            }
            Err(at) => {
                let modules = &mut self.uses.modules;
                modules.try_reserve(1).map_err(|_| LinkError::OutOfMemory)?;
                self.places.try_reserve(1).map_err(|_| LinkError::OutOfMemory)?;
                self.places.insert(at, (id, modules.len()));
                modules.push((id, 1));
            }
        }
        Ok(())
    }
}
