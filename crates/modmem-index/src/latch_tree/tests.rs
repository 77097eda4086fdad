use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::*;
use crate::{Address, MemoryKind, OwnerId};

/// The widest addresses that the host can read while they are written.
#[cfg(target_has_atomic = "64")]
type Wide = u64;
#[cfg(not(target_has_atomic = "64"))]
type Wide = u32;

fn owner(number: u32) -> Owner {
    Owner::new(OwnerId::new(number).unwrap(), MemoryKind::ALL[number as usize % 7])
}

fn extent<A: Address>(start: u64, size: u64) -> Extent<A> {
    Extent { start: A::from_u64(start), size: A::from_u64(size) }
}

/// Walks one tree in address order: its ranges, how many black nodes every way down passes, and how deep it is.
fn walk<A: AtomicAddress>(
    tree: Tree,
    node: Option<&Node<A>>,
    parent: Option<&Node<A>>,
    ranges: &mut Vec<(Extent<A>, Owner)>,
) -> (u32, u32) {
    let Some(node) = node else { return (0, 0) };
    assert_eq!(node.parent().map(|node| node.start()), parent.map(|node| node.start()));
    assert!(
        !(node.is_red() && parent.is_none_or(|parent| parent.is_red())),
        "a red root or a red child of red"
    );
    let (low_blacks, low_depth) = walk(tree, node.child(tree, Side::Low), Some(node), ranges);
    ranges.push(node.entry().unwrap());
    let (high_blacks, high_depth) = walk(tree, node.child(tree, Side::High), Some(node), ranges);
    assert_eq!(low_blacks, high_blacks, "black nodes on the two sides");
    (low_blacks + u32::from(!node.is_red()), low_depth.max(high_depth) + 1)
}

/// Both trees are red-black, hold exactly `model`, and have the same shape.
fn check<A: AtomicAddress>(tree: &LatchTree<A>, model: &BTreeMap<A, (A, Owner)>) {
    let expected: Vec<(Extent<A>, Owner)> =
        model.iter().map(|(&start, &(size, owner))| (Extent { start, size }, owner)).collect();
    for (which, root) in [Tree::Even, Tree::Odd].into_iter().zip(&tree.roots) {
        let mut ranges = Vec::new();
        // Colours and parents exist once: both trees being right by them means that they have one shape.
        let (_, depth) = walk(which, root.get(), None, &mut ranges);
        assert_eq!(ranges, expected);
        assert!(depth <= 2 * (model.len() + 1).ilog2() + 1);
    }
    assert_eq!(tree.iter().collect::<Vec<_>>(), expected);
}

/// Random insertions and removals at places that touch, overlap and end at the top of the space.
fn churn<A: AtomicAddress>(rounds: u32, places: u64) {
    let tree = LatchTree::<A>::new();
    let mut model: BTreeMap<A, (A, Owner)> = BTreeMap::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let top = A::MAX.to_u64();
    for round in 0..rounds {
        let start = A::from_u64(top - 8 * random(places) - 7);
        // Nearly empty at times, nearly full at others.
        let grows = random(100) < if round / 400 % 2 == 0 { 70 } else { 30 };
        if grows {
            let extent = Extent { start, size: A::from_u64(1 + random(10)) };
            let overlaps = |last: A| {
                model.range(..=last).next_back().is_some_and(|(&start, &(size, _))| {
                    Extent { start, size }.last().unwrap() >= extent.start
                })
            };
            let expected = match extent.last() {
                None => Err(IndexError::BadRange),
                Some(last) if overlaps(last) => Err(IndexError::Overlap),
                Some(_) => {
                    model.insert(start, (extent.size, owner(round)));
                    Ok(())
                }
            };
            assert_eq!(tree.insert(extent, owner(round)), expected);
        } else {
            let expected = model.remove(&start).map(|(size, owner)| (Extent { start, size }, owner));
            assert_eq!(tree.remove(start), expected);
        }
        let address = A::from_u64(top - random(8 * places));
        let expected = model.range(..=address).next_back();
        let expected = expected.filter(|&(&start, &(size, _))| Extent { start, size }.contains(address));
        assert_eq!(tree.find(address), expected.map(|(_, &(_, owner))| owner));
        if round % 16 == 0 {
            check(&tree, &model);
        }
    }
    for start in model.keys().copied().collect::<Vec<A>>() {
        assert!(tree.remove(start).is_some());
        model.remove(&start);
        check(&tree, &model);
    }
    assert_eq!(tree.memory_bytes(), 1024 * size_of::<Node<A>>(), "nodes were used again");
}

#[test]
fn both_trees_stay_red_black_and_answer_like_a_sorted_map() {
    churn::<Wide>(6_000, 300);
    churn::<u32>(6_000, 300);
    churn::<Wide>(2_000, 6);
}

#[test]
fn ranges_in_ascending_order_do_not_make_a_list() {
    let tree = LatchTree::<u32>::new();
    let mut model = BTreeMap::new();
    for number in 0..5_000 {
        tree.insert(extent(u64::from(number) * 16, 16), owner(number)).unwrap();
        model.insert(number * 16, (16, owner(number)));
    }
    check(&tree, &model);
    assert!(tree.memory_bytes() >= 5_000 * size_of::<Node<u32>>());
}

#[test]
fn the_first_and_the_last_address_of_the_space_can_have_owners() {
    let tree = LatchTree::<u32>::new();
    tree.insert(extent(0, 1), owner(1)).unwrap();
    tree.insert(extent(0xffff_ffff, 1), owner(2)).unwrap();
    tree.insert(extent(1, 0xffff_fffe), owner(3)).unwrap();
    let answers = [0, 1, 0xffff_fffe, 0xffff_ffff].map(|address| tree.find(address));
    assert_eq!(answers, [1, 3, 3, 2].map(|number| Some(owner(number))));
    assert_eq!(tree.iter().count(), 3);
    assert_eq!(tree.insert(extent(0xffff_ffff, 2), owner(4)), Err(IndexError::BadRange));
    assert_eq!(tree.insert(extent(5, 0), owner(4)), Err(IndexError::BadRange));
    assert_eq!(tree.remove(2), None);
}

#[cfg(target_has_atomic = "64")]
#[test]
fn the_last_address_of_a_64_bit_space_can_have_an_owner() {
    let tree = LatchTree::<u64>::new();
    tree.insert(extent(u64::MAX - 9, 10), owner(1)).unwrap();
    assert_eq!(tree.find(u64::MAX), Some(owner(1)));
    assert_eq!(tree.find(u64::MAX - 10), None);
    assert_eq!(tree.remove(u64::MAX - 9), Some((extent(u64::MAX - 9, 10), owner(1))));
    assert_eq!(tree.find(u64::MAX), None);
}

#[test]
fn a_reader_that_interrupts_a_change_between_any_two_steps_succeeds_at_once() {
    let tree = LatchTree::<Wide>::new();
    for number in 1..=20 {
        tree.insert(extent(u64::from(number) * 100, 50), owner(number)).unwrap();
    }
    // `find` would go round for ever if a step left it with a tree that is being changed.
    let ask = |moment: &str| {
        for number in (1..=20).filter(|&number| number != 8) {
            assert_eq!(tree.find(Wide::from(number) * 100 + 49), Some(owner(number)), "{moment}");
        }
    };
    let node = tree.at_or_behind(800).unwrap();
    for _ in 0..2 {
        let mut both = Change::new(&tree.roots);
        tree.send_readers_to_the_other_tree();
        ask("before the even tree is changed");
        if tree.find(800).is_some() {
            both.remove(node);
        } else {
            both.insert(node);
        }
        ask("when the even tree is changed");
        tree.send_readers_to_the_other_tree();
        ask("before the odd tree is changed");
        both.repeat();
        ask("when the odd tree is changed");
    }
    assert_eq!(tree.find(800), Some(owner(8)));
}

#[test]
fn a_reader_in_a_tree_that_is_no_tree_stops() {
    let tree = LatchTree::<Wide>::new();
    tree.insert(extent(100, 10), owner(1)).unwrap();
    let node = tree.roots[0].get().unwrap();
    node.link(Tree::Even, Side::Low).set(Some(node));
    assert_eq!(search(Tree::Even, &tree.roots[0], 5), None);
    node.link(Tree::Even, Side::Low).set(None);
}

#[test]
fn readers_beside_a_writer_find_what_stays_and_never_a_wrong_owner() {
    extern crate std;
    use crate::sync::{AtomicBool, Ordering};

    let tree = LatchTree::<Wide>::new();
    // Even numbers stay, odd ones come and go.
    for number in (0..200).step_by(2) {
        tree.insert(extent(u64::from(number) * 64, 64), owner(number)).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut address: Wide = 0;
                while !stop.load(Ordering::Relaxed) {
                    address = (address + 4_099) % (200 * 64);
                    let number = (address / 64) as u32;
                    match tree.find(address) {
                        Some(found) => assert_eq!(found, owner(number)),
                        None => assert_eq!(number % 2, 1),
                    }
                }
            });
        }
        for round in 0..20_000_u32 {
            let number = round.wrapping_mul(7) % 100 * 2 + 1;
            let start = Wide::from(number) * 64;
            if tree.remove(start).is_none() {
                tree.insert(extent(start.to_u64(), 64), owner(number)).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[cfg(target_has_atomic = "64")]
#[test]
fn a_node_is_one_cache_line() {
    assert_eq!(size_of::<Node<u64>>(), 64);
    assert_eq!(align_of::<Node<u64>>(), if cfg!(target_pointer_width = "64") { 64 } else { 32 });
}
