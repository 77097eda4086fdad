//! Readers on other threads use owners that come and go as fast as one thread can make them.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

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

/// Owners come and go as fast as one thread can, while two others pin and use them. `as_reader` runs what each reader
/// does.
pub(super) fn stress<P: Protection + Send + Sync>(
    protection: P,
    as_reader: impl Fn(&P, &mut dyn FnMut()) + Sync,
) {
    const OWNERS: usize = 4;
    // Miri is slow, and finds more in less.
    const WORK: usize = if cfg!(miri) { 20 } else { 1000 };
    let _alone = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let mut registry = Registry::new(&protection);
    let ids: Vec<OwnerId> = (0..OWNERS).map(|_| publish(&mut registry)).collect();
    let current: Vec<AtomicU32> = ids.iter().map(|id| AtomicU32::new(id.number())).collect();
    let (over, mut removed) = (AtomicBool::new(false), 0_usize);
    let (pinned, missed) = (AtomicUsize::new(0), AtomicUsize::new(0));
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
        let done = |removed| removed > WORK && pinned.load(Ordering::Relaxed) > 10 * WORK;
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
    assert!(pinned > WORK && removed > WORK / 10, "{pinned} pinned, {removed} removed");
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
