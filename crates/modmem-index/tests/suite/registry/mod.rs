//! The registry: what it promises one thread, and readers on other threads and in signal handlers that use owners while
//! they come and go.
#![cfg(not(loom))]

#[cfg(all(feature = "membarrier", target_os = "linux"))]
mod epochs;
#[cfg(target_os = "linux")]
mod signals;
mod stress;

use modmem_index::protection::{Counters, Protection};
use modmem_index::{Entered, OwnerId, Pinned, Reader, Registry, RegistryError, Reservation, Retirable};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// Whether this thread gets no memory.
    static STARVED: Cell<bool> = const { Cell::new(false) };
}

struct Allocator;

// SAFETY: it is the system's allocator, or has no memory.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if STARVED.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn without_memory<R>(body: impl FnOnce() -> R) -> R {
    STARVED.set(true);
    let result = body();
    STARVED.set(false);
    result
}

const ALIVE: usize = 0x600d_600d;
const DEAD: usize = 0xdead_dead;

/// An owner that knows its id and is poisoned when it is dropped.
struct Module {
    life: AtomicUsize,
    id: OwnerId,
}

impl Module {
    fn new(id: OwnerId) -> Module {
        Module { life: AtomicUsize::new(ALIVE), id }
    }

    /// Whether it is what was asked for, now and a little later.
    fn is_alive(&self, id: OwnerId) -> bool {
        (0..20).all(|_| {
            std::hint::spin_loop();
            self.life.load(Ordering::Relaxed) == ALIVE && self.id == id
        })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        self.life.store(DEAD, Ordering::Relaxed);
    }
}

fn publish<P: Protection>(registry: &mut Registry<Module, P>) -> OwnerId {
    let place = registry.reserve().unwrap();
    let id = place.id();
    registry.publish(place, Module::new(id))
}

/// Counts what is dropped.
struct Counted<'c>(&'c Cell<u32>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn an_owner_is_there_from_its_publication_to_its_removal() {
    let mut registry = Registry::new(Counters::new());
    let reader = registry.reader();
    let place = registry.reserve().unwrap();
    let id = place.id();
    assert!(reader.pin(id).is_none() && registry.get(id).is_none() && registry.is_empty());
    assert_eq!(registry.publish(place, "ext4"), id);
    assert_eq!(
        (reader.pin(id).as_deref(), registry.get(id), registry.len()),
        (Some(&"ext4"), Some(&"ext4"), 1)
    );
    let mut told = None;
    let removed = registry.remove(id, |owner| {
        told = Some(*owner);
        assert!(reader.pin(id).is_none(), "it is hidden by now");
    });
    assert_eq!((removed, told), (Some("ext4"), Some("ext4")));
    assert!(reader.pin(id).is_none() && registry.get(id).is_none() && registry.is_empty());
    assert_eq!(registry.remove(id, |_| unreachable!("nobody is there")), None);
}

#[test]
fn owners_are_listed_by_slot_and_slots_are_small_numbers() {
    let mut registry = Registry::new(Counters::new());
    let ids: Vec<OwnerId> = (0..5).map(|_| publish(&mut registry)).collect();
    registry.remove(ids[2], |_| {});
    let listed: Vec<(u32, OwnerId)> =
        registry.iter().map(|(id, module)| (registry.slot(id), module.id)).collect();
    assert_eq!(listed, [(0, ids[0]), (1, ids[1]), (3, ids[3]), (4, ids[4])]);
}

#[test]
fn a_stale_id_means_nobody_although_its_slot_has_a_new_owner() {
    let mut registry = Registry::with_slot_bits(Counters::new(), 0).unwrap();
    let reader = registry.reader();
    let mut stale: Vec<OwnerId> = Vec::new();
    for _ in 0..100 {
        let id = publish(&mut registry);
        assert_eq!(registry.slot(id), 0);
        assert!(reader.pin(id).is_some_and(|module| module.is_alive(id)));
        assert!(stale.iter().all(|&id| reader.pin(id).is_none() && registry.get(id).is_none()));
        registry.remove(id, |_| {});
        stale.push(id);
    }
}

#[test]
fn a_reservation_that_is_dropped_gives_back_its_slot_and_one_of_another_registry_is_refused() {
    let mut registry = Registry::with_slot_bits(Counters::new(), 1).unwrap();
    let mut other = Registry::new(Counters::new());
    for _ in 0..10 {
        let first = registry.reserve().unwrap();
        let second = registry.reserve().unwrap();
        assert_ne!(first.id(), second.id());
        assert!(matches!(registry.reserve(), Err(RegistryError::Full)));
        drop(first);
        let refused = catch_unwind(AssertUnwindSafe(|| other.publish(second, 1)));
        assert!(refused.is_err() && other.is_empty());
    }
    let late = registry.reserve().unwrap();
    drop(registry);
    drop(late);
    assert!(Registry::<u8>::with_slot_bits(Counters::new(), OwnerId::BITS + 1).is_none());
}

#[test]
fn without_memory_nothing_is_reserved_and_all_the_rest_works() {
    let mut registry = Registry::new(Counters::new());
    let reader = registry.reader();
    without_memory(|| {
        assert!(matches!(registry.reserve(), Err(RegistryError::OutOfMemory)));
    });
    let place = registry.reserve().unwrap();
    without_memory(|| {
        let id = place.id();
        registry.publish(place, 7);
        assert_eq!(reader.pin(id).as_deref(), Some(&7));
        assert_eq!(reader.enter().get(id), Some(&7));
        assert_eq!(registry.remove(id, |_| {}), Some(7));
    });
}

#[test]
fn an_owner_stays_if_what_the_caller_does_while_it_is_hidden_panics() {
    let mut registry = Registry::new(Counters::new());
    let reader = registry.reader();
    let id = publish(&mut registry);
    let result = catch_unwind(AssertUnwindSafe(|| registry.remove(id, |_| panic!("on purpose"))));
    assert!(result.is_err());
    assert!(reader.pin(id).is_some_and(|module| module.is_alive(id)));
    assert_eq!(registry.len(), 1);
    assert!(registry.remove(id, |_| {}).is_some_and(|module| module.is_alive(id)));
}

#[test]
fn a_registry_that_goes_drops_each_owner_once_and_leaves_its_readers_nobody() {
    let dropped = Cell::new(0);
    let mut registry = Registry::new(Counters::new());
    let reader = registry.reader();
    let ids: Vec<OwnerId> = (0..3000)
        .map(|_| {
            let place = registry.reserve().unwrap();
            registry.publish(place, Counted(&dropped))
        })
        .collect();
    drop(registry.remove(ids[1000], |_| {}));
    assert_eq!(dropped.get(), 1);
    drop(registry);
    assert_eq!(dropped.get(), 3000);
    assert!(ids.iter().all(|&id| reader.clone().pin(id).is_none()));
}

#[test]
fn pins_nest_and_an_entered_reader_finds_several() {
    let mut registry = Registry::new(Counters::new());
    let reader = registry.reader();
    let ids = [publish(&mut registry), publish(&mut registry)];
    let outer = reader.pin(ids[0]).unwrap();
    let inner = reader.pin(ids[0]).unwrap();
    drop(outer);
    assert!(inner.is_alive(ids[0]));
    let entered = reader.enter();
    assert!(ids.iter().all(|&id| entered.get(id).is_some_and(|module| module.is_alive(id))));
}

#[test]
fn a_value_is_hidden_first_and_dropped_once_by_whoever_comes_first() {
    let dropped = Cell::new(0);
    let mut value = Retirable::new(Counted(&dropped));
    assert!(value.get().is_some() && value.get_mut().is_some());
    value.hide();
    value.hide();
    assert!(value.get().is_none() && value.get_mut().is_none());
    assert_eq!((format!("{value:?}"), dropped.get()), ("Retirable(hidden)".into(), 0));
    for _ in 0..2 {
        // SAFETY: nobody has a reference to the value.
        unsafe { value.free() };
        assert_eq!(dropped.get(), 1);
    }
    value.hide();
    drop(value);
    assert_eq!(dropped.get(), 1);
    drop(Retirable::new(Counted(&dropped)));
    let hidden = Retirable::new(Counted(&dropped));
    hidden.hide();
    drop(hidden);
    assert_eq!(dropped.get(), 3);
}

#[test]
fn handles_can_be_sent_and_shared() {
    fn sent_and_shared<T: Send + Sync>() {}
    sent_and_shared::<Registry<Module>>();
    sent_and_shared::<Reader<Module>>();
    sent_and_shared::<Reservation<Module>>();
    sent_and_shared::<Pinned<'_, Module, Counters>>();
    sent_and_shared::<Entered<'_, Module, Counters>>();
    sent_and_shared::<Retirable<Module>>();
}

/// Its item can be named without saying which only for types that cannot be sent.
trait NotSent<Which> {
    fn holds() {}
}
impl<T> NotSent<()> for T {}
impl<T: Send> NotSent<u8> for T {}

#[test]
fn owners_that_cannot_be_shared_keep_their_registry_on_its_thread() {
    <Registry<Cell<u32>> as NotSent<_>>::holds();
    <Reader<Cell<u32>> as NotSent<_>>::holds();
    <Reservation<Cell<u32>> as NotSent<_>>::holds();
    <Entered<'_, Cell<u32>, Counters> as NotSent<_>>::holds();
    <Pinned<'_, Cell<u32>, Counters> as NotSent<_>>::holds();
    // Shareable, but dropped by the writer: on the thread that made it.
    <Registry<std::sync::MutexGuard<'_, u32>> as NotSent<_>>::holds();
    <&Retirable<std::sync::MutexGuard<'_, u32>> as NotSent<_>>::holds();
}

/// Tests that keep several threads busy run one at a time.
static BUSY: Mutex<()> = Mutex::new(());
