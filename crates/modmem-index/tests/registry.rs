//! The registry: what it promises one thread, and readers on other threads and in signal handlers that use owners while
//! they come and go.
#![cfg(not(loom))]

use modmem_index::protection::{Counters, Protection};
use modmem_index::{Entered, OwnerId, Pinned, Reader, Registry, RegistryError, Reservation, Retirable};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

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

const ALIVE: u64 = 0x600d_600d_600d_600d;
const DEAD: u64 = 0xdead_dead_dead_dead;

/// An owner that knows its id and is poisoned when it is dropped.
struct Module {
    life: AtomicU64,
    id: OwnerId,
}

impl Module {
    fn new(id: OwnerId) -> Module {
        Module { life: AtomicU64::new(ALIVE), id }
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

/// A protection of the embedder's own.
struct Own(RwLock<()>);

// SAFETY: whoever has the lock for writing waited for all who had it for reading, and whoever has it for reading after
// that sees what was done before.
unsafe impl Protection for Own {
    type Guard<'p> = RwLockReadGuard<'p, ()>;

    fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap()
    }

    fn synchronize(&self) {
        drop(self.0.write().unwrap());
    }
}

/// Tests that keep several threads busy run one at a time.
static BUSY: Mutex<()> = Mutex::new(());

/// Owners come and go as fast as one thread can, while two others pin and use them. `as_reader` runs what each reader
/// does.
fn stress<P: Protection + Send + Sync>(protection: P, as_reader: impl Fn(&P, &mut dyn FnMut()) + Sync) {
    const OWNERS: usize = 4;
    let _alone = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let mut registry = Registry::new(&protection);
    let ids: Vec<OwnerId> = (0..OWNERS).map(|_| publish(&mut registry)).collect();
    let current: Vec<AtomicU32> = ids.iter().map(|id| AtomicU32::new(id.number())).collect();
    let (over, mut removed) = (AtomicBool::new(false), 0_u64);
    let (pinned, missed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            let reader = registry.reader();
            let (as_reader, protection, current) = (&as_reader, &protection, &current);
            let (over, pinned, missed) = (&over, &pinned, &missed);
            threads.spawn(move || {
                let mut read = || {
                    while !over.load(Ordering::Relaxed) {
                        for number in current.iter().cycle().take(100 * OWNERS) {
                            let id = OwnerId::new(number.load(Ordering::Relaxed)).unwrap();
                            let pin = reader.pin(id);
                            assert!(pin.as_ref().is_none_or(|module| module.is_alive(id)), "used after free");
                            let count = if pin.is_some() { pinned } else { missed };
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        // Threads may be more than processors.
                        std::thread::yield_now();
                    }
                };
                as_reader(protection, &mut read);
            });
        }
        // On a busy machine it takes longer until enough has happened.
        let (enough, end) = (Duration::from_millis(100), Duration::from_secs(3));
        let start = Instant::now();
        let done = |removed| removed > 1000 && pinned.load(Ordering::Relaxed) > 10_000;
        while start.elapsed() < enough || !done(removed) && start.elapsed() < end {
            for current in &current {
                let id = OwnerId::new(current.load(Ordering::Relaxed)).unwrap();
                drop(registry.remove(id, |_| {}));
                removed += 1;
                current.store(publish(&mut registry).number(), Ordering::Relaxed);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let pinned = pinned.into_inner();
    println!("{pinned} pinned, {} gone, {removed} removed", missed.into_inner());
    assert!(pinned > 1000 && removed > 100, "{pinned} pinned, {removed} removed");
}

#[test]
fn counters_keep_owners_that_are_in_use() {
    stress(Counters::new().with_relax(std::thread::yield_now), |_, read| read());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn counters_by_processor_keep_owners_that_are_in_use() {
    use modmem_index::protection::Rdpid;
    let Some(rdpid) = Rdpid::new() else {
        println!("skipped: this processor has no RDPID");
        return;
    };
    stress(Counters::<Rdpid, 64>::striped(rdpid).with_relax(std::thread::yield_now), |_, read| read());
}

#[test]
fn the_embedders_own_protection_keeps_owners_that_are_in_use() {
    stress(Arc::new(Own(RwLock::new(()))), |_, read| read());
}

#[cfg(all(feature = "membarrier", target_os = "linux"))]
mod epochs {
    use super::*;
    use modmem_index::protection::{Epochs, EpochsError};

    pub(super) fn epochs() -> Option<Epochs> {
        match Epochs::new(8) {
            Ok(epochs) => Some(epochs.with_relax(std::thread::yield_now)),
            Err(EpochsError::Unsupported) => {
                println!("skipped: this kernel has no membarrier");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn epochs_keep_owners_that_registered_threads_use() {
        let Some(epochs) = epochs() else { return };
        stress(epochs, |epochs, read| {
            let registration = epochs.register();
            assert!(registration.is_some());
            assert!(epochs.register().is_none(), "once is enough");
            read();
        });
    }

    #[test]
    fn epochs_keep_owners_that_threads_without_a_slot_use() {
        let Some(epochs) = epochs() else { return };
        stress(epochs, |_, read| read());
    }

    #[test]
    fn a_thread_that_registers_again_and_again_always_finds_a_slot() {
        let Some(epochs) = epochs() else { return };
        for _ in 0..100 {
            let registration = epochs.register().unwrap();
            let (first, second) = (epochs.enter(), epochs.enter());
            drop((first, second, registration));
        }
        // One that is dropped while a guard lives leaves its slot to the thread.
        let registration = epochs.register().unwrap();
        let guard = epochs.enter();
        drop(registration);
        assert!(epochs.register().is_none());
        drop(guard);
        epochs.synchronize();
    }
}

/// Handlers that interrupt a reader, and the writer itself at any step, pin owners and use them.
#[cfg(target_os = "linux")]
mod signals {
    use super::*;
    use std::sync::OnceLock;

    const OWNERS: usize = 4;

    /// What a handler needs.
    struct Seen<P: Protection> {
        reader: OnceLock<Reader<Module, P>>,
        current: [AtomicU32; OWNERS],
        pinned: AtomicU64,
        wrong: AtomicU64,
    }

    impl<P: Protection> Seen<P> {
        const fn new() -> Seen<P> {
            Seen {
                reader: OnceLock::new(),
                current: [const { AtomicU32::new(u32::MAX) }; OWNERS],
                pinned: AtomicU64::new(0),
                wrong: AtomicU64::new(0),
            }
        }

        fn look(&self) {
            let Some(reader) = self.reader.get() else { return };
            let ids =
                || self.current.iter().filter_map(|number| OwnerId::new(number.load(Ordering::Relaxed)));
            for id in ids() {
                if let Some(module) = reader.pin(id) {
                    // Again under the first pin, as a handler under a reader.
                    let others = ids().filter_map(|id| Some((id, reader.pin(id)?)));
                    let right = others.fold(true, |right, (id, module)| right & module.is_alive(id));
                    self.pinned.fetch_add(1, Ordering::Relaxed);
                    self.wrong.fetch_add(u64::from(!right || !module.is_alive(id)), Ordering::Relaxed);
                }
            }
        }

        /// Interrupts the writer and a reader by `signal`, whose handler looks, for a while.
        fn interrupt(
            &'static self,
            protection: P,
            signal: libc::c_int,
            handler: extern "C" fn(libc::c_int),
            as_reader: impl Fn(&P, &mut dyn FnMut()) + Sync,
        ) where
            P: Send + Sync,
        {
            let _alone = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the handler does what handlers may: it locks nothing, allocates nothing and does not unwind.
            let before = unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
            assert_ne!(before, libc::SIG_ERR);
            let mut registry = Registry::new(protection);
            let reader = registry.reader();
            let _ = self.reader.set(registry.reader());
            let over = AtomicBool::new(false);
            let (mut removed, mut signals) = (0_u64, 0_u64);
            // SAFETY: no preconditions.
            let writer = unsafe { libc::pthread_self() };
            std::thread::scope(|threads| {
                let (as_reader, over, signals) = (&as_reader, &over, &mut signals);
                let (tell, told) = std::sync::mpsc::channel();
                threads.spawn(move || {
                    // SAFETY: no preconditions.
                    tell.send(unsafe { libc::pthread_self() }).unwrap();
                    let mut read = || {
                        while !over.load(Ordering::Relaxed) {
                            self.look();
                        }
                    };
                    as_reader(reader.protection(), &mut read);
                });
                let interrupted = told.recv().unwrap();
                threads.spawn(move || {
                    let end = Instant::now() + Duration::from_millis(300);
                    while Instant::now() < end {
                        for thread in [writer, interrupted] {
                            // SAFETY: both threads live until `over` is set, below.
                            assert_eq!(unsafe { libc::pthread_kill(thread, signal) }, 0);
                            *signals += 1;
                        }
                        std::thread::sleep(Duration::from_micros(20));
                    }
                    over.store(true, Ordering::Relaxed);
                });
                while !over.load(Ordering::Relaxed) {
                    for number in &self.current {
                        if let Some(id) = OwnerId::new(number.load(Ordering::Relaxed)) {
                            drop(registry.remove(id, |_| {}));
                            removed += 1;
                        }
                        number.store(publish(&mut registry).number(), Ordering::Relaxed);
                    }
                }
            });
            let (pinned, wrong) = (self.pinned.load(Ordering::Relaxed), self.wrong.load(Ordering::Relaxed));
            println!("{signals} signals, {pinned} pinned, {removed} removed, {wrong} wrong");
            assert_eq!(wrong, 0);
            assert!(signals > 100 && pinned > 1000 && removed > 100);
        }
    }

    #[test]
    fn handlers_use_owners_under_counters() {
        static SEEN: Seen<Counters> = Seen::new();
        extern "C" fn look(_: libc::c_int) {
            SEEN.look();
        }
        let counters = Counters::new().with_relax(std::thread::yield_now);
        SEEN.interrupt(counters, libc::SIGUSR1, look, |_, read| read());
    }

    #[test]
    #[cfg(feature = "membarrier")]
    fn handlers_use_owners_under_epochs() {
        use modmem_index::protection::Epochs;
        static SEEN: Seen<Epochs> = Seen::new();
        extern "C" fn look(_: libc::c_int) {
            SEEN.look();
        }
        let Some(epochs) = epochs::epochs() else { return };
        SEEN.interrupt(epochs, libc::SIGUSR2, look, |epochs, read| {
            let registration = epochs.register();
            assert!(registration.is_some());
            read();
        });
    }
}
