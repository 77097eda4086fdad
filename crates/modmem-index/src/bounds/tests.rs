use alloc::vec::Vec;

use super::*;
use crate::{Address, LatchTree, MemoryKind, OwnerId};

/// The widest addresses that the host can read while they are written.
#[cfg(target_has_atomic = "64")]
type Wide = u64;
#[cfg(not(target_has_atomic = "64"))]
type Wide = u32;

fn owner(number: u32, kind: MemoryKind) -> Owner {
    Owner::new(OwnerId::new(number).unwrap(), kind)
}

fn extent<A: Address>(start: u64, size: u64) -> Extent<A> {
    Extent { start: A::from_u64(start), size: A::from_u64(size) }
}

/// What bounds are made of: the ranges that are there, and those that ever were.
#[derive(Default)]
struct Model<A> {
    present: Vec<(Extent<A>, Owner)>,
    ever: Vec<(Extent<A>, MemoryKind)>,
}

/// Lowest start and highest last address of those ranges that are of that pair.
fn naive<A: AtomicAddress>(pair: usize, of: PairOf<A>, ranges: &[(Extent<A>, MemoryKind)]) -> (A, A) {
    let of_pair = ranges.iter().filter(|&&(extent, kind)| of(extent, kind) == pair);
    of_pair
        .fold(Pair::EMPTY, |(min, max), (extent, _)| (min.min(extent.start), max.max(extent.last().unwrap())))
}

fn words<A: AtomicAddress, I: AddressIndex<A>, B: Scheme<A>>(bounded: &Bounded<A, I, B>) -> Vec<(A, A)> {
    bounded.pairs().iter().map(Pair::words).collect()
}

/// Random loads and unloads below and at the top of the space, in two windows; after each, `expected` says the words.
fn churn<A: AtomicAddress, B: Scheme<A>>(scheme: B, expected: impl Fn(&Model<A>) -> Vec<(A, A)>) {
    let bounded = Bounded::new(LatchTree::<A>::new(), scheme).unwrap();
    let mut model = Model { present: Vec::new(), ever: Vec::new() };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let top = A::MAX.to_u64();
    assert_eq!(words(&bounded), expected(&model));
    for round in 0..4_000 {
        let window = if random(2) == 0 { top / 2 } else { top - 63 * 100 - 99 };
        let (start, size) = (window + random(64) * 100, 1 + random(140));
        let kind = MemoryKind::ALL[random(7) as usize];
        if random(100) < if round / 200 % 2 == 0 { 60 } else { 35 } {
            let (extent, owner) = (extent::<A>(start, size), owner(round, kind));
            let before = words(&bounded);
            let result = bounded.insert(extent, owner);
            let overlap = |last: A| {
                model
                    .present
                    .iter()
                    .any(|(other, _)| other.start <= last && extent.start <= other.last().unwrap())
            };
            match extent.last() {
                None => assert_eq!((result, &words(&bounded)), (Err(IndexError::BadRange), &before)),
                Some(last) if overlap(last) => {
                    assert_eq!(result, Err(IndexError::Overlap));
                    if B::UNDOES_FAILURES {
                        assert_eq!(words(&bounded), before, "a failed insertion moved a bound");
                    } else {
                        model.ever.push((extent, kind));
                    }
                }
                Some(_) => {
                    assert_eq!(result, Ok(()));
                    model.present.push((extent, owner));
                    model.ever.push((extent, kind));
                }
            }
        } else if !model.present.is_empty() {
            let entry = model.present.swap_remove(random(model.present.len() as u64) as usize);
            assert_eq!(bounded.remove(entry.0.start), Some(entry));
        }
        assert_eq!(words(&bounded), expected(&model));
        for &(extent, owner) in &model.present {
            for address in [extent.start, extent.last().unwrap()] {
                assert!(bounded.admits(address));
                assert_eq!(bounded.find(address), Some(owner));
            }
        }
        let address = A::from_u64(window + random(6_400));
        let found =
            model.present.iter().find(|(extent, _)| extent.contains(address)).map(|&(_, owner)| owner);
        assert_eq!(bounded.find(address), found);
        assert_eq!(bounded.find_text(address), found.filter(|owner| owner.kind().is_text()));
    }
    assert!(model.ever.len() > 1_000);
}

/// The pair of a range: what a scheme decides, written down once more.
type PairOf<A> = fn(Extent<A>, MemoryKind) -> usize;

/// The words of all pairs when they are exact.
fn exact<A: AtomicAddress>(pairs: usize, of: PairOf<A>) -> impl Fn(&Model<A>) -> Vec<(A, A)> {
    move |model| {
        let ranges: Vec<_> = model.present.iter().map(|&(extent, owner)| (extent, owner.kind())).collect();
        (0..pairs).map(|pair| naive(pair, of, &ranges)).collect()
    }
}

/// The words of all pairs when they never shrink.
fn widest<A: AtomicAddress>(pairs: usize, of: PairOf<A>) -> impl Fn(&Model<A>) -> Vec<(A, A)> {
    move |model| (0..pairs).map(|pair| naive(pair, of, &model.ever)).collect()
}

/// The middle of the upper half: between the windows of `churn`.
fn boundary<A: AtomicAddress>() -> A {
    A::from_u64(A::MAX.to_u64() / 4 * 3)
}

fn by_window<A: AtomicAddress>(extent: Extent<A>, _: MemoryKind) -> usize {
    usize::from(extent.start >= boundary())
}

fn by_kind<A>(_: Extent<A>, kind: MemoryKind) -> usize {
    MemoryKind::ALL.iter().position(|&other| other == kind).unwrap()
}

#[test]
fn bounds_are_exact_after_every_removal_with_scan_and_with_heaps() {
    churn::<u32, _>(Single::<Scan>::new(), exact(1, |_, _| 0));
    churn::<Wide, _>(Single::<Augmented<Wide>>::new(), exact(1, |_, _| 0));
    churn::<u32, _>(TextData::<u32, Scan>::new(boundary()), exact(2, by_window));
    churn::<u32, _>(TextData::<u32, Augmented<u32>>::new(boundary()), exact(2, by_window));
    churn::<Wide, _>(PerType::<Scan>::new(), exact(7, by_kind));
    churn::<u32, _>(PerType::<Augmented<u32>>::new(), exact(7, by_kind));
}

#[test]
fn bounds_that_never_shrink_are_those_of_all_that_ever_was() {
    churn::<Wide, _>(Single::<Never>::new(), widest(1, |_, _| 0));
    churn::<u32, _>(TextData::<u32>::new(boundary()), widest(2, by_window));
    churn::<u32, _>(PerType::<Never>::new(), widest(7, by_kind));
}

/// The words of Linux, written down once more, as its source has them.
fn linux<A: AtomicAddress>(model: &Model<A>, data_in_vmalloc: bool) -> Vec<(A, A)> {
    let (mut addr_min, mut addr_max, mut data_addr_min, mut data_addr_max) =
        (A::MAX, A::ZERO, A::ZERO, A::ZERO);
    for &(extent, kind) in &model.ever {
        let base = extent.start;
        let end = base.checked_add(extent.size).unwrap_or(A::MAX);
        let core_data = [MemoryKind::Data, MemoryKind::RoData, MemoryKind::RoAfterInit].contains(&kind);
        if data_in_vmalloc && core_data {
            (data_addr_min, data_addr_max) = (data_addr_min.min(base), data_addr_max.max(end));
        } else {
            (addr_min, addr_max) = (addr_min.min(base), addr_max.max(end));
        }
    }
    match data_in_vmalloc {
        true => alloc::vec![(addr_min, addr_max), (data_addr_min, data_addr_max)],
        false => alloc::vec![(addr_min, addr_max)],
    }
}

#[test]
fn linux_has_one_pair_too_low_and_one_too_high_and_keeps_them() {
    churn::<u32, _>(Linux::<true>, |model| linux(model, true));
    churn::<Wide, _>(Linux::<true>, |model| linux(model, true));
    churn::<u32, _>(Linux::<false>, |model| linux(model, false));
}

#[test]
fn init_data_in_the_data_window_leaves_the_gap_alone_but_not_in_linux() {
    let (text, init_data) = (extent::<u32>(0xbe61_c000, 0x3000), extent::<u32>(0xf104_a000, 0x2000));
    let (blocks, gap) = ([(text, MemoryKind::Text), (init_data, MemoryKind::InitData)], 0xc000_0000);
    let ours = Bounded::new(LatchTree::new(), TextData::<u32, Scan>::new(0xf000_0000)).unwrap();
    load(&ours, blocks);
    assert!(!ours.admits(gap));
    ours.remove(init_data.start).unwrap();
    assert_eq!(words(&ours)[1], Pair::EMPTY);

    let linux = Bounded::new(LatchTree::new(), Linux::<true>).unwrap();
    load(&linux, blocks);
    assert!(linux.admits(gap));
    linux.remove(init_data.start).unwrap();
    assert!(linux.admits(gap));
    assert_eq!(words(&linux), [(0xbe61_c000, 0xf104_c000), (0, 0)]);
}

fn load<B: Scheme<u32>>(bounded: &Bounded<u32, LatchTree<u32>, B>, blocks: [(Extent<u32>, MemoryKind); 2]) {
    for (extent, kind) in blocks {
        bounded.insert(extent, owner(1, kind)).unwrap();
    }
}

/// An index without any memory.
#[derive(Debug)]
struct Full;

impl AddressIndex<u32> for Full {
    fn insert(&self, _: Extent<u32>, _: Owner) -> Result<(), IndexError> {
        Err(IndexError::OutOfMemory)
    }
    fn remove(&self, _: u32) -> Option<(Extent<u32>, Owner)> {
        None
    }
    fn find(&self, _: u32) -> Option<Owner> {
        None
    }
    fn next(&self, _: u32) -> Option<(Extent<u32>, Owner)> {
        None
    }
}

#[test]
fn a_load_that_fails_leaves_no_bound_moved_but_in_linux() {
    let ours = Bounded::new(Full, Single::<Augmented<u32>>::new()).unwrap();
    assert_eq!(ours.insert(extent(0x1000, 0x1000), owner(1, MemoryKind::Data)), Err(IndexError::OutOfMemory));
    assert_eq!(words(&ours), [Pair::EMPTY]);
    let linux = Bounded::new(Full, Linux::<true>).unwrap();
    assert_eq!(
        linux.insert(extent(0x1000, 0x1000), owner(1, MemoryKind::Data)),
        Err(IndexError::OutOfMemory)
    );
    assert_eq!(words(&linux), [(u32::MAX, 0), (0, 0x2000)]);
}

#[test]
fn ranges_that_an_index_holds_already_are_admitted_and_followed() {
    let index = LatchTree::<u32>::new();
    index.insert(extent(0x1000, 16), owner(1, MemoryKind::Text)).unwrap();
    index.insert(extent(0x3000, 16), owner(2, MemoryKind::Text)).unwrap();
    let bounded = Bounded::new(index, Single::<Augmented<u32>>::new()).unwrap();
    assert_eq!(words(&bounded), [(0x1000, 0x300f)]);
    bounded.remove(0x1000).unwrap();
    assert_eq!(words(&bounded), [(0x3000, 0x300f)]);
}

#[test]
fn heaps_do_not_grow_while_ranges_come_and_go_behind_one_that_stays() {
    let bounded = Bounded::new(LatchTree::<Wide>::new(), Single::<Augmented<Wide>>::new()).unwrap();
    bounded.insert(extent(0, 1), owner(1, MemoryKind::Data)).unwrap();
    bounded.insert(extent(Wide::MAX.to_u64(), 1), owner(2, MemoryKind::Data)).unwrap();
    for number in 1..10_000_u32 {
        bounded.insert(extent(u64::from(number) * 16, 16), owner(number, MemoryKind::Data)).unwrap();
        bounded.remove(Wide::from(number) * 16).unwrap();
    }
    assert!(bounded.memory_bytes() < 1_000, "{}", bounded.memory_bytes());
}

#[cfg(target_has_atomic = "64")]
#[test]
fn a_pair_for_each_type_takes_two_cache_lines_and_the_others_one() {
    type Of<B> = Bounded<u64, LatchTree<u64>, B>;
    assert_eq!((Of::<PerType>::BOUNDS_BYTES, Of::<PerType>::BOUNDS_LINES), (112, 2));
    assert_eq!((Of::<TextData<u64>>::BOUNDS_BYTES, Of::<TextData<u64>>::BOUNDS_LINES), (32, 1));
    assert_eq!((Of::<Linux>::BOUNDS_BYTES, Of::<Linux>::BOUNDS_LINES), (32, 1));
    assert_eq!((Of::<Single>::BOUNDS_BYTES, Of::<Single>::BOUNDS_LINES), (16, 1));
    assert_eq!(Bounded::<u32, LatchTree<u32>, PerType>::BOUNDS_LINES, 1);
    assert_eq!(align_of::<Of<PerType>>(), 64);
}

#[test]
fn a_range_that_stays_is_found_while_bounds_move_to_and_fro() {
    extern crate std;
    use crate::sync::{AtomicBool, Ordering};

    let bounded = Bounded::new(LatchTree::<Wide>::new(), Single::<Augmented<Wide>>::new()).unwrap();
    let stays = owner(1, MemoryKind::Text);
    bounded.insert(extent(5_000, 100), stays).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!([5_000, 5_099].map(|address| bounded.find(address)), [Some(stays); 2]);
                assert_eq!(bounded.find(4_999), None);
            }
        });
        for round in 0..50_000 as Wide {
            let start = if round % 2 == 0 { round % 4_000 } else { 6_000 + round % 4_000 };
            bounded.insert(extent(start.to_u64(), 10), owner(2, MemoryKind::Data)).unwrap();
            bounded.remove(start).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(words(&bounded), [(5_000, 5_099)]);
}
