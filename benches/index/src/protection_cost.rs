//! What it costs to use what was found: a lookup alone, and one that keeps the owner alive while it is read.

use modmem_index::protection::{Counters, Epochs, Protection, Registration};
use modmem_index::{AddressIndex, Form, Owner, PageMap, Reader, Registry, Window};

use crate::side_by_side;
use crate::timing::{Contender, Lookup, PIECE, Times};
use crate::workload::{Family, Layout, PAGE, Workload};

/// What readers on how many processors may share no cache line.
#[cfg(target_arch = "x86_64")]
const STRIPES: usize = 64;

/// Nanoseconds of one way to read the owner of an address.
#[derive(Clone, Debug)]
pub(crate) struct ProtectionCost {
    pub(crate) name: &'static str,
    pub(crate) latency: Times,
    pub(crate) throughput: Times,
    /// Throughput while another thread does the same.
    pub(crate) beside_another: Times,
    /// Waiting for readers when there is none; not for what does not wait.
    pub(crate) synchronize: Option<Times>,
}

/// All ways, in turn, in a flat `PageMap`.
pub(crate) fn measure(layout: Layout, count: usize, rounds: usize) -> Vec<ProtectionCost> {
    let workload = Workload::new(layout, count);
    let mut ways = ways(&workload);
    let addresses = [1, 2].map(|seed| workload.queries(Family::Hit, seed).addresses);
    for _ in 0..rounds {
        for (way, cost) in &mut ways {
            let _registration = way.register();
            let contender = way.contender();
            contender.throughput(&addresses[0]);
            addresses[0].chunks(PIECE).for_each(|piece| cost.latency.push(contender.latency(piece)));
            addresses[0].chunks(PIECE).for_each(|piece| cost.throughput.push(contender.throughput(piece)));
            side_by_side::read(contender, &addresses, || way.register(), &mut cost.beside_another);
            if let Some(synchronize) = &mut cost.synchronize {
                way.time_synchronize(synchronize);
            }
        }
    }
    ways.into_iter().map(|(_, cost)| cost).collect()
}

/// Each way with its own registry and map. They live until the process ends: a registration borrows its protection.
fn ways(workload: &Workload) -> Vec<(&'static dyn Way, ProtectionCost)> {
    let id: &dyn Way = Box::leak(Box::new(IdOnly(Owners::new(workload, Counters::new()))));
    let unprotected: &dyn Way = Box::leak(Box::new(Unprotected(Owners::new(workload, Counters::new()))));
    let mut ways = vec![("find: the id alone", id), ("find, and read the owner unprotected", unprotected)];
    let counters = Counters::new().with_relax(std::thread::yield_now);
    ways.push(("pinned: `Counters`", pinned(workload, counters)));
    #[cfg(target_arch = "x86_64")]
    if let Some(rdpid) = modmem_index::protection::Rdpid::new() {
        let counters = Counters::<_, STRIPES>::striped(rdpid).with_relax(std::thread::yield_now);
        ways.push(("pinned: `Counters` by `Rdpid`", pinned(workload, counters)));
    }
    if let Ok(epochs) = Epochs::new(4) {
        ways.push(("pinned: `Epochs`", pinned(workload, epochs.with_relax(std::thread::yield_now))));
    }
    let cost = |name, way: &dyn Way| ProtectionCost {
        name,
        latency: Times::default(),
        throughput: Times::default(),
        beside_another: Times::default(),
        synchronize: way.waits().then(Times::default),
    };
    ways.into_iter().map(|(name, way)| (way, cost(name, way))).collect()
}

fn pinned<P: Registers + 'static>(workload: &Workload, protection: P) -> &'static dyn Way {
    Box::leak(Box::new(Owners::new(workload, protection)))
}

/// A way to read the owner of an address.
trait Way: Sync {
    fn contender(&self) -> &dyn Contender;
    /// What a thread must have to be fast.
    fn register(&self) -> Option<Registration<'_>>;
    /// Whether who unloads waits for readers.
    fn waits(&self) -> bool;
    fn time_synchronize(&self, times: &mut Times);
}

/// A protection, and what its readers' threads must have.
trait Registers: Protection + Send + Sync {
    fn registration(&self) -> Option<Registration<'_>> {
        None
    }
}

impl<C: modmem_index::protection::CpuNumber + Send + Sync, const STRIPES: usize> Registers
    for Counters<C, STRIPES>
{
}

impl Registers for Epochs {
    fn registration(&self) -> Option<Registration<'_>> {
        self.register()
    }
}

/// An owner: its number, to be compared with the expected one.
struct Module(u32);

/// A map, and the owners that it names.
struct Owners<P: Protection> {
    map: PageMap<u64>,
    registry: Registry<Module, P>,
    reader: Reader<Module, P>,
}

impl<P: Protection> Owners<P> {
    fn new(workload: &Workload, protection: P) -> Owners<P> {
        let windows: Vec<_> =
            workload.windows.iter().map(|&extent| Window { extent, form: Form::Flat }).collect();
        let map = PageMap::new(&windows, PAGE.trailing_zeros()).expect("memory for the windows");
        let mut registry = Registry::new(protection);
        for range in &workload.ranges {
            let place = registry.reserve().expect("memory for an owner");
            let id = registry.publish(place, Module(range.number()));
            map.insert(range.extent, Owner::new(id, range.owner.kind()))
                .expect("a workload's ranges can be inserted");
        }
        let reader = registry.reader();
        Owners { map, registry, reader }
    }
}

impl<P: Registers> Lookup for Owners<P> {
    #[inline]
    fn find(&self, address: u64) -> u32 {
        self.reader.pin_at(&self.map, address).map_or(0, |(module, _)| module.0)
    }
}

impl<P: Registers> Way for Owners<P> {
    fn contender(&self) -> &dyn Contender {
        self
    }

    fn register(&self) -> Option<Registration<'_>> {
        self.reader.protection().registration()
    }

    fn waits(&self) -> bool {
        true
    }

    fn time_synchronize(&self, times: &mut Times) {
        const CALLS: u32 = 64;
        let start = std::time::Instant::now();
        (0..CALLS).for_each(|_| self.reader.protection().synchronize());
        times.push(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
}

macro_rules! without_protection {
    ($way:ident, $self:ident, $address:ident, $find:expr) => {
        struct $way(Owners<Counters>);

        impl Lookup for $way {
            #[inline]
            fn find(&$self, $address: u64) -> u32 {
                $find
            }
        }

        impl Way for $way {
            fn contender(&self) -> &dyn Contender {
                self
            }

            fn register(&self) -> Option<Registration<'_>> {
                None
            }

            fn waits(&self) -> bool {
                false
            }

            fn time_synchronize(&self, _times: &mut Times) {}
        }
    };
}

without_protection!(IdOnly, self, address, self.0.map.find(address).map_or(0, |owner| owner.id().number()));
without_protection!(Unprotected, self, address, {
    let owner = self.0.map.find(address);
    owner.and_then(|owner| self.0.registry.get(owner.id())).map_or(0, |module| module.0)
});
