//! What all threads share: the index, and the addresses that are looked up with what may be found there.

use std::sync::atomic::{AtomicUsize, Ordering};

use modmem_index::protection::Protection;
use modmem_index::{AddressIndex, Extent, MemoryKind, Owner, OwnerId, Registry};

use crate::module::Module;
use crate::space::{self, Answer, Begun, Place, Range, Word};

/// The index and its ranges.
pub(crate) struct World<I> {
    pub(crate) index: I,
    pub(crate) places: Vec<Place>,
    /// By place.
    probes: Vec<Vec<Probe>>,
    /// The place that the writer changes: readers look there more often than elsewhere.
    at_work: AtomicUsize,
}

/// An address to look up.
pub(crate) struct Probe {
    pub(crate) address: Word,
    expected: Expected,
}

/// Who may be found.
#[derive(Clone, Copy)]
enum Expected {
    Nobody,
    /// Who stays.
    Always(Owner),
    /// Whoever has this range at the time.
    At(usize, usize),
}

impl<I: AddressIndex<Word>> World<I> {
    /// Loads the modules that stay.
    pub(crate) fn new<P: Protection>(index: I, registry: &mut Registry<Module, P>) -> World<I> {
        let places = space::places();
        let mut all = Vec::new();
        for (n, place) in places.iter().enumerate() {
            load(registry, |id| {
                for &(extent, kind) in &place.staying {
                    let owner = Owner::new(id, kind);
                    index.insert(extent, owner).expect("the range is free and inside a window");
                    all.push((extent, Expected::Always(owner)));
                }
            });
            let ranges = place.changing.iter().enumerate();
            all.extend(ranges.map(|(r, range)| (range.extent, Expected::At(n, r))));
        }
        let expected = |address| all.iter().find(|(extent, _)| extent.contains(address)).map(|&(_, who)| who);
        let probe = |address| Probe { address, expected: expected(address).unwrap_or(Expected::Nobody) };
        let probes = places.iter().map(|place| {
            let changing = place.changing.iter().map(|range| range.extent);
            let extents = place.staying.iter().map(|&(extent, _)| extent).chain(changing);
            let near = extents.flat_map(|Extent { start, size }| {
                [start - 1, start, start + size / 2, start + (size - 1), start + size]
            });
            near.chain([0, 1 << 20, Word::MAX]).map(probe).collect()
        });
        World { probes: probes.collect(), at_work: AtomicUsize::new(0), index, places }
    }

    /// The writer goes to another place.
    pub(crate) fn go_to_work_at(&self, place: usize) -> &Place {
        self.at_work.store(place, Ordering::Relaxed);
        &self.places[place]
    }

    /// An address to look up, one of two where the writer is at work.
    pub(crate) fn probe(&self, random: u32) -> Option<&Probe> {
        let (way, random) = (random % 2, random as usize / 2);
        let place =
            if way == 0 { self.at_work.load(Ordering::Relaxed) } else { random / 64 % self.probes.len() };
        let probes = self.probes.get(place)?;
        probes.get(random % 64 * probes.len() / 64)
    }

    /// Before a reader looks.
    pub(crate) fn begin(&self, probe: &Probe) -> Option<(&Range, Begun)> {
        let Expected::At(place, range) = probe.expected else { return None };
        let range = self.places.get(place)?.changing.get(range)?;
        Some((range, range.begin()))
    }
}

impl Probe {
    /// Whether the address lies in text whenever it lies in anything.
    pub(crate) fn is_text(&self, begun: &Option<(&Range, Begun)>) -> bool {
        let kind = match (self.expected, begun) {
            (Expected::Always(owner), _) => Some(owner.kind()),
            (_, Some((range, _))) => Some(range.kind),
            _ => None,
        };
        kind.is_some_and(MemoryKind::is_text)
    }

    /// Whether what a reader found is right. `sure` is false if a range that comes and goes may be missed at any time.
    pub(crate) fn end(&self, begun: Option<(&Range, Begun)>, found: Option<Owner>, sure: bool) -> Answer {
        match (self.expected, begun) {
            (Expected::Always(owner), _) => Answer::right_if(found == Some(owner)),
            (_, Some((range, begun))) => range.end(begun, found, sure),
            _ => Answer::right_if(found.is_none()),
        }
    }
}

/// Loads a module: its ranges go into the index before it is shown.
pub(crate) fn load<P: Protection>(
    registry: &mut Registry<Module, P>,
    insert: impl FnOnce(OwnerId),
) -> OwnerId {
    let reservation = registry.reserve().expect("there is memory for a module");
    let id = reservation.id();
    insert(id);
    registry.publish(reservation, Module::new(id))
}
