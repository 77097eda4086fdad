//! Atomics and the writers' lock: the real ones, or loom's when the models run.

#[cfg(not(loom))]
#[cfg(target_has_atomic = "64")]
pub(crate) use core::sync::atomic::AtomicU64;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

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
}
