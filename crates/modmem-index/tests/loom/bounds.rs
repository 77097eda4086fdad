//! A model of bounds that move while they are read, on a machine as weakly ordered as Rust's memory model allows.
//!
//! As in `latch_tree`, the writer runs first, and every load of the reader is tried with every store it may see.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p modmem-index --test loom bounds`.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use modmem_index::bounds::{Bounded, Scan, Single};
use modmem_index::{AddressIndex, Extent, LatchTree, MemoryKind, Owner, OwnerId};

type Tree = Bounded<u32, LatchTree<u32>, Single<Scan>>;

fn owner(number: u32) -> Owner {
    Owner::new(OwnerId::new(number).unwrap(), MemoryKind::Text)
}

/// Range `number` is `number * 100` and the nine addresses behind it.
fn insert(tree: &Tree, number: u32) {
    tree.insert(Extent { start: number * 100, size: 10 }, owner(number)).unwrap();
}

/// A writer does `change` to a bounded tree that has range 5; a reader looks, and knows whether the writer has said
/// that it is through.
fn model(change: fn(&Tree), look: fn(&Tree, bool)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let tree = Arc::new(Tree::new(LatchTree::new(), Single::new()).unwrap());
        insert(&tree, 5);
        let told = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let (tree, told) = (tree.clone(), told.clone());
            move || {
                let told = told.load(Ordering::Acquire);
                look(&tree, told);
            }
        });
        change(&tree);
        told.store(true, Ordering::Release);
        reader.join().unwrap();
    });
}

#[test]
fn a_range_that_stays_is_admitted_while_bounds_widen_and_shrink() {
    model(
        |tree| {
            insert(tree, 1);
            tree.remove(100).unwrap();
        },
        |tree, _| assert!(tree.admits(500) && tree.admits(509)),
    );
}

#[test]
fn who_was_told_that_a_range_is_there_finds_it() {
    model(
        |tree| insert(tree, 7),
        |tree, told| {
            let found = tree.find(709);
            assert!(found == Some(owner(7)) || found.is_none() && !told);
        },
    );
}

#[test]
fn who_has_found_a_range_finds_it_again() {
    model(
        |tree| insert(tree, 1),
        |tree, _| {
            if tree.index().find(100).is_some() {
                assert_eq!(tree.find(100), Some(owner(1)));
            }
        },
    );
}
