//! Epochs: registration, and readers with a slot and without.

use super::stress::stress;
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
fn epochs_guards_stay_on_their_thread() {
    use modmem_index::protection::{EpochGuard, Registration};
    <EpochGuard<'_> as NotSent<_>>::holds();
    <Registration<'_> as NotSent<_>>::holds();
    <Pinned<'_, u32, Epochs> as NotSent<_>>::holds();
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
