//! Every structure against a naive model: long random runs of insertions, removals and look-ups over a few pages, where
//! ranges share pages, touch each other, cross pages, and reach the last address of the space.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::fmt::Debug;

use modmem_index::bounds::{Augmented, Bounded, TextData};
use modmem_index::{
    Address, AddressIndex, AtomicAddress, Extent, Form, IndexError, LatchTree, MemoryKind, Owner, OwnerId,
    PackedMap, PageMap, Window,
};
use proptest::prelude::*;

/// What is done to a structure; addresses are counted from the start of a window.
#[derive(Clone, Copy, Debug)]
enum Step {
    Insert {
        window: usize,
        start: u64,
        size: u64,
        owner: u32,
        kind: usize,
    },
    /// Removes the range that the address lies in, or else tries to remove one that is not there.
    Remove {
        window: usize,
        address: u64,
    },
}

/// Pages of the windows that are used, of 64 bytes: 16 of them.
const SHIFT: u32 = 6;
const WINDOW: u64 = 16 << SHIFT;

/// Sizes and places that lie on, before and behind page ends more often than chance would have it.
fn offset(limit: u64) -> impl Strategy<Value = u64> {
    let page = 1_u64 << SHIFT;
    prop_oneof![
        0..limit,
        (0..limit / page).prop_map(move |n| n * page),
        (0..limit / page, 0..3_u64).prop_map(move |(n, d)| (n * page + d).saturating_sub(1)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let insert = (0..2_usize, offset(WINDOW), prop_oneof![1..20_u64, offset(300)], 0..5_u32, 0..7_usize)
        .prop_map(|(window, start, size, owner, kind)| Step::Insert { window, start, size, owner, kind });
    let remove = (0..2_usize, offset(WINDOW)).prop_map(|(window, address)| Step::Remove { window, address });
    prop_oneof![3 => insert, 2 => remove]
}

type Model<A> = BTreeMap<A, (Extent<A>, Owner)>;

fn model_find<A: Address>(model: &Model<A>, address: A) -> Option<Owner> {
    let (_, (extent, owner)) = model.range(..=address).next_back()?;
    extent.contains(address).then_some(*owner)
}

fn overlaps<A: Address>(model: &Model<A>, extent: Extent<A>) -> bool {
    model.values().any(|(other, _)| extent.contains(other.start) || other.contains(extent.start))
}

/// Runs the steps in windows that begin at `bases`.
fn check<A: Address>(index: &impl AddressIndex<A>, bases: [u64; 2], steps: &[Step]) {
    let mut model = Model::new();
    for &step in steps {
        match step {
            Step::Insert { window, start, size, owner, kind } => {
                let owner = Owner::new(OwnerId::new(owner).unwrap(), MemoryKind::ALL[kind]);
                let start = A::from_u64(bases[window] + start);
                let extent = Extent { start, size: A::from_u64(size) };
                let result = index.insert(extent, owner);
                let top = A::from_u64(bases[window] + (WINDOW - 1));
                match extent.last() {
                    None => assert_eq!(result, Err(IndexError::BadRange), "{extent:x?}"),
                    Some(last) if last > top => assert!(result.is_err() || !overlaps(&model, extent)),
                    Some(_) if overlaps(&model, extent) => assert_eq!(result, Err(IndexError::Overlap)),
                    Some(_) => assert_eq!(result, Ok(())),
                }
                if result.is_ok() {
                    model.insert(start, (extent, owner));
                }
            }
            Step::Remove { window, address } => {
                let address = A::from_u64(bases[window] + address);
                let inside = model.range(..=address).next_back().filter(|(_, (e, _))| e.contains(address));
                let start = inside.map_or(address, |(&start, _)| start);
                assert_eq!(index.remove(start), model.remove(&start));
            }
        }
    }
    assert!(index.iter().eq(model.values().copied()), "ranges in address order");
    let near = |extent: &Extent<A>| {
        let (start, last) = (extent.start.to_u64(), extent.last().unwrap().to_u64());
        [start, start.wrapping_sub(1), last, last.wrapping_add(1), start / 2 + last / 2].map(A::from_u64)
    };
    let everywhere = bases.iter().flat_map(|base| (0..WINDOW).map(move |offset| A::from_u64(base + offset)));
    let probes = model.values().flat_map(|(extent, _)| near(extent)).chain(everywhere);
    for address in probes.chain([A::ZERO, A::MAX]) {
        let expected = model_find(&model, address);
        assert_eq!(index.find(address), expected, "{address:#x}");
        assert_eq!(index.find_text(address), expected.filter(|owner| owner.kind().is_text()));
        let next = model.values().find(|(extent, _)| extent.last() >= Some(address)).copied();
        assert_eq!(index.next(address), next, "{address:#x}");
    }
}

/// Somewhere in the middle of the space, and its last bytes.
fn bases<A: Address>() -> [u64; 2] {
    [A::MAX.to_u64() / 3 * 2 / 4096 * 4096, A::MAX.to_u64() - (WINDOW - 1)]
}

fn windows<A: Address>(form: Form) -> [Window<A>; 2] {
    bases::<A>()
        .map(|base| Window { extent: Extent::new(A::from_u64(base), A::from_u64(WINDOW)).unwrap(), form })
}

fn page_map<A: Address>(form: Form) -> PageMap<A> {
    PageMap::new(&windows(form), SHIFT).unwrap()
}

fn packed_map<A: Address>() -> PackedMap<A> {
    PackedMap::new(&windows(Form::Flat).map(|window| window.extent), SHIFT).unwrap()
}

fn bounded<A: AtomicAddress>() -> Bounded<A, LatchTree<A>, TextData<A, Augmented<A>>> {
    Bounded::new(LatchTree::new(), TextData::new(A::from_u64(bases::<A>()[1]))).unwrap()
}

macro_rules! against_the_model {
    ($($name:ident: $address:ty, $index:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(200))]
            $(
                #[test]
                fn $name(steps in prop::collection::vec(step(), 1..120)) {
                    check::<$address>(&$index, bases::<$address>(), &steps);
                }
            )*
        }
    };
}

against_the_model! {
    a_flat_page_map_agrees: u64, page_map::<u64>(Form::Flat);
    a_two_level_page_map_agrees: u64, page_map::<u64>(Form::TwoLevel);
    a_flat_page_map_of_a_32_bit_space_agrees: u32, page_map::<u32>(Form::Flat);
    a_two_level_page_map_of_a_32_bit_space_agrees: u32, page_map::<u32>(Form::TwoLevel);
    a_latch_tree_of_a_32_bit_space_agrees: u32, LatchTree::<u32>::new();
    a_latch_tree_behind_bounds_of_a_32_bit_space_agrees: u32, bounded::<u32>();
    a_packed_map_agrees: u64, packed_map::<u64>();
    a_packed_map_of_a_32_bit_space_agrees: u32, packed_map::<u32>();
}

// These keep addresses, so that they need atomics as wide.
#[cfg(target_has_atomic = "64")]
against_the_model! {
    a_latch_tree_agrees: u64, LatchTree::<u64>::new();
    a_latch_tree_behind_bounds_agrees: u64, bounded::<u64>();
}

#[test]
fn a_window_can_be_a_whole_32_bit_space() {
    let whole = Window { extent: Extent::new(0_u32, u32::MAX).unwrap(), form: Form::TwoLevel };
    let map = PageMap::new(&[whole], 12).unwrap();
    let owner = Owner::new(OwnerId::new(1).unwrap(), MemoryKind::Text);
    map.insert(Extent::new(0xffff_f000, 0xfff).unwrap(), owner).unwrap();
    map.insert(Extent::new(0, 1).unwrap(), owner).unwrap();
    assert_eq!((map.find(0xffff_fffe), map.find(0xffff_ffff), map.find(0)), (Some(owner), None, Some(owner)));
    assert_eq!(map.iter().count(), 2);
}

/// A 32-bit host has no place for an entry for each page of it.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_window_can_be_a_whole_47_bit_space() {
    let owner = Owner::new(OwnerId::new(1).unwrap(), MemoryKind::Text);
    let user = Window { extent: Extent::new(0, 1_u64 << 47).unwrap(), form: Form::TwoLevel };
    let map = PageMap::new(&[user], 12).unwrap();
    for n in 0..100_u64 {
        map.insert(Extent::new(n * 0x123_4567_89ab, 5000).unwrap(), owner).unwrap();
    }
    assert_eq!(map.iter().count(), 100);
    assert_eq!(map.find(99 * 0x123_4567_89ab + 4999), Some(owner));
    assert_eq!(map.find(99 * 0x123_4567_89ab + 5000), None);
}

#[test]
fn windows_are_refused_where_they_overlap_and_added_while_there_is_room() {
    let window = |start: u64, size| Window { extent: Extent { start, size }, form: Form::TwoLevel };
    let map = PageMap::<u64>::new(&[window(0x1_0000, 0x1_0000)], 12).unwrap();
    let owner = Owner::new(OwnerId::new(1).unwrap(), MemoryKind::Data);
    let there = Extent::new(0x9_0000, 0x1000).unwrap();
    assert_eq!(map.insert(there, owner), Err(IndexError::OutsideWindows));
    assert_eq!(map.add_window(window(0x1_ffff, 1)), Err(IndexError::Overlap));
    assert_eq!(map.add_window(window(0, 0)), Err(IndexError::BadRange));
    assert_eq!(map.add_window(window(u64::MAX, 2)), Err(IndexError::BadRange));
    for n in 2..8 {
        map.add_window(window(n << 28, 0x1_0000)).unwrap();
    }
    assert_eq!(map.add_window(window(10 << 28, 0x1_0000)), Err(IndexError::TooManyWindows));
    // A range lies in one window as a whole.
    let straddles = Extent::new(0x1_f000, 0x2000).unwrap();
    assert_eq!(map.insert(straddles, owner), Err(IndexError::OutsideWindows));
    map.insert(Extent::new(7 << 28, 0x1_0000).unwrap(), owner).unwrap();
    assert_eq!(map.find((7 << 28) + 0xffff), Some(owner));
    assert_eq!(map.find((7 << 28) + 0x1_0000), None);
    assert_eq!(map.find(u64::MAX), None);
}

#[test]
fn the_first_range_behind_an_address_is_found_across_leaves_that_do_not_exist() {
    let window = Window { extent: Extent::new(0, 16_u64 << 20).unwrap(), form: Form::TwoLevel };
    let map = PageMap::new(&[window], 12).unwrap();
    let owner = Owner::new(OwnerId::new(1).unwrap(), MemoryKind::Data);
    let far = Extent::new(4 << 20, 100).unwrap();
    map.insert(far, owner).unwrap();
    for address in [0, 99, 4000, 0x1fff, (4 << 20) + 99] {
        assert_eq!(map.next(address), Some((far, owner)), "{address:#x}");
    }
    assert_eq!(map.next((4 << 20) + 100), None);
}

#[test]
fn the_last_bytes_of_a_whole_64_bit_space_can_be_owned() {
    let window = Window { extent: Extent::new(0, u64::MAX).unwrap(), form: Form::TwoLevel };
    // The directory of so large a window takes 64 MiB of addresses; where there is no room for it, it says so.
    let Ok(map) = PageMap::new(&[window], 15) else { return };
    let owner = Owner::new(OwnerId::new(1).unwrap(), MemoryKind::Data);
    let last = Extent::new(u64::MAX - 99, 100).unwrap();
    map.insert(last, owner).unwrap();
    assert_eq!((map.find(u64::MAX), map.find(u64::MAX - 100)), (Some(owner), None));
    assert_eq!(map.next(u64::MAX), Some((last, owner)));
    assert_eq!(map.remove(last.start), Some((last, owner)));
}
