//! modmem's own structures.

use modmem_index::bounds::{Bounded, Linux, Scheme};
use modmem_index::{AddressIndex, Extent, Form, LatchTree, Owner, PackedMap, PageMap, Window};

use crate::timing::{Contender, Lookup, Writer};
use crate::workload::{PAGE, Workload};

/// Anything that implements the library's trait.
pub(crate) struct Own<I>(pub(crate) I);

impl<I: AddressIndex<u64> + Sync> Lookup for Own<I> {
    #[inline]
    fn find(&self, address: u64) -> u32 {
        self.0.find(address).map_or(0, |owner| owner.id().number())
    }

    fn writer(&self) -> Option<&dyn Writer> {
        Some(self)
    }
}

impl<I: AddressIndex<u64> + Sync> Writer for Own<I> {
    fn insert(&self, extent: Extent<u64>, owner: Owner) {
        self.0.insert(extent, owner).expect("a workload's ranges can be inserted");
    }

    fn remove(&self, start: u64) {
        self.0.remove(start).expect("the range is there");
    }
}

pub(super) fn filled<I: AddressIndex<u64> + Sync>(index: I, workload: &Workload) -> Own<I> {
    let own = Own(index);
    for range in workload.in_load_order() {
        own.insert(range.extent, range.owner);
    }
    own
}

/// All of `__module_address`, with a second pair of bounds where data has a window of its own.
pub(super) fn module_address(workload: &Workload) -> Box<dyn Contender> {
    fn behind<B: Scheme<u64> + Sync + 'static>(scheme: B, workload: &Workload) -> Box<dyn Contender>
    where
        B::Pairs: Sync,
        B::Removal: Send,
    {
        let index = Bounded::new(LatchTree::new(), scheme).expect("nothing is in it yet");
        Box::new(filled(index, workload))
    }
    match workload.windows.len() {
        1 => behind(Linux::<false>, workload),
        _ => behind(Linux::<true>, workload),
    }
}

pub(super) fn page_map(workload: &Workload, form: Form) -> Own<PageMap<u64>> {
    let windows: Vec<_> = workload.windows.iter().map(|&extent| Window { extent, form }).collect();
    let map = PageMap::new(&windows, PAGE.trailing_zeros()).expect("memory for the windows");
    filled(map, workload)
}

pub(super) fn packed_map(workload: &Workload) -> Own<PackedMap<u64>> {
    let map = PackedMap::new(&workload.windows, PAGE.trailing_zeros()).expect("memory for the windows");
    filled(map, workload)
}
