//! The thread's own case, replayed: the same as Linux after each of 133 loads and 126 unloads.
//!
//! What is derived from the recording and how is told in [`xtask::mod_tree`]. The kernel widens its bounds before a
//! load can fail; none of these failed. Besides the four words of the bounds, which no unload changes, the latch's
//! sequence number and the range at the root are compared: they show that the unloads took place, and that the trees
//! are the kernel's.

use modmem_index::LatchTree;
use modmem_index::bounds::{Bounded, Linux};
use xtask::goldens::MOD_TREE;
use xtask::mod_tree::{Step, replay, steps, table};
use xtask::oracle::Oracle;

type Tree = Bounded<u32, LatchTree<u32>, Linux>;

/// `addr_min`, `addr_max`, `data_addr_min` and `data_addr_max`.
fn words(index: &Tree) -> [u32; 4] {
    let [(addr_min, addr_max), (data_addr_min, data_addr_max)] =
        [0, 1].map(|pair| index.pairs()[pair].words());
    [addr_min, addr_max, data_addr_min, data_addr_max]
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn bounds_and_tree_of_ppc32_are_the_kernels_after_every_load_and_unload() {
    let oracle = Oracle::from_environment("ppc32-6.12");
    let before = &oracle.mod_tree[0];
    let empty = Bounded::new(LatchTree::new(), Linux).unwrap();
    assert_eq!((&*before.moment, words(&empty)), ("0-before-any-module", before.bounds));
    let (mut loads, mut unloads) = (0, 0);
    let check = |step: &Step, index: &Tree| {
        let name = &step.module;
        assert_eq!(words(index), step.after.bounds, "{name}: bounds");
        assert_eq!(index.index().sequence(), step.after.sequence as usize, "{name}: sequence");
        assert_eq!(index.index().root().map(|(extent, _)| extent.start), Some(step.root), "{name}: root");
        *(if step.load { &mut loads } else { &mut unloads }) += 1;
    };
    replay(&steps(&oracle).unwrap(), Linux, check).unwrap();
    assert_eq!((loads, unloads), (133, 126));
    println!("{loads} loads and {unloads} unloads: bounds, sequence and root are the kernel's");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn the_table_in_the_repository_is_what_the_recording_says() {
    let oracle = Oracle::from_environment("ppc32-6.12");
    let committed = std::fs::read_to_string(MOD_TREE).unwrap();
    assert!(committed == table(&oracle).unwrap(), "write it again: cargo xtask goldens");
}
