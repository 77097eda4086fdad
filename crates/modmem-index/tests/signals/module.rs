//! What is loaded and unloaded: a value that can tell whether it is used after it was dropped.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use modmem_index::OwnerId;

/// What stays of a module when it is unloaded. It lies in static memory, so that a use after the unloading finds out
/// instead of doing harm.
struct Record {
    /// One more than the number of the module's id; 0 if there is no module, or no longer.
    id: AtomicU32,
    /// How many use the module now.
    users: AtomicU32,
}

/// Far more than there are modules at a time, so that a record rests for long before another module has it.
static RECORDS: [Record; 4096] = [const { Record { id: AtomicU32::new(0), users: AtomicU32::new(0) } }; 4096];

/// The record to try next.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// How many modules were unloaded while somebody used them.
static UNLOADED_IN_USE: AtomicUsize = AtomicUsize::new(0);

/// A loaded module: the number of its record.
pub(crate) struct Module(usize);

impl Module {
    pub(crate) fn new(id: OwnerId) -> Module {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) % RECORDS.len();
            let vacant = &RECORDS[number].id;
            if vacant.compare_exchange(0, id.number() + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Module(number);
            }
        }
    }

    /// Uses the module for a moment, and at last while `linger` runs. False if it is not the module of that id, or no
    /// longer.
    pub(crate) fn serve(&self, id: OwnerId, linger: impl FnOnce()) -> bool {
        // The number is read again each time: it is in memory that is freed when the module is unloaded.
        let record = || RECORDS.get(black_box(self).0);
        let alive = || record().is_some_and(|record| record.id.load(Ordering::SeqCst) == id.number() + 1);
        let Some(used) = record() else { return false };
        used.users.fetch_add(1, Ordering::SeqCst);
        let served = (0..16).all(|_| {
            spin_loop();
            alive()
        });
        linger();
        let served = served && alive();
        used.users.fetch_sub(1, Ordering::SeqCst);
        served
    }

    /// How many modules were unloaded while somebody used them, in this whole process.
    pub(crate) fn unloaded_in_use() -> usize {
        UNLOADED_IN_USE.load(Ordering::SeqCst)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let record = &RECORDS[self.0];
        record.id.store(0, Ordering::SeqCst);
        if record.users.load(Ordering::SeqCst) != 0 {
            UNLOADED_IN_USE.fetch_add(1, Ordering::SeqCst);
        }
    }
}
