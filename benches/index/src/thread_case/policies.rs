//! Structures and the bounds in front of them.

use modmem_index::bounds::{Augmented, Bounded, Linux, Never, PerType, Scan, Scheme, Single, TextData};
use modmem_index::{AddressIndex, Extent, Form, LatchTree, Owner, PageMap, Window};

use crate::timing::{Contender, Lookup};

/// The windows that ppc32 declares: modules, and vmalloc.
const WINDOWS: [Extent<u32>; 2] =
    [Extent { start: 0xbc00_0000, size: 0x0400_0000 }, Extent { start: 0xf100_0000, size: 0x0e33_2000 }];
/// Pairs of bounds in a cache line: two addresses of 8 bytes each in one of 64, or of 4 in one of 32 as on that machine.
const PAIRS_IN_LINE: usize = 4;

/// A structure and what turns addresses away from it.
pub(super) struct Policy {
    pub(super) name: &'static str,
    pub(super) index: Box<dyn Guarded>,
}

/// An index of 32-bit addresses, with or without bounds.
pub(super) trait Guarded {
    fn insert(&self, extent: Extent<u32>, owner: Owner);
    fn remove(&self, start: u32);
    /// The number of the owner, 0 for nobody.
    fn owner(&self, address: u32) -> u32;
    fn contender(&self) -> &dyn Contender;
    /// Whether a lookup of the address enters the structure.
    fn enters(&self, address: u32) -> bool;
    /// How many cache lines of bounds a lookup of the address reads.
    fn lines(&self, address: u32) -> usize;
}

/// All policies, with nothing in them, in the order of the tables.
pub(super) fn all() -> Vec<Policy> {
    let upper = WINDOWS[1].start;
    vec![
        Policy { name: "no bounds", index: Box::new(Index(LatchTree::new())) },
        bounded("`Linux`", Linux::<true>),
        bounded("`Single`, `Never`", Single::<Never>::new()),
        bounded("`Single`, `Scan`", Single::<Scan>::new()),
        bounded("`Single`, `Augmented`", Single::<Augmented<u32>>::new()),
        bounded("`TextData`, `Never`", TextData::<u32, Never>::new(upper)),
        bounded("`TextData`, `Scan`", TextData::<u32, Scan>::new(upper)),
        bounded("`TextData`, `Augmented`", TextData::<u32, Augmented<u32>>::new(upper)),
        bounded("`PerType`, `Never`", PerType::<Never>::new()),
        bounded("`PerType`, `Scan`", PerType::<Scan>::new()),
        bounded("`PerType`, `Augmented`", PerType::<Augmented<u32>>::new()),
        Policy { name: "PageMap, its windows", index: Box::new(Index(page_map())) },
    ]
}

fn bounded<B: Scheme<u32> + Sync + 'static>(name: &'static str, scheme: B) -> Policy
where
    B::Pairs: Sync,
    B::Removal: Send,
{
    let index = Bounded::new(LatchTree::new(), scheme).expect("nothing is in it yet");
    Policy { name, index: Box::new(Index(index)) }
}

fn page_map() -> PageMap<u32> {
    let windows = WINDOWS.map(|extent| Window { extent, form: Form::Flat });
    PageMap::new(&windows, 12).expect("memory for the windows")
}

struct Index<I>(I);

impl<I: AddressIndex<u32> + Sync> Lookup for Index<I> {
    #[inline]
    fn find(&self, address: u64) -> u32 {
        self.0.find(address as u32).map_or(0, |owner| owner.id().number())
    }
}

/// What is in front of a structure.
trait Front {
    /// Whether a lookup of the address goes on, and how many pairs of bounds were read to know that.
    fn judge(&self, address: u32) -> (bool, usize);
}

impl Front for LatchTree<u32> {
    fn judge(&self, _address: u32) -> (bool, usize) {
        (true, 0)
    }
}

impl Front for PageMap<u32> {
    fn judge(&self, address: u32) -> (bool, usize) {
        (WINDOWS.iter().any(|window| window.contains(address)), 0)
    }
}

impl<B: Scheme<u32>> Front for Bounded<u32, LatchTree<u32>, B> {
    fn judge(&self, address: u32) -> (bool, usize) {
        let pairs = self.pairs();
        match pairs.iter().position(|pair| pair.admits(address)) {
            Some(place) => (true, place + 1),
            None => (false, pairs.len()),
        }
    }
}

impl<I: AddressIndex<u32> + Front + Sync> Guarded for Index<I> {
    fn insert(&self, extent: Extent<u32>, owner: Owner) {
        self.0.insert(extent, owner).expect("what was recorded can be inserted");
    }

    fn remove(&self, start: u32) {
        self.0.remove(start).expect("what was recorded was inserted");
    }

    fn owner(&self, address: u32) -> u32 {
        Lookup::find(self, address.into())
    }

    fn contender(&self) -> &dyn Contender {
        self
    }

    fn enters(&self, address: u32) -> bool {
        self.0.judge(address).0
    }

    fn lines(&self, address: u32) -> usize {
        self.0.judge(address).1.div_ceil(PAIRS_IN_LINE)
    }
}
