//! Atomics and the writers' lock: the real ones, or loom's when the models run.

#[cfg(not(loom))]
pub(crate) use core::hint::spin_loop;
#[cfg(not(loom))]
#[cfg(target_has_atomic = "64")]
pub(crate) use core::sync::atomic::AtomicU64;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(loom)]
#[cfg(target_has_atomic = "64")]
pub(crate) use loom::sync::atomic::AtomicU64;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

/// Keeps writers apart. Readers never touch it, so that one may interrupt whoever holds it.
#[derive(Debug)]
pub(crate) struct WriterLock<T> {
    #[cfg(not(loom))]
    inner: spin::Mutex<T>,
    #[cfg(loom)]
    inner: loom::sync::Mutex<T>,
}

impl<T> WriterLock<T> {
    pub(crate) fn new(value: T) -> WriterLock<T> {
        #[cfg(not(loom))]
        return WriterLock { inner: spin::Mutex::new(value) };
        #[cfg(loom)]
        return WriterLock { inner: loom::sync::Mutex::new(value) };
    }

    pub(crate) fn lock(&self) -> impl core::ops::DerefMut<Target = T> + '_ {
        #[cfg(not(loom))]
        return self.inner.lock();
        #[cfg(loom)]
        return self.inner.lock().expect("no writer panics while it holds the lock");
    }

    /// As `lock`, but calls `relax` each time that another has the lock: it may be kept for long.
    pub(crate) fn lock_with(&self, relax: fn()) -> impl core::ops::DerefMut<Target = T> + '_ {
        #[cfg(not(loom))]
        loop {
            if let Some(guard) = self.inner.try_lock() {
                return guard;
            }
            relax();
        }
        #[cfg(loom)]
        {
            let _ = relax;
            self.lock()
        }
    }
}

/// Loads of what only the caller, or who holds the same lock, ever stores.
pub(crate) trait LoadOwn {
    type Value;

    /// The value that was stored last.
    fn load_own(&self) -> Self::Value;
}

impl LoadOwn for AtomicU32 {
    type Value = u32;

    #[inline]
    fn load_own(&self) -> u32 {
        // Where loom looks for readers that a store could have come before, it remembers the last access alone: a
        // writer's own load would hide the reader's. A change that changes nothing does not.
        #[cfg(loom)]
        return self.fetch_or(0, Ordering::Relaxed);
        #[cfg(not(loom))]
        self.load(Ordering::Relaxed)
    }
}

impl<T> LoadOwn for AtomicPtr<T> {
    type Value = *mut T;

    #[inline]
    fn load_own(&self) -> *mut T {
        #[cfg(loom)]
        return self
            .compare_exchange(
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .unwrap_or_else(|found| found);
        #[cfg(not(loom))]
        self.load(Ordering::Relaxed)
    }
}
