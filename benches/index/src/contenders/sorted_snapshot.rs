//! A sorted `Vec` that is replaced as a whole: readers take the current one through arc-swap, a writer copies it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use modmem_index::{Extent, Owner};

use crate::timing::{Lookup, Writer};
use crate::workload::Workload;

#[derive(Clone)]
struct Piece {
    extent: Extent<u64>,
    number: u32,
}

pub(super) struct SortedSnapshot(ArcSwap<Vec<Piece>>);

impl SortedSnapshot {
    pub(super) fn new(workload: &Workload) -> SortedSnapshot {
        let pieces = workload.ranges.iter();
        let pieces = pieces.map(|range| Piece { extent: range.extent, number: range.number() }).collect();
        SortedSnapshot(ArcSwap::from_pointee(pieces))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Piece>)) {
        let current = self.0.load();
        let mut pieces = Vec::with_capacity(current.len() + 1);
        pieces.extend_from_slice(&current);
        change(&mut pieces);
        self.0.store(Arc::new(pieces));
    }
}

impl Lookup for SortedSnapshot {
    #[inline]
    fn find(&self, address: u64) -> u32 {
        let pieces = self.0.load();
        let behind = pieces.partition_point(|piece| piece.extent.start <= address);
        match behind.checked_sub(1).map(|index| &pieces[index]) {
            Some(piece) if piece.extent.contains(address) => piece.number,
            _ => 0,
        }
    }

    fn writer(&self) -> Option<&dyn Writer> {
        Some(self)
    }
}

impl Writer for SortedSnapshot {
    fn insert(&self, extent: Extent<u64>, owner: Owner) {
        self.change(|pieces| {
            let place = pieces.partition_point(|piece| piece.extent.start < extent.start);
            pieces.insert(place, Piece { extent, number: owner.id().number() });
        });
    }

    fn remove(&self, start: u64) {
        self.change(|pieces| {
            let place = pieces.binary_search_by_key(&start, |piece| piece.extent.start);
            pieces.remove(place.expect("the range is there"));
        });
    }
}
