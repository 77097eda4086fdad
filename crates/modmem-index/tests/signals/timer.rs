//! Timers that interrupt the thread that started them.
#![expect(unsafe_code, reason = "timers and handlers are the C library's")]

use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::mem::zeroed;
use std::ptr;

use crate::allocator;

/// Who is interrupted.
pub(crate) trait Interrupted: Sync {
    /// Called in a signal handler.
    fn interrupt(&self);
}

/// What a signal's value points to: who is interrupted.
struct Target<'i>(&'i dyn Interrupted);

/// The handler of the timers' signal.
extern "C" fn handle(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid pointer, as SA_SIGINFO asks for.
    let info = unsafe { &*info };
    if info.si_code != libc::SI_TIMER {
        return;
    }
    // SAFETY: a timer's signal has a value.
    let value = unsafe { info.si_value() };
    // SAFETY: the value is what `Timer::start` passed: a pointer to what its timer owns. The signal comes on the thread
    // that started the timer, and not after that thread has stopped it.
    let target = unsafe { &*value.sival_ptr.cast::<Target<'_>>() };
    allocator::as_handler(|| target.0.interrupt());
}

/// Interrupts the thread that started it, again and again until it is dropped, on the same thread.
pub(crate) struct Timer<'i> {
    timer: libc::timer_t,
    _target: Box<Target<'i>>,
    _not_send: PhantomData<*const ()>,
}

/// The result of a call that returns 0 or else sets `errno`.
fn check(result: c_int) {
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

impl<'i> Timer<'i> {
    pub(crate) fn start(interrupted: &'i dyn Interrupted, nanoseconds: libc::c_long) -> Timer<'i> {
        let signal = libc::SIGRTMIN();
        // SAFETY: zero is valid for all fields of it: no flags, no handler, no signals.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = handle as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: both pointers are valid or null, and the handler has the type that SA_SIGINFO asks for.
        check(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) });

        let target = Box::new(Target(interrupted));
        // SAFETY: zero is valid for all fields of it.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_value.sival_ptr = ptr::from_ref(&*target).cast_mut().cast();
        // SAFETY: the call has no conditions.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = ptr::null_mut();
        // SAFETY: both pointers are valid.
        check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) });
        let timer = Timer { timer, _target: target, _not_send: PhantomData };

        let interval = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
        let times = libc::itimerspec { it_interval: interval, it_value: interval };
        // SAFETY: the timer exists, and the pointers are valid or null.
        check(unsafe { libc::timer_settime(timer.timer, 0, &times, ptr::null_mut()) });
        timer
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        // A signal that the timer has sent already comes before this call returns: it is for this thread.
        // SAFETY: the timer exists, and is used no more.
        check(unsafe { libc::timer_delete(self.timer) });
    }
}
