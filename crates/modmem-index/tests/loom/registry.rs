//! Models of the registry and of retirable values: `RUSTFLAGS="--cfg loom" cargo test -p modmem-index --test
//! loom registry`. Slots rest for one turn only in a model, so that they are used again at once.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use modmem_index::protection::Counters;
use modmem_index::{
    AddressIndex, Extent, IndexError, MemoryKind, Owner, OwnerId, Reader, Registry, Retirable,
};
use std::sync::Arc;

/// An owner that knows who it is, and when it has been dropped.
struct Module {
    number: u32,
    freed: Arc<Freed>,
}

struct Freed(UnsafeCell<bool>);

// SAFETY: loom checks that accesses to the cell are ordered.
unsafe impl Sync for Freed {}
// SAFETY: a bool.
unsafe impl Send for Freed {}

impl Module {
    fn new(number: u32) -> Module {
        Module { number, freed: Arc::new(Freed(UnsafeCell::new(false))) }
    }

    fn use_it(&self) {
        // SAFETY: loom checks that nobody writes it meanwhile.
        self.freed.0.with(|freed| assert!(!unsafe { *freed }, "used after it was freed"));
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loom checks that nobody reads it meanwhile.
        self.freed.0.with_mut(|freed| unsafe { *freed = true });
    }
}

/// An index of one range, all addresses.
struct OneRange(AtomicU32);

impl OneRange {
    const EMPTY: u32 = u32::MAX;

    fn clear(&self) {
        self.0.store(OneRange::EMPTY, Ordering::Relaxed);
    }
}

impl AddressIndex<u32> for OneRange {
    fn insert(&self, _: Extent<u32>, owner: Owner) -> Result<(), IndexError> {
        // Release: who finds the owner in the index finds it in the registry.
        self.0.store(owner.id().number(), Ordering::Release);
        Ok(())
    }

    fn find(&self, _: u32) -> Option<Owner> {
        let number = self.0.load(Ordering::Acquire);
        OwnerId::new(number).map(|id| Owner::new(id, MemoryKind::Text))
    }

    fn remove(&self, _: u32) -> Option<(Extent<u32>, Owner)> {
        None
    }

    fn next(&self, _: u32) -> Option<(Extent<u32>, Owner)> {
        None
    }
}

fn all() -> Extent<u32> {
    Extent { start: 0, size: u32::MAX }
}

fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

fn publish(registry: &mut Registry<Module>, number: u32) -> OwnerId {
    let place = registry.reserve().unwrap();
    registry.publish(place, Module::new(number))
}

/// Starts a thread that does this with a reader.
fn read(
    registry: &Registry<Module>,
    body: impl FnOnce(Reader<Module>) + Send + 'static,
) -> thread::JoinHandle<()> {
    let reader = registry.reader();
    thread::spawn(move || body(reader))
}

#[test]
fn a_pinned_owner_is_not_freed() {
    model(3, || {
        let mut registry = Registry::new(Counters::new());
        let id = publish(&mut registry, 1);
        let readers = [(); 2].map(|()| {
            read(&registry, move |reader| {
                if let Some(module) = reader.pin(id) {
                    module.use_it();
                }
            })
        });
        drop(registry.remove(id, |_| {}));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn an_id_never_means_the_next_owner_of_its_slot() {
    model(3, || {
        let mut registry = Registry::with_slot_bits(Counters::new(), 0).unwrap();
        let first = publish(&mut registry, 1);
        let second = OwnerId::new(1).unwrap();
        let reader = read(&registry, move |reader| {
            for (id, number) in [(first, 1), (second, 2)] {
                if let Some(module) = reader.pin(id) {
                    module.use_it();
                    assert_eq!(module.number, number);
                }
            }
        });
        drop(registry.remove(first, |_| {}));
        assert_eq!(publish(&mut registry, 2), second);
        drop(registry.remove(second, |_| {}));
        reader.join().unwrap();
    });
}

#[test]
fn what_was_found_in_the_index_is_pinned_or_gone_even_if_its_very_id_is_used_again() {
    model(3, || {
        // No bits for generations: the next owner has the same id.
        let mut registry = Registry::with_slot_bits(Counters::new(), OwnerId::BITS).unwrap();
        let index = Arc::new(OneRange(AtomicU32::new(OneRange::EMPTY)));
        let id = publish(&mut registry, 1);
        index.insert(all(), Owner::new(id, MemoryKind::Text)).unwrap();
        let reader = {
            let index = Arc::clone(&index);
            read(&registry, move |reader| {
                if let Some((module, owner)) = reader.pin_at(&*index, 7) {
                    module.use_it();
                    assert_eq!((module.number, owner.id()), (1, id));
                }
            })
        };
        drop(registry.remove(id, |_| index.clear()));
        assert_eq!(publish(&mut registry, 2), id);
        reader.join().unwrap();
    });
}

#[test]
fn what_a_reader_found_after_it_entered_stays_until_it_leaves() {
    model(3, || {
        let mut registry = Registry::new(Counters::new());
        let ids = [publish(&mut registry, 0), publish(&mut registry, 1)];
        let reader = read(&registry, move |reader| {
            let entered = reader.enter();
            let modules = ids.map(|id| entered.get(id));
            for (module, number) in modules.into_iter().zip(0..) {
                if let Some(module) = module {
                    module.use_it();
                    assert_eq!(module.number, number);
                }
            }
        });
        drop(registry.remove(ids[0], |_| {}));
        drop(registry.remove(ids[1], |_| {}));
        reader.join().unwrap();
    });
}

#[test]
fn a_registry_that_goes_waits_for_the_pins_of_all_its_owners() {
    model(3, || {
        let mut registry = Registry::new(Counters::new());
        let ids = [publish(&mut registry, 0), publish(&mut registry, 1)];
        let readers = ids.map(|id| {
            read(&registry, move |reader| {
                if let Some(module) = reader.pin(id) {
                    module.use_it();
                }
            })
        });
        drop(registry);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_hidden_value_is_freed_when_the_last_reader_is_done_with_it() {
    struct Loading {
        init: Retirable<Module>,
    }

    model(3, || {
        let mut registry = Registry::new(Counters::new());
        let place = registry.reserve().unwrap();
        let id = registry.publish(place, Loading { init: Retirable::new(Module::new(1)) });
        let readers = [(); 2].map(|()| {
            let reader = registry.reader();
            thread::spawn(move || {
                let module = reader.pin(id).expect("it stays");
                if let Some(init) = module.init.get() {
                    init.use_it();
                }
            })
        });
        let module = registry.get(id).unwrap();
        module.init.hide();
        registry.synchronize();
        // SAFETY: readers have it by pins alone, which were waited for.
        unsafe { module.init.free() };
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
