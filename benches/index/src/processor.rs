//! Threads on processors: each on its own, and whether it kept it.
#![expect(unsafe_code, reason = "the system's interface is C")]

use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The processors that the process may use. A thread inherits those of the one that started it, so they are asked for
/// once.
fn processors() -> &'static [usize] {
    static PROCESSORS: OnceLock<Vec<usize>> = OnceLock::new();
    PROCESSORS.get_or_init(|| {
        let mut allowed = MaybeUninit::<libc::cpu_set_t>::zeroed();
        // SAFETY: it writes a set of that size.
        unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), allowed.as_mut_ptr()) };
        // SAFETY: a set is bits; zeroed is a valid one.
        let allowed = unsafe { allowed.assume_init() };
        // SAFETY: the number is below the size of a set.
        let is_allowed = |&processor: &usize| unsafe { libc::CPU_ISSET(processor, &allowed) };
        (0..libc::CPU_SETSIZE as usize).filter(is_allowed).collect()
    })
}

/// Puts this thread on one of the processors that the process may use: threads with different numbers on different ones,
/// if there are as many. It stays where it is if the system does not want that.
pub(crate) fn take(number: usize) {
    let processors = processors();
    let Some(&mine) = processors.get(number % processors.len().max(1)) else { return };
    // SAFETY: a set is bits; zeroed is a valid one.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the number is below the size of a set.
    unsafe { libc::CPU_SET(mine, &mut set) };
    // SAFETY: it reads a set of that size.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
}

/// A piece of work beside another thread, from its beginning on.
pub(crate) struct Beside<'o> {
    preemptions: i64,
    other: Option<&'o AtomicU64>,
    progress: u64,
}

impl<'o> Beside<'o> {
    /// `other` counts what the other thread has done. None: there is no other.
    pub(crate) fn begin(other: Option<&'o AtomicU64>) -> Beside<'o> {
        let progress = other.map_or(0, |other| other.load(Ordering::Relaxed));
        Beside { preemptions: preemptions(), other, progress }
    }

    /// Whether the thread kept its processor, and the other had another one and did at least so much.
    pub(crate) fn was_fair(&self, least: u64) -> bool {
        let now = Beside::begin(self.other);
        let undisturbed = now.preemptions == self.preemptions;
        undisturbed && (self.other.is_none() || now.progress >= self.progress + least)
    }
}

/// How often this thread has lost its processor to another.
fn preemptions() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: it writes a `rusage`.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // SAFETY: it consists of integers; zeroed is valid.
    let usage = unsafe { usage.assume_init() };
    usage.ru_nivcsw
}
