//! A thread with its place in the test: what it looks up, and what it was doing when it was interrupted.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, compiler_fence};

use modmem_index::protection::Protection;
use modmem_index::{AddressIndex, Reader};

use crate::module::Module;
use crate::space::{Answer, Word};
use crate::timer::Interrupted;
use crate::world::World;

/// What a thread does when it is interrupted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doing {
    Other,
    Looking,
    Inserting,
    Removing,
    /// Hiding a module, waiting for its readers, or freeing it.
    Unloading,
}

/// What came of the look-ups.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) looked: AtomicUsize,
    pub(crate) pinned: AtomicUsize,
    pub(crate) overtaken: AtomicUsize,
    pub(crate) wrong: AtomicUsize,
    pub(crate) used_after_unloading: AtomicUsize,
    /// An address that the answer was wrong for.
    pub(crate) wrong_at: AtomicUsize,
}

fn add(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A thread.
pub(crate) struct Seat<'w, I, P: Protection> {
    pub(crate) world: &'w World<I>,
    reader: Reader<Module, P>,
    random: AtomicU32,
    doing: AtomicUsize,
    /// How often it was interrupted, by what it was doing.
    pub(crate) interrupted: [AtomicUsize; 5],
    /// Of the thread itself.
    pub(crate) own: Tally,
    /// Of the handler that interrupts it.
    pub(crate) handlers: Tally,
}

/// Look-ups that a handler makes.
const LOOKS: usize = 8;
/// Look-ups that a handler makes that finds time standing still.
const LOOKS_AT_WRITER: usize = 32;
/// How long a handler may stay beyond that, in turns of an empty loop; mostly it is far less. Meanwhile the writer makes
/// many changes and a reader stands still in the middle of a look-up, or readers see what a writer has half done.
const STAY: u32 = 4096;

impl<'w, I: AddressIndex<Word>, P: Protection> Seat<'w, I, P> {
    /// `seed` is not zero.
    pub(crate) fn new(world: &'w World<I>, reader: Reader<Module, P>, seed: u32) -> Seat<'w, I, P> {
        Seat {
            world,
            reader,
            random: AtomicU32::new(seed),
            doing: AtomicUsize::new(Doing::Other as usize),
            interrupted: Default::default(),
            own: Tally::default(),
            handlers: Tally::default(),
        }
    }

    /// Does something that a handler can tell that it interrupts.
    pub(crate) fn during<R>(&self, doing: Doing, work: impl FnOnce() -> R) -> R {
        let before = self.doing.swap(doing as usize, Ordering::Relaxed);
        // The handler runs on the same thread: only the compiler could let it see another order.
        compiler_fence(Ordering::SeqCst);
        let result = work();
        compiler_fence(Ordering::SeqCst);
        self.doing.store(before, Ordering::Relaxed);
        result
    }

    /// Xorshift. A handler may come in between, which does no harm.
    pub(crate) fn random(&self) -> u32 {
        let mut random = self.random.load(Ordering::Relaxed);
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        self.random.store(random, Ordering::Relaxed);
        random
    }

    /// A look-up by the thread itself. Now and then it loses the processor while it uses what it found.
    pub(crate) fn look(&self) {
        let linger = || {
            if self.random().is_multiple_of(1024) {
                std::thread::yield_now();
            }
        };
        self.during(Doing::Looking, || self.look_in(&self.own, linger));
    }

    /// Looks an address up in one of three ways, and checks the answer.
    fn look_in(&self, tally: &Tally, linger: impl FnOnce()) {
        let random = self.random();
        let Some(probe) = self.world.probe(random >> 8) else { return };
        let index = &self.world.index;
        let address = probe.address;
        let begun = self.world.begin(probe);
        let answer = match random % 8 {
            0 | 1 => {
                let text = probe.is_text(&begun);
                let found = index.find_text(address);
                if text { probe.end(begun, found, true) } else { Answer::right_if(found.is_none()) }
            }
            2..=4 => probe.end(begun, index.find(address), true),
            _ => {
                let pinned = self.reader.pin_at(index, address);
                let answer = probe.end(begun, pinned.as_ref().map(|&(_, owner)| owner), false);
                if let Some((module, owner)) = &pinned {
                    add(&tally.pinned);
                    if !module.serve(owner.id(), linger) {
                        add(&tally.used_after_unloading);
                    }
                }
                answer
            }
        };
        add(&tally.looked);
        match answer {
            Answer::Right => {}
            Answer::Overtaken => add(&tally.overtaken),
            Answer::Wrong => {
                add(&tally.wrong);
                tally.wrong_at.store(address as usize, Ordering::Relaxed);
            }
        }
    }
}

impl<I: AddressIndex<Word> + Sync, P: Protection + Sync> Interrupted for Seat<'_, I, P>
where
    Reader<Module, P>: Sync,
{
    fn interrupt(&self) {
        let doing = self.doing.load(Ordering::Relaxed);
        if let Some(count) = self.interrupted.get(doing) {
            add(count);
        }
        let writes = doing == Doing::Inserting as usize || doing == Doing::Removing as usize;
        for _ in 0..if writes { LOOKS_AT_WRITER } else { LOOKS } {
            self.look_in(&self.handlers, || {});
        }
        if writes || doing == Doing::Looking as usize {
            let random = self.random() >> 8;
            (0..(random >> 3) % (STAY >> (random % 8))).for_each(|_| spin_loop());
        }
    }
}
