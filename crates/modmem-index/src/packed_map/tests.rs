//! Ends of blocks, of windows and of memory, and both widths of words against a naive model.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::PackedMap;
use super::map::Map;
use super::word::Word;
use crate::address::Address;
use crate::{AddressIndex, Extent, IndexError, MemoryKind, Owner, OwnerId};

/// Pages of 16 bytes.
const SHIFT: u32 = 4;
const PAGE: u64 = 1 << SHIFT;

fn owner(number: u32) -> Owner {
    Owner::new(OwnerId::new(number).unwrap(), MemoryKind::RoData)
}

fn pages(first: u64, count: u64) -> Extent<u64> {
    Extent::new(first * PAGE, count * PAGE).unwrap()
}

/// A map of so many pages from address 0 on.
fn map(pages: u64) -> PackedMap<u64> {
    PackedMap::new(&[Extent::new(0, pages * PAGE).unwrap()], SHIFT).unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn ranges_begin_and_end_at_every_place_of_a_block() {
    for first in 0..70 {
        for count in [1, 2, 31, 32, 33, 64, 65, 100] {
            let map = map(200);
            map.insert(pages(first, count), owner(1)).unwrap();
            for page in 0..200 {
                let inside = page >= first && page < first + count;
                assert_eq!(map.find(page * PAGE + 7), inside.then_some(owner(1)), "{first}+{count}: {page}");
                let next = (page < first + count).then_some((pages(first, count), owner(1)));
                assert_eq!(map.next(page * PAGE), next);
            }
            assert_eq!(map.remove((first + 1) * PAGE), None);
            assert_eq!(map.remove(first * PAGE), Some((pages(first, count), owner(1))));
            assert!(map.iter().next().is_none() && map.find(first * PAGE).is_none());
        }
    }
}

#[test]
fn adjacent_ranges_of_one_owner_stay_apart_and_go_in_any_order() {
    // Within a block, at its ends, and in parts of pages.
    let extents = [
        pages(20, 5),
        pages(25, 7),
        pages(32, 40),
        Extent::new(72 * PAGE, 5).unwrap(),
        Extent::new(72 * PAGE + 5, 20).unwrap(),
        Extent::new(73 * PAGE + 9, 40).unwrap(),
    ];
    let last = extents[5].last().unwrap();
    for seed in 0..300 {
        let (map, mut random) = (map(100), Random(seed));
        let mut absent = Vec::from(extents);
        let mut present = Vec::new();
        while !absent.is_empty() {
            let extent = absent.swap_remove(random.below(absent.len() as u64) as usize);
            map.insert(extent, owner(1)).unwrap();
            assert_eq!(map.insert(extent, owner(2)), Err(IndexError::Overlap));
            present.push(extent);
        }
        assert!(map.iter().map(|(extent, _)| extent).eq(extents));
        while !present.is_empty() {
            let extent = present.swap_remove(random.below(present.len() as u64) as usize);
            assert_eq!(map.remove(extent.start), Some((extent, owner(1))));
            for address in extents[0].start - 1..=last + 1 {
                let expected = present.iter().any(|extent| extent.contains(address)).then_some(owner(1));
                assert_eq!(map.find(address), expected, "{address:#x}");
            }
        }
    }
}

#[test]
fn nothing_is_inserted_outside_of_windows_or_across_two_of_them() {
    let window = |start, size| Extent { start, size };
    let map =
        PackedMap::new(&[window(0x1000_u64, 0x800), window(0x1800, 0x800), window(0x4008, 0x10)], SHIFT);
    let map = map.unwrap();
    let refused =
        |start, size| assert_eq!(map.insert(window(start, size), owner(1)), Err(IndexError::OutsideWindows));
    refused(0xfff, 1);
    refused(0xff0, 0x20);
    refused(0x17f0, 0x20);
    refused(0x1ff0, 0x11);
    refused(0x4020, 1);
    assert_eq!(map.insert(window(0x1000, 0), owner(1)), Err(IndexError::BadRange));
    assert_eq!(map.insert(window(u64::MAX, 2), owner(1)), Err(IndexError::BadRange));
    assert!(map.iter().next().is_none());
    // The third window reaches over two pages that it covers in part.
    for (start, size) in [(0x17f0, 0x10), (0x1800, 0x800), (0x4000, 0x20)] {
        map.insert(window(start, size), owner(2)).unwrap();
        assert_eq!((map.find(start - 1).is_some(), map.find(start)), (start == 0x1800, Some(owner(2))));
    }
    assert_eq!(map.iter().count(), 3);
    assert_eq!(map.find(0x4020), None);

    let fails = |windows: &[Extent<u64>]| PackedMap::new(windows, SHIFT).err();
    assert_eq!(fails(&[window(0, 0)]), Some(IndexError::BadRange));
    assert_eq!(fails(&[window(u64::MAX, 2)]), Some(IndexError::BadRange));
    assert_eq!(fails(&[window(0x1008, 8), window(0x1000, 8)]), Some(IndexError::Overlap));
    let nine: Vec<_> = (0..9).map(|n| window(n << 12, 0x1000)).collect();
    assert_eq!(fails(&nine), Some(IndexError::TooManyWindows));
    let eight = PackedMap::new(&nine[..8], SHIFT).unwrap();
    eight.insert(window(0x7ff0, 0x10), owner(3)).unwrap();
    assert_eq!((eight.find(0x7fff), eight.find(0x8000)), (Some(owner(3)), None));
}

#[test]
fn a_range_can_end_with_the_last_address_of_the_space() {
    let top = Extent::new(u32::MAX - 0xff, 0x100).unwrap();
    let map = PackedMap::new(&[top], SHIFT).unwrap();
    let (whole, part) = (Extent::new(u32::MAX - 0x2f, 0x20).unwrap(), Extent::new(u32::MAX - 6, 7).unwrap());
    for extent in [whole, part] {
        map.insert(extent, owner(extent.size)).unwrap();
    }
    assert_eq!((map.find(u32::MAX), map.find(0)), (Some(owner(7)), None));
    assert_eq!(map.iter().collect::<Vec<_>>(), [(whole, owner(0x20)), (part, owner(7))]);
    assert_eq!(map.next(u32::MAX), Some((part, owner(7))));
    assert_eq!(map.remove(part.start), Some((part, owner(7))));
    assert_eq!((map.find(u32::MAX), map.next(u32::MAX)), (None, None));
}

#[test]
fn values_that_the_first_array_has_no_room_for_are_found_too() {
    let map = map(4096);
    for page in (0..4096).step_by(2) {
        map.insert(pages(page, 1), owner(page as u32)).unwrap();
    }
    for page in 0..4096_u64 {
        let expected = page.is_multiple_of(2).then_some(owner(page as u32));
        assert_eq!(map.find(page * PAGE), expected);
    }
    assert_eq!(map.iter().count(), 2048);
}

#[test]
fn an_insertion_that_finds_no_memory_changes_nothing_and_a_removal_needs_none() {
    // A narrow word cannot name more than 65,536 runs: memory that ends.
    let map: Map<u32, u32> = Map::new(&[Extent::new(0, 1 << 24).unwrap()], SHIFT).unwrap();
    let page = |n: u32| Extent::new(n << SHIFT, 1 << SHIFT).unwrap();
    let all = |range: core::ops::Range<u32>| range.step_by(4);
    let count = all(0..1 << 20).take_while(|&n| map.insert_range(page(n), owner(n)).is_ok()).count() as u32;
    assert!(count > 10_000 && count < 1 << 18, "{count}");
    // Many blocks, of which some could be cut; and two pages at the ends that would need records.
    let free = count * 4;
    let large = Extent::new((free + 1) << SHIFT | 3, (1 << 24) - ((free + 2) << SHIFT)).unwrap();
    assert_eq!(map.insert_range(large, owner(1)), Err(IndexError::OutOfMemory));
    assert_eq!(map.insert_range(page(free), owner(1)), Err(IndexError::OutOfMemory));
    for n in (0..free).step_by(3) {
        assert_eq!(map.find(n << SHIFT), n.is_multiple_of(4).then_some(owner(n)));
    }
    assert_eq!(map.next_range(free << SHIFT), None);
    for n in all(0..free) {
        assert_eq!(map.remove_range(n << SHIFT), Some((page(n), owner(n))));
    }
    assert_eq!(map.next_range(0), None);
    map.insert_range(page(free), owner(1)).unwrap();
}

#[test]
fn ranges_that_come_and_go_for_ever_do_not_use_up_memory() {
    let map = map(1 << 14);
    let mut random = Random(1);
    let mut live = Vec::new();
    let mut highest = 0;
    for round in 0..60_000 {
        let extent = pages(random.below((1 << 14) - 12), 1 + random.below(12));
        if map.insert(extent, owner(1)).is_ok() {
            live.push(extent);
        }
        if live.len() > 700 {
            let gone = live.swap_remove(random.below(live.len() as u64) as usize);
            assert_eq!(map.remove(gone.start), Some((gone, owner(1))));
        }
        if round == 10_000 {
            highest = map.resident_bytes();
        }
    }
    assert!(map.resident_bytes() <= highest * 5 / 4, "{} after {highest}", map.resident_bytes());
}

#[test]
fn a_module_of_seven_memories_costs_about_a_hundred_bytes() {
    let windows = [(0xffff_ffff_c000_0000_u64, 440_u64), (0xffff_c900_0000_0000, 1100)];
    let map =
        PackedMap::new(&windows.map(|(start, mib)| Extent::new(start, mib << 20).unwrap()), 12).unwrap();
    let mut random = Random(1);
    let mut free = windows.map(|(start, _)| start);
    for module in 0..4286 {
        for kind in MemoryKind::ALL {
            let free = &mut free[usize::from(!kind.is_text())];
            let extent = Extent::new(*free, (1 + random.below(23)) << 12).unwrap();
            *free += extent.size + 0x1000;
            map.insert(extent, Owner::new(OwnerId::new(module).unwrap(), kind)).unwrap();
        }
    }
    assert_eq!(map.iter().count(), 30_002);
    // Blocks of 16 pages cost more.
    let (resident, asked_for) = if cfg!(target_has_atomic = "64") { (106, 120) } else { (121, 135) };
    let bytes = map.resident_bytes() / 4286;
    assert!(bytes <= resident, "{bytes}");
    let bytes = map.memory_bytes() / 4286;
    assert!(bytes <= asked_for, "{bytes}");
}

/// Random insertions and removals in two windows, the second of which ends with the space; every answer compared.
fn agrees_with_a_naive_model<A: Address, W: Word>(seed: u64) {
    let lengths = [70 * PAGE, 45 * PAGE];
    let bases = [A::MAX.to_u64() / 3 / PAGE * PAGE, A::MAX.to_u64() - (lengths[1] - 1)];
    let window = |n: usize| Extent::new(A::from_u64(bases[n]), A::from_u64(lengths[n])).unwrap();
    let map: Map<A, W> = Map::new(&[window(0), window(1)], SHIFT).unwrap();
    let mut model = BTreeMap::<A, (Extent<A>, Owner)>::new();
    let mut random = Random(seed);
    for step in 0..400 {
        let n = random.below(2) as usize;
        let at = random.below(lengths[n]);
        if random.below(5) < 3 {
            // Half of them of whole pages.
            let (start, size) = match random.below(2) {
                0 => (at, 1 + random.below(3 * PAGE)),
                _ => (at / PAGE * PAGE, (1 + random.below(8) * random.below(8)) * PAGE),
            };
            let size = size.min(lengths[n] - start);
            let extent = Extent::new(A::from_u64(bases[n] + start), A::from_u64(size)).unwrap();
            let overlaps = model.values().any(|(e, _)| e.contains(extent.start) || extent.contains(e.start));
            let owner = owner(random.below(3) as u32);
            let expected = if overlaps { Err(IndexError::Overlap) } else { Ok(()) };
            assert_eq!(map.insert_range(extent, owner), expected);
            if !overlaps {
                model.insert(extent.start, (extent, owner));
            }
        } else {
            let address = A::from_u64(bases[n] + at);
            let before = model.range(..=address).next_back();
            let start = before
                .filter(|(_, (extent, _))| extent.contains(address))
                .map_or(address, |(&start, _)| start);
            assert_eq!(map.remove_range(start), model.remove(&start));
        }
        if step % 20 != 0 {
            continue;
        }
        for (base, length) in bases.into_iter().zip(lengths) {
            for address in (0..length).map(|offset| A::from_u64(base + offset)) {
                let before = model.range(..=address).next_back();
                let expected =
                    before.filter(|(_, (extent, _))| extent.contains(address)).map(|(_, &(_, owner))| owner);
                assert_eq!(map.find(address), expected, "{address:#x}");
                let (page, block) = map.block_of(address).unwrap();
                assert_eq!(map.find_holding(block, page, address), expected, "{address:#x}");
                let next = model.values().find(|(extent, _)| extent.last() >= Some(address)).copied();
                assert_eq!(map.next_range(address), next, "{address:#x}");
            }
        }
    }
}

#[test]
fn narrow_words_agree_with_a_naive_model() {
    (0..40).for_each(agrees_with_a_naive_model::<u32, u32>);
    (0..10).for_each(agrees_with_a_naive_model::<u64, u32>);
}

#[test]
#[cfg(target_has_atomic = "64")]
fn wide_words_agree_with_a_naive_model() {
    (0..40).for_each(agrees_with_a_naive_model::<u64, u64>);
    (0..10).for_each(agrees_with_a_naive_model::<u32, u64>);
}
