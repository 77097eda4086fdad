//! Handlers that interrupt a reader, and the writer itself at any step, pin owners and use them.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{OnceLock, PoisonError};
use std::time::{Duration, Instant};

const OWNERS: usize = 4;

/// What a handler needs.
struct Seen<P: Protection> {
    reader: OnceLock<Reader<Module, P>>,
    current: [AtomicU32; OWNERS],
    pinned: AtomicUsize,
    wrong: AtomicUsize,
}

impl<P: Protection> Seen<P> {
    const fn new() -> Seen<P> {
        Seen {
            reader: OnceLock::new(),
            current: [const { AtomicU32::new(u32::MAX) }; OWNERS],
            pinned: AtomicUsize::new(0),
            wrong: AtomicUsize::new(0),
        }
    }

    fn look(&self) {
        let Some(reader) = self.reader.get() else { return };
        let ids = || self.current.iter().filter_map(|number| OwnerId::new(number.load(Ordering::Relaxed)));
        for id in ids() {
            if let Some(module) = reader.pin(id) {
                // Again under the first pin, as a handler under a reader.
                let others = ids().filter_map(|id| Some((id, reader.pin(id)?)));
                let right = others.fold(true, |right, (id, module)| right & module.is_alive(id));
                self.pinned.fetch_add(1, Ordering::Relaxed);
                self.wrong.fetch_add(usize::from(!right || !module.is_alive(id)), Ordering::Relaxed);
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
        let (mut removed, mut signals) = (0_usize, 0_usize);
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
    let Some(epochs) = super::epochs::epochs() else { return };
    SEEN.interrupt(epochs, libc::SIGUSR2, look, |epochs, read| {
        let registration = epochs.register();
        assert!(registration.is_some());
        read();
    });
}
