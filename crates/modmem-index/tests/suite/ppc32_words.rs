//! The case that the founding thread was about, without the recording: a 32-bit PowerPC kernel with module text below
//! lowmem and module data above it. `data/ppc32-6.12.txt` has its 133 loads and 126 unloads and the words that the
//! kernel itself had after each.
#![cfg(not(loom))]

use std::collections::HashMap;

use modmem_index::bounds::{Augmented, Bounded, Linux, Never, PerType, Scan, Scheme, Single, TextData};
use modmem_index::{AddressIndex, Extent, LatchTree, MemoryKind, Owner, OwnerId};

const TABLE: &str = include_str!("../data/ppc32-6.12.txt");

/// Where this kernel's vmalloc begins, which module data comes from.
const DATA_WINDOW: u32 = 0xf100_0000;

struct Step<'t> {
    load: bool,
    module: &'t str,
    sequence: u32,
    root: u32,
    bounds: [u32; 4],
    blocks: Vec<(MemoryKind, Extent<u32>)>,
}

fn hex(word: &str) -> u32 {
    u32::from_str_radix(word, 16).unwrap()
}

fn block(text: &str) -> (MemoryKind, Extent<u32>) {
    let (name, range) = text.split_once(':').unwrap();
    let (start, size) = range.split_once('+').unwrap();
    let kind = MemoryKind::ALL.into_iter().find(|kind| kind.name() == name).unwrap();
    (kind, Extent { start: hex(start), size: hex(size) })
}

fn steps() -> Vec<Step<'static>> {
    let step = |line: &'static str| {
        let mut words = line.split(' ');
        let load = match words.next()? {
            "load" => true,
            "unload" => false,
            _ => return None,
        };
        let module = words.next()?;
        let mut number = || hex(words.next().unwrap());
        let (sequence, root, bounds) = (number(), number(), [(); 4].map(|()| number()));
        Some(Step { load, module, sequence, root, bounds, blocks: words.map(block).collect() })
    };
    TABLE.lines().filter_map(step).collect()
}

type Tree<B> = Bounded<u32, LatchTree<u32>, B>;

/// Loads and unloads all, asks for addresses of what is there after each step, and calls `check`.
fn replay<B: Scheme<u32>>(scheme: B, mut check: impl FnMut(&Step<'_>, &Tree<B>)) {
    let index = Tree::new(LatchTree::new(), scheme).unwrap();
    let mut loaded = HashMap::new();
    let (mut loads, mut unloads) = (0, 0);
    for step in steps() {
        if step.load {
            let id = OwnerId::new(loads).unwrap();
            for &(kind, extent) in &step.blocks {
                index.insert(extent, Owner::new(id, kind)).unwrap();
            }
            let (init, core): (Vec<_>, Vec<_>) = step.blocks.iter().partition(|(kind, _)| kind.is_init());
            for &(kind, extent) in &init {
                assert_eq!(index.remove(extent.start), Some((extent, Owner::new(id, kind))));
            }
            loaded.insert(step.module, (id, core));
            loads += 1;
        } else {
            let (id, core) = loaded.remove(step.module).unwrap();
            for (kind, extent) in core {
                assert_eq!(index.remove(extent.start), Some((extent, Owner::new(id, kind))));
            }
            unloads += 1;
        }
        for (id, core) in loaded.values() {
            for &(kind, extent) in core {
                for address in [extent.start, extent.last().unwrap()] {
                    assert_eq!(index.find(address), Some(Owner::new(*id, kind)));
                }
            }
        }
        check(&step, &index);
    }
    assert_eq!((loads, unloads), (133, 126));
}

#[test]
fn linux_policy_has_the_kernels_four_words_after_every_load_and_unload() {
    replay(Linux::<true>, |step, index| {
        let [(addr_min, addr_max), (data_addr_min, data_addr_max)] =
            [0, 1].map(|pair| index.pairs()[pair].words());
        assert_eq!([addr_min, addr_max, data_addr_min, data_addr_max], step.bounds, "{}", step.module);
    });
}

#[test]
fn latch_tree_has_the_kernels_sequence_and_root_after_every_load_and_unload() {
    replay(Single::<Never>::new(), |step, index| {
        assert_eq!(index.index().sequence(), step.sequence as usize, "{}", step.module);
        assert_eq!(index.index().root().map(|(extent, _)| extent.start), Some(step.root), "{}", step.module);
    });
}

/// How many of Leroy's addresses are admitted, kernel text and lowmem between the two windows; counted by pages.
fn admitted_in_gap<B: Scheme<u32>>(index: &Tree<B>) -> u32 {
    let pages = (0xc000_0000..=0xefff_ffff_u32).step_by(0x1000);
    pages.filter(|&page| index.admits(page) && index.admits(page + 0xfff)).count() as u32 * 0x1000
}

/// The addresses of the gap that are admitted after the last load and after the last unload.
fn gap<B: Scheme<u32>>(scheme: B) -> [u32; 2] {
    let mut admitted = [0; 2];
    let mut steps = 0;
    replay(scheme, |_, index| {
        steps += 1;
        match steps {
            133 => admitted[0] = admitted_in_gap(index),
            259 => admitted[1] = admitted_in_gap(index),
            _ => {}
        }
    });
    let none_or_all = |admitted| [0, 0x3000_0000].contains(admitted);
    assert!(admitted.iter().all(none_or_all));
    admitted
}

#[test]
fn text_data_admits_no_address_of_the_gap_and_linux_all() {
    let of_table = |policy: &str| {
        let line = TABLE.lines().find_map(|line| line.strip_prefix("gap ")?.strip_prefix(policy));
        let [loaded, unloaded] = line.unwrap().split_whitespace().map(hex).collect::<Vec<_>>()[..] else {
            panic!("{policy}")
        };
        [loaded, unloaded]
    };
    let (none, all) = ([0; 2], [0x3000_0000; 2]);
    assert_eq!((gap(Linux::<true>), of_table("Linux")), (all, all));
    assert_eq!((gap(TextData::<u32, Never>::new(DATA_WINDOW)), of_table("TextData")), (none, none));
    assert_eq!((gap(Single::<Augmented<u32>>::new()), of_table("Single")), (all, all));
    assert_eq!((gap(PerType::<Never>::new()), of_table("PerType")), (none, none));
}

#[test]
fn scan_and_heaps_agree_on_the_bounds_and_shrink_them_by_little() {
    fn bounds<B: Scheme<u32>>(scheme: B) -> Vec<Vec<(u32, u32)>> {
        let mut all = Vec::new();
        replay(scheme, |_, index| all.push(index.pairs().iter().map(|pair| pair.words()).collect()));
        all
    }
    let scanned = bounds(TextData::<u32, Scan>::new(DATA_WINDOW));
    assert_eq!(scanned, bounds(TextData::<u32, Augmented<u32>>::new(DATA_WINDOW)));
    assert_eq!(bounds(PerType::<Scan>::new()), bounds(PerType::<Augmented<u32>>::new()));
    // What the thread argued about is worth little here: of 126 modules that went, hardly any lay at an end.
    assert_eq!(scanned[132], [(0xbe61_c000, 0xbeca_2fff), (0xf102_0000, 0xf1d2_dfff)]);
    assert_eq!(scanned[258], [(0xbe61_c000, 0xbeb7_dfff), (0xf103_9000, 0xf1c9_9fff)]);
}
