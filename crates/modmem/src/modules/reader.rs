//! Looking modules up while somebody else loads and unloads them.

use alloc::sync::Arc;

use modmem_index::protection::Protection;
use modmem_index::{AddressIndex, Owner, PageMap, Pinned};

use super::{Counters, Lookup, Module, ModuleId};
use crate::address::RunAddr;
use crate::space::Block;

/// A handle for readers of a table of modules, in any context: threads, signal handlers, an NMI that interrupts the
/// writer itself. See [`Modules::reader`](super::Modules::reader).
///
/// Clones are handles of the same table. Once the table is gone they find nothing.
#[derive(Debug)]
pub struct Reader<B, P: Protection = Counters> {
    pub(super) index: Arc<PageMap<u64>>,
    pub(super) modules: modmem_index::Reader<Module<B>, P>,
}

impl<B, P: Protection> Clone for Reader<B, P> {
    fn clone(&self) -> Reader<B, P> {
        Reader { index: self.index.clone(), modules: self.modules.clone() }
    }
}

/// A module that cannot be unloaded as long as this lives: see [`Reader::pin`].
pub type PinnedModule<'r, B, P = Counters> = Pinned<'r, Module<B>, P>;

impl<B: Block, P: Protection> Reader<B, P> {
    /// Who owns an address: only the index is asked, and nothing is kept from being unloaded. Two loads, one of them for the page.
    #[inline]
    pub fn find(&self, address: RunAddr) -> Option<Owner> {
        self.index.find(address.0)
    }

    /// Who owns an address that lies in text.
    #[inline]
    pub fn find_text(&self, address: RunAddr) -> Option<Owner> {
        self.index.find_text(address.0)
    }

    /// The module of that id, which stays loaded until the result is dropped: who unloads it waits. `None` if it has
    /// gone, or is not registered yet.
    pub fn pin(&self, id: ModuleId) -> Option<PinnedModule<'_, B, P>> {
        self.modules.pin(id)
    }

    /// The module that owns an address, kept from being unloaded until the result is dropped.
    pub fn pin_at(&self, address: RunAddr) -> Option<(PinnedModule<'_, B, P>, Owner)> {
        self.modules.pin_at(&*self.index, address.0)
    }

    /// All that is known about `address`, told to `tell` while the module cannot be unloaded. Init memory that was
    /// given back is not known here.
    pub fn lookup<R>(&self, address: RunAddr, tell: impl FnOnce(Lookup<'_>) -> R) -> R {
        match self.pin_at(address) {
            Some((module, owner)) => tell(module.lookup(owner.kind(), address)),
            None => tell(Lookup::Nothing),
        }
    }
}
