//! Everything that readers and writers share, under every interleaving.

#![cfg(loom)]

mod bounds;
mod latch_tree;
mod packed_map;
mod page_map;
mod protection;
mod registry;
