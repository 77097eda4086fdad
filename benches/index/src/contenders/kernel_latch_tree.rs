//! Linux's own latch tree, compiled from a Linux source tree on this machine (see `build.rs`): what `LatchTree` is
//! measured against. Nothing of Linux is part of this repository.
#![expect(unsafe_code, reason = "it is written in C")]

use std::ffi::c_void;
use std::ptr::NonNull;

use modmem_index::{Extent, Owner};

use crate::timing::{Lookup, Writer};
use crate::workload::{Range, Workload};

unsafe extern "C" {
    fn kernel_latch_tree_new(modules: usize) -> *mut c_void;
    fn kernel_latch_tree_free(tree: *mut c_void);
    fn kernel_latch_tree_insert(
        tree: *mut c_void,
        module: usize,
        place: usize,
        base: u64,
        size: u32,
        owner: u32,
    );
    fn kernel_latch_tree_find(tree: *mut c_void, address: u64) -> u32;
    fn kernel_latch_tree_remove(tree: *mut c_void, base: u64);
}

pub(super) struct KernelLatchTree {
    tree: NonNull<c_void>,
    /// By an owner's number less 1: the module whose memory it is, and which of its memories.
    places: Vec<(usize, usize)>,
}

// SAFETY: readers only read, with the latch tree's own ordering; nodes are never freed while it lives, and whoever
// writes from several threads is nobody here.
unsafe impl Sync for KernelLatchTree {}

impl KernelLatchTree {
    pub(super) fn new(workload: &Workload) -> KernelLatchTree {
        let mut modules: Vec<usize> = Vec::new();
        let place_of = |range: &Range| {
            let module = range.module as usize;
            modules.resize(modules.len().max(module + 1), 0);
            modules[module] += 1;
            (module, modules[module] - 1)
        };
        let places = workload.ranges.iter().map(place_of).collect();
        let count = modules.len();
        // SAFETY: it only allocates.
        let tree = unsafe { kernel_latch_tree_new(count) };
        let tree = KernelLatchTree { tree: NonNull::new(tree).expect("memory for the modules"), places };
        for range in workload.in_load_order() {
            tree.insert(range.extent, range.owner);
        }
        tree
    }
}

impl Drop for KernelLatchTree {
    fn drop(&mut self) {
        // SAFETY: made by its counterpart, and not used again.
        unsafe { kernel_latch_tree_free(self.tree.as_ptr()) }
    }
}

impl Lookup for KernelLatchTree {
    #[inline]
    fn find(&self, address: u64) -> u32 {
        // SAFETY: the tree lives.
        unsafe { kernel_latch_tree_find(self.tree.as_ptr(), address) }
    }

    fn writer(&self) -> Option<&dyn Writer> {
        Some(self)
    }
}

impl Writer for KernelLatchTree {
    fn insert(&self, extent: Extent<u64>, owner: Owner) {
        let (module, place) = self.places[owner.id().number() as usize - 1];
        let size = u32::try_from(extent.size).expect("a memory is smaller than 4 GiB");
        let number = owner.id().number();
        // SAFETY: the tree lives, and has a memory at that place that is not in use now.
        unsafe { kernel_latch_tree_insert(self.tree.as_ptr(), module, place, extent.start, size, number) }
    }

    fn remove(&self, start: u64) {
        // SAFETY: the tree lives.
        unsafe { kernel_latch_tree_remove(self.tree.as_ptr(), start) }
    }
}
