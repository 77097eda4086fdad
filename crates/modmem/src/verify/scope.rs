//! Symbols as the guest has them: its kernel's, and those of modules that were checked before.

use super::Guest;
use super::VerifyError;
use super::unlisted::Unlisted;
use crate::arch::Machine;
use crate::link::{Definition, Export, Exports, ExportsError, Provider, ProviderState, Scope, Symbols};
use crate::modules::ModuleId;
use crate::name::Name;

/// Where a verified module's undefined symbols are found. What matters are addresses: the guest's own loader has
/// already decided who may use what.
pub(super) struct GuestScope<'g> {
    guest: &'g dyn Guest,
    machine: Machine,
    modules: Exports,
    /// What no list has.
    pub(super) unlisted: Unlisted,
}

impl<'g> GuestScope<'g> {
    pub(super) fn new(guest: &'g dyn Guest, machine: Machine) -> GuestScope<'g> {
        GuestScope { guest, machine, modules: Exports::new(), unlisted: Unlisted::default() }
    }

    /// A symbol that the kernel's linker made of another one.
    fn made(&self, name: Name<'_>) -> Option<u64> {
        let (other, offset) = self.machine.made_symbol(name)?;
        Some(self.guest.kernel_symbol(Name::from(other))?.wrapping_add(offset))
    }

    /// Adds what a module exports.
    pub(super) fn add<'a>(&mut self, exports: impl Iterator<Item = Export<'a>>) -> Result<(), VerifyError> {
        let known = &self.modules;
        let mut fresh = alloc::vec::Vec::new();
        for export in exports.filter(|export| known.find(export.name).is_none()) {
            fresh.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
            fresh.push(Export { gpl_only: false, crc: None, namespace: Name::default(), ..export });
        }
        match self.modules.add(Provider::Kernel, fresh) {
            // One that exports a name twice is its own business.
            Ok(_) | Err(ExportsError::Duplicate { .. }) => Ok(()),
            Err(ExportsError::OutOfMemory) => Err(VerifyError::OutOfMemory),
        }
    }
}

impl Symbols for GuestScope<'_> {
    fn find(&self, name: Name<'_>) -> Option<Definition<'_>> {
        let found = |value| {
            let (name, namespace) = (Name::default(), Name::default());
            let export = Export { name, value, gpl_only: false, crc: None, namespace };
            Definition { provider: Provider::Kernel, export }
        };
        if let Some(known) = self.modules.find(name) {
            return Some(known);
        }
        let known = self.guest.kernel_symbol(name).or_else(|| self.made(name));
        let known = known.or_else(|| self.guest.any_module_symbol(name));
        known.or_else(|| self.unlisted.find(name)).map(found)
    }
}

impl Scope for GuestScope<'_> {
    fn provider(&self, _: ModuleId) -> Option<ProviderState<'_>> {
        None
    }
}
