//! The packed map under every interleaving and every reordering that the model checker can tell apart: a writer inserts
//! and removes, runs of values and records are used again elsewhere, and readers must never be told wrong.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use modmem_index::{AddressIndex, Extent, MemoryKind, Owner, OwnerId, PackedMap};

/// Pages of 16 bytes.
const SHIFT: u32 = 4;
/// Bytes of a block of 32 pages.
const BLOCK: u32 = 32 << SHIFT;

loom::lazy_static! {
    static ref STEP: AtomicU32 = AtomicU32::new(0);
}

/// A step of a thread, which the checker tries before and after every step of the others.
///
/// Without it there would be little to see: the checker looks for two threads that race for a word, of which it keeps
/// the last access only, and a writer that loads a word before it stores hides a reader's load from it. What the steps
/// are made of need not be tried in every order, since a load may find any store that was not overwritten *for its
/// thread*. The order is relaxed, so that nothing is synchronised.
fn step() {
    STEP.store(0, Ordering::Relaxed);
}

type Find = fn(&PackedMap<u32>, u32) -> Option<Owner>;

/// As a reader does at first, and as one does that has lost against writers.
const WAYS: [Find; 2] = [PackedMap::find, PackedMap::find_holding];

fn owner(number: u32) -> Owner {
    Owner::new(OwnerId::new(number).unwrap(), MemoryKind::Text)
}

/// What a writer does: inserts so many bytes for an owner, or removes the range (an owner 0).
#[derive(Clone, Copy)]
struct Change(u32, u32, u32);

fn change(map: &PackedMap<u32>, Change(start, size, number): Change) {
    let extent = Extent::new(start, size).unwrap();
    step();
    match number {
        0 => assert_eq!(map.remove(start).unwrap().0, extent),
        number => map.insert(extent, owner(number)).unwrap(),
    }
}

/// A map of two blocks, with one range.
fn map(first: Change) -> PackedMap<u32> {
    let map = PackedMap::new(&[Extent::new(0, 2 * BLOCK).unwrap()], SHIFT).unwrap();
    change(&map, first);
    map
}

/// With that many preemptions: fewer where records are read, of whose words the checker tries all combinations of old
/// and new.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Looks each address up, in both ways, while a writer makes the changes; the owners that may be found (0 is nobody).
fn look_up(
    preemptions: usize,
    first: Change,
    changes: &'static [Change],
    expected: &[(u32, &'static [u32])],
) {
    for find in WAYS {
        for &(address, owners) in expected {
            explore(preemptions, move || {
                let map = Arc::new(map(first));
                let writer = {
                    let map = map.clone();
                    thread::spawn(move || changes.iter().for_each(|&step| change(&map, step)))
                };
                step();
                let found = find(&map, address);
                assert!(
                    owners.contains(&found.map_or(0, |found| found.id().number())),
                    "{address}: {found:?}"
                );
                writer.join().unwrap();
            });
        }
    }
}

#[test]
fn neighbours_that_come_and_go_in_the_block_do_not_disturb_who_stays() {
    // Each insertion gives the block another run; the other block takes over the first one.
    look_up(
        3,
        Change(16, 32, 1),
        &[Change(64, 16, 2), Change(BLOCK + 16, 16, 3), Change(64, 16, 0), Change(4, 8, 4)],
        &[(32, &[1]), (48, &[0]), (64, &[0, 2])],
    );
    // One more value would fit into the run that is there, where it would be another page's for a moment.
    look_up(3, Change(16, 32, 1), &[Change(48, 16, 2)], &[(32, &[1]), (48, &[0, 2]), (64, &[0])]);
}

#[test]
fn a_run_that_serves_another_block_and_then_this_one_again_is_not_mistaken() {
    // With the same change bits each time.
    look_up(
        3,
        Change(16, 16, 1),
        &[Change(16, 16, 0), Change(BLOCK + 16, 16, 2), Change(BLOCK + 16, 16, 0), Change(16, 16, 3)],
        &[(16, &[0, 1, 3]), (BLOCK + 16, &[0, 2])],
    );
}

#[test]
fn a_record_that_another_page_took_over_is_not_mistaken() {
    // Not back again: a record is of many words, of which the checker tries all combinations of old and new.
    look_up(
        2,
        Change(0, 4, 1),
        &[Change(0, 4, 0), Change(BLOCK, 8, 2)],
        &[(0, &[0, 1]), (4, &[0]), (BLOCK + 4, &[0, 2])],
    );
    // The page gets another record, in the same run.
    look_up(
        2,
        Change(0, 4, 1),
        &[Change(8, 4, 2), Change(BLOCK, 8, 3)],
        &[(0, &[1]), (4, &[0]), (8, &[0, 2])],
    );
}

#[test]
fn who_finds_an_owner_sees_what_was_written_before_it_was_inserted() {
    for find in WAYS {
        // Part of a page, and a whole one; the block's run is replaced, or stays because of a neighbour.
        for (address, neighbour) in [(9, None), (17, None), (17, Some(Change(48, 16, 3)))] {
            explore(2, move || {
                let shared = Arc::new((map(Change(8, 24, 1)), AtomicU32::new(1)));
                neighbour.into_iter().for_each(|neighbour| change(&shared.0, neighbour));
                let writer = {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        change(&shared.0, Change(8, 24, 0));
                        shared.1.store(2, Ordering::Relaxed);
                        change(&shared.0, Change(8, 24, 2));
                    })
                };
                step();
                let found = find(&shared.0, address);
                let written = shared.1.load(Ordering::Relaxed);
                assert!(found != Some(owner(2)) || written == 2);
                writer.join().unwrap();
            });
        }
    }
}

#[test]
fn two_readers_agree_with_what_the_writer_left_behind() {
    for find in WAYS {
        explore(2, move || {
            let map = Arc::new(map(Change(0, 16, 1)));
            let reader = {
                let map = map.clone();
                thread::spawn(move || {
                    step();
                    let first = find(&map, 0);
                    let second = find(&map, 0);
                    // Once it is gone it is gone: a look-up does not go back in time.
                    assert!(first == Some(owner(1)) || second != Some(owner(1)), "{first:?} {second:?}");
                })
            };
            change(&map, Change(0, 16, 0));
            change(&map, Change(0, 3, 2));
            step();
            assert_eq!(find(&map, 0), Some(owner(2)));
            reader.join().unwrap();
            assert_eq!(find(&map, 3), None);
        });
    }
}
