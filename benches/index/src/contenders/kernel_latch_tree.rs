//! Linux's own latch tree, compiled from a Linux source tree on this machine (see `build.rs`): what `LatchTree` is
//! measured against. Nothing of Linux is part of this repository.
#![expect(unsafe_code, reason = "it is written in C")]

use std::ffi::c_void;
use std::ptr::NonNull;

use modmem_index::{Extent, Owner};

use crate::timing::{Lookup, Writer};
use crate::workload::Workload;

unsafe extern "C" {
    fn kernel_latch_tree_new(modules: usize) -> *mut c_void;
    fn kernel_latch_tree_free(tree: *mut c_void);
    fn kernel_latch_tree_insert(
        tree: *mut c_void,
        module: usize,
        kind: usize,
        base: u64,
        size: u32,
        owner: u32,
    );
    fn kernel_latch_tree_find(tree: *mut c_void, address: u64) -> u32;
    fn kernel_latch_tree_remove(tree: *mut c_void, base: u64);
}

pub(super) struct KernelLatchTree {
    tree: NonNull<c_void>,
    /// By an owner's number less 1: the module whose memory it is.
    modules: Vec<u32>,
}

// SAFETY: readers only read, with the latch tree's own ordering; nodes are never freed while it lives, and whoever
// writes from several threads is nobody here.
unsafe impl Sync for KernelLatchTree {}

impl KernelLatchTree {
    pub(super) fn new(workload: &Workload) -> KernelLatchTree {
        let modules: Vec<u32> = workload.ranges.iter().map(|range| range.module).collect();
        let count = modules.iter().max().map_or(0, |&last| last as usize + 1);
        // SAFETY: it only allocates.
        let tree = unsafe { kernel_latch_tree_new(count) };
        let tree = KernelLatchTree { tree: NonNull::new(tree).expect("memory for the modules"), modules };
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
        let module = self.modules[owner.id().number() as usize - 1] as usize;
        let size = u32::try_from(extent.size).expect("a memory is smaller than 4 GiB");
        let number = owner.id().number();
        let kind = owner.kind() as usize;
        // SAFETY: the tree lives, and module and kind name a memory of it that is not in the tree now.
        unsafe { kernel_latch_tree_insert(self.tree.as_ptr(), module, kind, extent.start, size, number) }
    }

    fn remove(&self, start: u64) {
        // SAFETY: the tree lives.
        unsafe { kernel_latch_tree_remove(self.tree.as_ptr(), start) }
    }
}
