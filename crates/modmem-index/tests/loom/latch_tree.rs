//! A model of the latch on a machine as weakly ordered as Rust's memory model allows.
//!
//! Readers change nothing, so that the order of a reader's steps and the writer's matters only through the values that
//! the reader loads. That is why the writer is the thread that loom runs first: every load of the readers, which run
//! behind it, is tried with every store that it may see, old ones too. (The other way round loom tries little: it
//! looks for races with the last access only, and that is the writer's own, who loads links before it sets them.)
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p modmem-index --test loom latch_tree`.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::sync::Arc;
use loom::thread;
use modmem_index::{AddressIndex, Extent, LatchTree, MemoryKind, Owner, OwnerId};

fn owner(number: u32) -> Owner {
    Owner::new(OwnerId::new(number).unwrap(), MemoryKind::Text)
}

/// Range `number` is `number * 100` and the nine addresses behind it.
fn insert(tree: &LatchTree<u32>, number: u32) {
    tree.insert(Extent { start: number * 100, size: 10 }, owner(number)).unwrap();
}

fn remove(tree: &LatchTree<u32>, number: u32) {
    assert_eq!(tree.remove(number * 100).map(|(_, owner)| owner), Some(owner(number)));
}

/// Nobody, or `number`: what may be found of a range that comes or goes.
fn may_be(found: Option<Owner>, number: u32) {
    assert!(found.is_none() || found == Some(owner(number)), "{found:?} instead of {number}");
}

/// Runs `reader`s beside `writer`, on a tree of the ranges `before`, in at least `least` ways.
fn model<const READERS: usize>(
    before: &'static [u32],
    writer: fn(&LatchTree<u32>),
    readers: [fn(&LatchTree<u32>); READERS],
    least: usize,
) {
    let ways = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = ways.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        let tree = Arc::new(LatchTree::new());
        before.iter().for_each(|&number| insert(&tree, number));
        let readers = readers.map(|reader| {
            let tree = tree.clone();
            thread::spawn(move || reader(&tree))
        });
        writer(&tree);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert!(ways.load(Relaxed) >= least, "only {} ways", ways.load(Relaxed));
}

#[test]
fn a_node_that_is_used_again_at_once_misleads_no_reader() {
    fn writer(tree: &LatchTree<u32>) {
        remove(tree, 1);
        // In the node of 1.
        insert(tree, 3);
    }
    model(&[2, 1], writer, [|tree| may_be(tree.find(109), 1)], 1_000);
    model(&[2, 1], writer, [|tree| may_be(tree.find(300), 3)], 1_000);
    model(&[2, 1], writer, [|tree| assert_eq!(tree.find(205), Some(owner(2)))], 100);
}

#[test]
fn what_stays_is_found_while_the_tree_turns_above_it() {
    // Three in a row: 2 becomes the root, and 1 goes down.
    let writer = |tree: &LatchTree<u32>| insert(tree, 3);
    model(&[1, 2], writer, [|tree| assert_eq!(tree.find(100), Some(owner(1)))], 50);
    model(&[1, 2], writer, [|tree| assert_eq!(tree.find(209), Some(owner(2)))], 50);
    model(&[1, 2], writer, [|tree| assert_eq!(tree.find(210), None)], 50);
}

#[test]
fn a_node_in_new_memory_is_seen_with_that_memory_zeroed() {
    model(&[], |tree| insert(tree, 1), [|tree| may_be(tree.find(100), 1)], 5);
}

#[test]
fn two_readers_beside_a_removal_of_the_root_with_two_children() {
    let first = |tree: &LatchTree<u32>| assert_eq!(tree.find(100), Some(owner(1)));
    let second = |tree: &LatchTree<u32>| may_be(tree.find(205), 2);
    model(&[2, 1, 3], |tree| remove(tree, 2), [first, second], 1_000);
}

#[test]
fn a_reader_that_has_found_a_range_finds_it_again() {
    let reader = |tree: &LatchTree<u32>| {
        let first = tree.find(300);
        may_be(first, 3);
        assert!(first.is_none() || tree.find(300) == first);
    };
    model(&[2], |tree| insert(tree, 3), [reader], 50);
}

#[test]
fn who_was_told_that_a_range_is_there_finds_it() {
    told(|tree| insert(tree, 1), |tree| assert_eq!(tree.find(100), Some(owner(1))));
}

#[test]
fn who_was_told_that_a_range_is_gone_does_not_find_it() {
    told(|tree| remove(tree, 3), |tree| assert_eq!(tree.find(300), None));
}

/// The writer does `change`, says so, and changes something else; a reader who has heard it does `check`.
fn told(change: fn(&LatchTree<u32>), check: fn(&LatchTree<u32>)) {
    use loom::sync::atomic::{AtomicBool, Ordering};

    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let tree = Arc::new(LatchTree::new());
        insert(&tree, 3);
        let told = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let (tree, told) = (tree.clone(), told.clone());
            move || {
                if told.load(Ordering::Acquire) {
                    check(&tree);
                }
            }
        });
        change(&tree);
        told.store(true, Ordering::Release);
        insert(&tree, 2);
        reader.join().unwrap();
    });
}
