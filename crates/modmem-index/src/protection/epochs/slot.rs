//! One thread's guards, in one word that only this thread writes.
//!
//! The low half of the word counts the guards that exist; the high half counts how often the last of them went, so that
//! a writer sees that its reader has left also if the thread has entered again since.
//!
//! A signal handler may come between the load and the store of [`enter`] or [`leave`]. It drops the guards that it
//! takes, so that it leaves the count as it was, and the store is right; the turn may be stored as it was before the
//! handler, which can only make a writer wait for one more guard. While a guard exists its turn stays.

use crate::sync::{AtomicUsize, Ordering};

/// One turn.
const TURN: usize = 1 << (usize::BITS / 2);
/// The count of guards. At its highest it stays, so that guards that were forgotten by the billion are waited for.
const GUARDS: usize = TURN - 1;

/// Counts one more guard.
#[inline]
pub(super) fn enter(word: &AtomicUsize) {
    let now = word.load(Ordering::Relaxed);
    let more = if now & GUARDS == GUARDS { now } else { now + 1 };
    // Release: pairs with the acquires in `wait`. A writer that sees this guard, and not the end of the one before,
    // has to see all that was done under that one.
    word.store(more, Ordering::Release);
}

/// Counts one guard less.
#[inline]
pub(super) fn leave(word: &AtomicUsize) {
    let now = word.load(Ordering::Relaxed);
    let less = match now & GUARDS {
        GUARDS => now,
        1 => (now - 1).wrapping_add(TURN),
        _ => now - 1,
    };
    // Release: pairs with the acquires in `wait`; what the reader did comes before.
    word.store(less, Ordering::Release);
}

/// Whether a guard exists; for the thread of the slot.
pub(super) fn in_use(word: &AtomicUsize) -> bool {
    word.load(Ordering::Relaxed) & GUARDS != 0
}

/// Waits until the guards that exist now are gone.
pub(super) fn wait(word: &AtomicUsize, relax: fn()) {
    // Acquire, twice: pairs with the releases in `enter` and `leave`.
    let first = word.load(Ordering::Acquire);
    let mut now = first;
    while now & GUARDS != 0 && now & !GUARDS == first & !GUARDS {
        relax();
        now = word.load(Ordering::Acquire);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn guards_nest_and_the_last_one_that_goes_ends_the_turn() {
        let word = AtomicUsize::new(usize::MAX & !GUARDS);
        enter(&word);
        enter(&word);
        leave(&word);
        assert!(in_use(&word));
        leave(&word);
        assert_eq!(word.load(Ordering::Relaxed), 0, "turns wrap");
        enter(&word);
        leave(&word);
        assert_eq!(word.load(Ordering::Relaxed), TURN);
        wait(&word, || unreachable!("nobody is there"));
    }

    #[test]
    fn a_count_of_guards_that_reached_its_top_stays_there() {
        let word = AtomicUsize::new(GUARDS - 1);
        enter(&word);
        enter(&word);
        leave(&word);
        assert_eq!(word.load(Ordering::Relaxed), GUARDS);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::spin_loop;
    use loom::cell::UnsafeCell;
    use std::sync::Arc;

    /// No fence helps here, as one does in a whole `synchronize`.
    #[test]
    fn a_writer_that_has_seen_a_guard_sees_all_that_was_done_under_it_even_if_it_missed_the_moment() {
        loom::model(|| {
            let word = Arc::new(AtomicUsize::new(0));
            let used = loom::sync::Arc::new(UnsafeCell::new(()));
            enter(&word);
            let writer = {
                let (word, used) = (Arc::clone(&word), loom::sync::Arc::clone(&used));
                loom::thread::spawn(move || {
                    wait(&word, spin_loop);
                    used.with_mut(|_| ());
                })
            };
            used.with(|_| ());
            leave(&word);
            enter(&word);
            leave(&word);
            writer.join().unwrap();
        });
    }
}
