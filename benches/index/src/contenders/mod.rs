//! Everyone who takes part.

mod dl_find_object;
#[cfg(have_linux_source)]
mod kernel_latch_tree;
mod locked_btree;
mod own;
mod sorted_snapshot;
#[cfg(target_arch = "x86_64")]
mod static_tree;

use modmem_index::{Form, LatchTree};

use crate::timing::{Contender, Lookup, Questions};
use crate::workload::{Family, Workload};

/// A structure by name. A new one is a file with a type that implements `Lookup`, and a line in each of these lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Structure {
    Harness,
    LatchTree,
    ModuleAddress,
    KernelLatchTree,
    PageMapFlat,
    PageMapTwoLevel,
    PackedMap,
    LockedBTree,
    SortedSnapshot,
    StaticTree,
    DlFindObject,
}

impl Structure {
    pub(crate) const ALL: [Structure; 11] = [
        Structure::Harness,
        Structure::LatchTree,
        Structure::ModuleAddress,
        Structure::KernelLatchTree,
        Structure::PageMapFlat,
        Structure::PageMapTwoLevel,
        Structure::PackedMap,
        Structure::LockedBTree,
        Structure::SortedSnapshot,
        Structure::StaticTree,
        Structure::DlFindObject,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Structure::Harness => "the harness alone",
            Structure::LatchTree => "LatchTree",
            Structure::ModuleAddress => "LatchTree, `Linux` bounds",
            Structure::KernelLatchTree => "Linux's latch tree, in C",
            Structure::PageMapFlat => "PageMap, flat",
            Structure::PageMapTwoLevel => "PageMap, two-level",
            Structure::PackedMap => "PackedMap",
            Structure::LockedBTree => "`RwLock<BTreeMap>`",
            Structure::SortedSnapshot => "arc-swap of a sorted `Vec`",
            Structure::StaticTree => "static 16-ary tree",
            Structure::DlFindObject => "`_dl_find_object`",
        }
    }

    /// Whether its memory says something: bounds add some words to the tree's, Linux's nodes are parts of modules'
    /// descriptors, and the dynamic linker maps the objects too.
    pub(crate) fn has_memory_of_its_own(self) -> bool {
        use Structure::{DlFindObject, Harness, KernelLatchTree, ModuleAddress};
        !matches!(self, Harness | ModuleAddress | KernelLatchTree | DlFindObject)
    }

    /// Whether readers may run while it changes, and it is not another one once more. Linux's nodes may be used again
    /// only after a grace period, which nobody gives them here.
    pub(crate) fn may_be_written_beside_readers(self) -> bool {
        self.has_memory_of_its_own() && self != Structure::StaticTree
    }

    /// How many answers a full run verifies beside a writer.
    pub(crate) fn verified_lookups(self) -> u64 {
        match self {
            Structure::PageMapFlat | Structure::PageMapTwoLevel | Structure::PackedMap => 100_000_000,
            _ => 10_000_000,
        }
    }

    /// With all ranges in it; `None` if it does not take part at this size or on this machine.
    pub(crate) fn build(self, workload: &Workload) -> Option<Box<dyn Contender>> {
        let contender: Box<dyn Contender> = match self {
            Structure::Harness => Box::new(Harness),
            Structure::LatchTree => Box::new(own::filled(LatchTree::new(), workload)),
            Structure::ModuleAddress => own::module_address(workload),
            #[cfg(have_linux_source)]
            Structure::KernelLatchTree => Box::new(kernel_latch_tree::KernelLatchTree::new(workload)),
            #[cfg(not(have_linux_source))]
            Structure::KernelLatchTree => return None,
            Structure::PageMapFlat => Box::new(own::page_map(workload, Form::Flat)),
            Structure::PageMapTwoLevel => Box::new(own::page_map(workload, Form::TwoLevel)),
            Structure::PackedMap => Box::new(own::packed_map(workload)),
            Structure::LockedBTree => Box::new(locked_btree::LockedBTree::new(workload)),
            Structure::SortedSnapshot => Box::new(sorted_snapshot::SortedSnapshot::new(workload)),
            #[cfg(target_arch = "x86_64")]
            Structure::StaticTree => Box::new(static_tree::StaticTree::new(workload)?),
            #[cfg(not(target_arch = "x86_64"))]
            Structure::StaticTree => return None,
            Structure::DlFindObject => Box::new(dl_find_object::DlFindObject::new(workload)?),
        };
        Some(contender)
    }
}

/// Looks nothing up: what remains is the loop around a lookup.
struct Harness;

impl Lookup for Harness {
    #[inline]
    fn find(&self, address: u64) -> u32 {
        address as u32
    }

    fn questions(&self, _family: Family) -> Questions {
        Questions::Unchecked
    }
}
