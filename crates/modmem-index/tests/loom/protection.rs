//! Models of the protections: `RUSTFLAGS="--cfg loom" cargo test -p modmem-index --features membarrier --test
//! loom protection`. Readers use objects that writers hide, wait for, and free; in every order of their steps, and with
//! every value that the memory model lets a load return, none is used after it was freed.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use modmem_index::protection::{Counters, CpuNumber, Protection};

const NOBODY: usize = usize::MAX;

/// Objects, of which at most one is shown at a time.
struct World<P> {
    protection: P,
    shown: AtomicUsize,
    /// Whether each has been freed. Loom finds every access that another one does not happen before.
    objects: [UnsafeCell<bool>; 2],
}

// SAFETY: loom checks that accesses to the cells are ordered.
unsafe impl<P: Sync> Sync for World<P> {}

impl<P: Protection> World<P> {
    fn new(protection: P) -> Arc<World<P>> {
        let objects = [UnsafeCell::new(false), UnsafeCell::new(false)];
        Arc::new(World { protection, shown: AtomicUsize::new(0), objects })
    }

    /// Uses an object, if one is shown. The caller has entered.
    fn use_shown(&self) {
        // Acquire: pairs with the release in `show`.
        let shown = self.shown.load(Ordering::Acquire);
        if let Some(object) = self.objects.get(shown) {
            // SAFETY: loom checks that nobody writes it meanwhile.
            object.with(|freed| assert!(!unsafe { *freed }, "used after it was freed"));
        }
    }

    fn read(&self) {
        let _guard = self.protection.enter();
        self.use_shown();
    }

    fn show(&self, object: usize) {
        // Release: pairs with the acquire in `use_shown`.
        self.shown.store(object, Ordering::Release);
    }

    fn hide_wait_free(&self, object: usize) {
        self.shown.store(NOBODY, Ordering::Relaxed);
        self.protection.synchronize();
        self.free(object);
    }

    fn free(&self, object: usize) {
        // SAFETY: loom checks that nobody reads it meanwhile.
        self.objects[object].with_mut(|freed| unsafe { *freed = true });
    }
}

fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

/// Starts a thread that reads.
fn reader<P: Protection + Send + Sync + 'static>(world: &Arc<World<P>>) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || world.read())
}

#[test]
fn counters_keep_an_object_while_two_readers_use_it() {
    model(3, || {
        let world = World::new(Counters::new());
        let readers = [reader(&world), reader(&world)];
        world.hide_wait_free(0);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn counters_wait_for_a_reader_that_was_delayed_since_an_earlier_wait() {
    model(3, || {
        let world = World::new(Counters::new());
        let reader = reader(&world);
        world.hide_wait_free(0);
        world.show(1);
        world.hide_wait_free(1);
        reader.join().unwrap();
    });
}

#[test]
fn counters_keep_an_object_until_the_last_of_nested_guards_goes_whichever_that_is() {
    model(3, || {
        let world = World::new(Counters::new());
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let first = world.protection.enter();
                world.use_shown();
                let second = world.protection.enter();
                drop(first);
                world.use_shown();
                drop(second);
            })
        };
        world.hide_wait_free(0);
        reader.join().unwrap();
    });
}

#[test]
fn counters_let_two_writers_wait_at_once() {
    model(3, || {
        let world = World::new(Counters::new());
        let reader = reader(&world);
        let writer = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.protection.synchronize())
        };
        world.hide_wait_free(0);
        world.show(1);
        world.hide_wait_free(1);
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

/// A reader's processor, another one each time that it is asked for.
struct Moving(std::sync::atomic::AtomicUsize);

impl CpuNumber for Moving {
    fn current(&self) -> usize {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn striped_counters_keep_an_object_whatever_stripe_its_readers_take() {
    model(3, || {
        let moving = Moving(std::sync::atomic::AtomicUsize::new(0));
        let world = World::new(Counters::<Moving, 2>::striped(moving));
        let readers = [reader(&world), reader(&world)];
        world.hide_wait_free(0);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// With a fence in the place of membarrier, which loom does not know.
#[cfg(feature = "membarrier")]
mod epochs {
    use super::*;
    use modmem_index::protection::Epochs;

    fn world() -> Arc<World<Epochs>> {
        World::new(Epochs::new(1).unwrap())
    }

    fn registered_reader(world: &Arc<World<Epochs>>, reads: usize) -> thread::JoinHandle<()> {
        let world = Arc::clone(world);
        thread::spawn(move || {
            let registration = world.protection.register();
            assert!(registration.is_some());
            (0..reads).for_each(|_| world.read());
        })
    }

    #[test]
    fn epochs_keep_an_object_while_a_registered_reader_uses_it() {
        model(3, || {
            let world = world();
            let reader = registered_reader(&world, 1);
            world.hide_wait_free(0);
            reader.join().unwrap();
        });
    }

    #[test]
    fn epochs_wait_for_a_reader_that_leaves_and_comes_again() {
        model(3, || {
            let world = world();
            let reader = registered_reader(&world, 2);
            world.hide_wait_free(0);
            reader.join().unwrap();
        });
    }

    #[test]
    fn epochs_keep_an_object_while_a_reader_without_a_slot_uses_it() {
        model(3, || {
            let world = world();
            let readers = [registered_reader(&world, 1), reader(&world)];
            world.hide_wait_free(0);
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }

    #[test]
    fn epochs_keep_an_object_until_the_last_of_nested_guards_goes_whichever_that_is() {
        model(3, || {
            let world = world();
            let reader = {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    let registration = world.protection.register();
                    let first = world.protection.enter();
                    // The slot is kept while it has a guard.
                    drop(registration);
                    let second = world.protection.enter();
                    drop(first);
                    world.use_shown();
                    drop(second);
                })
            };
            world.hide_wait_free(0);
            reader.join().unwrap();
        });
    }

    #[test]
    fn a_thread_keeps_its_slot_while_a_guard_is_counted_there() {
        model(3, || {
            let world = world();
            // One of the two slots is taken, so that the readers want the same one.
            let _registration = world.protection.register();
            let early = {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    let registration = world.protection.register();
                    let guard = world.protection.enter();
                    drop(registration);
                    drop(guard);
                })
            };
            let late = {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    let _registration = world.protection.register();
                    world.read();
                })
            };
            world.hide_wait_free(0);
            early.join().unwrap();
            late.join().unwrap();
        });
    }

    #[test]
    fn a_slot_passes_from_one_thread_to_another_between_their_guards() {
        model(2, || {
            let world = world();
            // Three threads for two slots: some find none.
            let readers = [0; 2].map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    let _registration = world.protection.register();
                    world.read();
                })
            });
            let registration = world.protection.register();
            world.hide_wait_free(0);
            drop(registration);
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }
}
