//! What [`Epochs`](super::Epochs) needs of Linux: a barrier in all threads, and which thread this is.
#![cfg_attr(not(loom), expect(unsafe_code, reason = "system calls"))]

#[cfg(not(loom))]
pub(super) use real::{barrier, light_barrier, prepare, this_thread};

#[cfg(loom)]
pub(super) use model::{barrier, light_barrier, prepare, this_thread};

#[cfg(not(loom))]
mod real {
    use core::sync::atomic::{Ordering, compiler_fence};

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: membarrier(2) takes three integers and touches no memory of the caller's.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    /// Tells the kernel that this process will call [`barrier`]; false if it does not do that.
    pub(in super::super) fn prepare() -> bool {
        membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
    }

    /// Returns after every thread of the process has passed a full barrier, the caller's own at both ends included.
    pub(in super::super) fn barrier() {
        let done = membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        // Where the preparation was lost, it is made up for; who forbids the system call later, as a sandbox may, has
        // forbidden to free what was hidden, and hears of it.
        let done = done || prepare() && membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        assert!(done, "membarrier(2), which worked before, is refused");
    }

    /// The reader's side of [`barrier`]: keeps the compiler from moving anything across it.
    #[inline]
    pub(in super::super) fn light_barrier() {
        compiler_fence(Ordering::SeqCst);
    }

    /// A number other than zero that no other thread has while this one lives.
    #[inline]
    pub(in super::super) fn this_thread() -> usize {
        // SAFETY: it has no preconditions; POSIX lists it with what signal handlers may call.
        let thread = unsafe { libc::pthread_self() };
        thread as usize
    }
}

/// The model's: it knows no membarrier, so that readers have a real fence.
#[cfg(loom)]
mod model {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use crate::sync::{Ordering, fence};

    pub(in super::super) fn prepare() -> bool {
        true
    }

    pub(in super::super) fn barrier() {
        fence(Ordering::SeqCst);
    }

    pub(in super::super) fn light_barrier() {
        fence(Ordering::SeqCst);
    }

    pub(in super::super) fn this_thread() -> usize {
        // Printed, an id is the same in each run of a model, as it has to be.
        let mut hasher = DefaultHasher::new();
        std::format!("{:?}", loom::thread::current().id()).hash(&mut hasher);
        hasher.finish() as usize | 1
    }
}
