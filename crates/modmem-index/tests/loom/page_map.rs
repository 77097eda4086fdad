//! The page map under every interleaving and every reordering that the model checker can tell apart: a writer inserts
//! and removes, records of shared pages are used again for other pages, and readers must never be told wrong.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use modmem_index::{AddressIndex, Extent, Form, MemoryKind, Owner, OwnerId, PageMap, Window};

/// Pages of 16 bytes, three of them.
const SHIFT: u32 = 4;

fn map(form: Form) -> PageMap<u32> {
    PageMap::new(&[Window { extent: Extent::new(0, 48).unwrap(), form }], SHIFT).unwrap()
}

fn owner(number: u32) -> Owner {
    Owner::new(OwnerId::new(number).unwrap(), MemoryKind::Text)
}

fn at(start: u32, size: u32) -> Extent<u32> {
    Extent::new(start, size).unwrap()
}

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let n = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let m = n.clone();
    builder.check(move || {
        m.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model()
    });
    eprintln!("executions {}", n.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn who_finds_an_owner_sees_what_was_written_before_it_was_inserted() {
    for form in [Form::Flat, Form::TwoLevel] {
        explore(2, move || {
            let shared = Arc::new((map(form), AtomicU32::new(0)));
            let writer = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.1.store(1, Ordering::Relaxed);
                    shared.0.insert(at(0, 32), owner(1)).unwrap();
                    shared.0.remove(0).unwrap();
                    shared.1.store(2, Ordering::Relaxed);
                    shared.0.insert(at(0, 16), owner(2)).unwrap();
                })
            };
            let found = shared.0.find(5);
            let written = shared.1.load(Ordering::Relaxed);
            match found {
                None => {}
                Some(found) if found == owner(1) => assert!(written >= 1),
                Some(found) => assert!(found == owner(2) && written == 2),
            }
            writer.join().unwrap();
        });
    }
}

/// One reader looks up `address` once while a writer does what it does.
fn look_up_during(
    address: u32,
    preemptions: usize,
    before: fn(&PageMap<u32>),
    meanwhile: fn(&PageMap<u32>),
    expected: &'static [Option<u32>],
) {
    explore(preemptions, move || {
        let map = Arc::new(map(Form::Flat));
        before(&map);
        let writer = {
            let map = map.clone();
            thread::spawn(move || meanwhile(&map))
        };
        let found = map.find(address);
        assert!(expected.iter().any(|&number| found == number.map(owner)), "{found:?}");
        writer.join().unwrap();
    });
}

#[test]
fn a_neighbour_that_comes_does_not_disturb_who_stays_though_the_record_is_used_again() {
    let before = |map: &PageMap<u32>| map.insert(at(2, 4), owner(1)).unwrap();
    let meanwhile = |map: &PageMap<u32>| {
        // The page's record is replaced, and serves another page at once.
        map.insert(at(8, 4), owner(2)).unwrap();
        map.insert(at(16, 8), owner(3)).unwrap();
    };
    look_up_during(3, 1, before, meanwhile, &[Some(1)]);
    look_up_during(9, 1, before, meanwhile, &[None, Some(2)]);
}

#[test]
fn a_neighbour_that_goes_does_not_disturb_who_stays() {
    let before = |map: &PageMap<u32>| {
        map.insert(at(2, 4), owner(1)).unwrap();
        map.insert(at(8, 4), owner(2)).unwrap();
    };
    let meanwhile = |map: &PageMap<u32>| {
        map.remove(8).unwrap();
        map.insert(at(16, 8), owner(3)).unwrap();
    };
    look_up_during(3, 2, before, meanwhile, &[Some(1)]);
    look_up_during(9, 1, before, meanwhile, &[None, Some(2)]);
}

#[test]
fn a_record_that_serves_another_page_and_then_this_one_again_is_not_mistaken() {
    let before = |map: &PageMap<u32>| map.insert(at(0, 4), owner(1)).unwrap();
    let meanwhile = |map: &PageMap<u32>| {
        // The only record goes from page 0 to page 1, where byte 0 has another owner, and back.
        map.remove(0).unwrap();
        map.insert(at(16, 8), owner(2)).unwrap();
        map.remove(16).unwrap();
        map.insert(at(4, 4), owner(3)).unwrap();
    };
    // One preemption: the writer does it all while the reader stands between two loads.
    look_up_during(0, 1, before, meanwhile, &[None, Some(1)]);
}

#[test]
fn two_readers_agree_with_what_the_writer_left_behind() {
    explore(2, || {
        let map = Arc::new(map(Form::TwoLevel));
        map.insert(at(0, 16), owner(1)).unwrap();
        let reader = {
            let map = map.clone();
            thread::spawn(move || {
                let first = map.find(0);
                let second = map.find(0);
                // Once it is gone it is gone: a look-up does not go back in time.
                assert!(first == Some(owner(1)) || second != Some(owner(1)), "{first:?} {second:?}");
            })
        };
        map.remove(0).unwrap();
        map.insert(at(0, 3), owner(2)).unwrap();
        assert_eq!(map.find(0), Some(owner(2)));
        reader.join().unwrap();
        assert_eq!(map.find(3), None);
    });
}
