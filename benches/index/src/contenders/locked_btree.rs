//! A `BTreeMap` behind the standard library's `RwLock`, keyed by the last address: how wasmtime finds code.
//!
//! Readers wait for writers, so it is for no context that may interrupt one.

use std::collections::BTreeMap;
use std::sync::RwLock;

use modmem_index::{Extent, Owner};

use crate::timing::{Lookup, Writer};
use crate::workload::Workload;

/// Last address -> first address and owner.
pub(super) struct LockedBTree(RwLock<BTreeMap<u64, (u64, u32)>>);

impl LockedBTree {
    pub(super) fn new(workload: &Workload) -> LockedBTree {
        let tree = LockedBTree(RwLock::default());
        for range in workload.in_load_order() {
            tree.insert(range.extent, range.owner);
        }
        tree
    }
}

impl Lookup for LockedBTree {
    #[inline]
    fn find(&self, address: u64) -> u32 {
        let tree = self.0.read().expect("no writer panics");
        match tree.range(address..).next() {
            Some((_, &(start, number))) if start <= address => number,
            _ => 0,
        }
    }

    fn writer(&self) -> Option<&dyn Writer> {
        Some(self)
    }
}

impl Writer for LockedBTree {
    fn insert(&self, extent: Extent<u64>, owner: Owner) {
        let mut tree = self.0.write().expect("no writer panics");
        tree.insert(extent.start + (extent.size - 1), (extent.start, owner.id().number()));
    }

    fn remove(&self, start: u64) {
        let mut tree = self.0.write().expect("no writer panics");
        let (&last, _) = tree.range(start..).next().expect("the range is there");
        tree.remove(&last);
    }
}
