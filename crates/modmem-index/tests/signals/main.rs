//! Timers interrupt every thread, readers and the writer, twenty thousand times a second. Handlers look addresses up,
//! pin what they find and use it, while modules come and go. No answer may be wrong, nothing may be used after it was
//! unloaded, and no handler may allocate or wait.
//!
//! A handler that interrupts the writer in the middle of a change finds time standing still, so that its answers are
//! known exactly: see `space::Range`. One that waits for the writer waits for ever, which ends the test.
#![cfg(all(target_os = "linux", not(loom)))]

mod allocator;
mod module;
mod seat;
mod space;
mod timer;
mod world;

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "membarrier")]
use modmem_index::protection::Epochs;
#[cfg(target_arch = "x86_64")]
use modmem_index::protection::Rdpid;
use modmem_index::protection::{Counters, Protection};
use modmem_index::{
    AddressIndex, Form, LatchTree, Owner, OwnerId, PackedMap, PageMap, Reader, Registry, Window,
};

use module::Module;
use seat::{Doing, Seat, Tally};
use space::{PAGE_SHIFT, Place, Range, Word};
use timer::Timer;
use world::World;

/// How long modules come and go, at least.
const RUN: Duration = Duration::from_secs(2);
/// When it ends though the machine was too slow for enough to happen.
const AT_MOST: Duration = Duration::from_secs(20);
/// Between two interruptions of a thread.
const INTERVAL_NS: i32 = 50_000;
/// How often each must happen.
const ENOUGH_LOOKS: usize = 50_000;
const ENOUGH_INTERRUPTIONS: usize = 10;

fn page_map(form: Form) -> PageMap<Word> {
    PageMap::new(&space::windows().map(|extent| Window { extent, form }), PAGE_SHIFT).unwrap()
}

/// What the writer does while it waits for readers. On a busy machine a processor that is given away comes back late,
/// so that it is seldom given away.
fn relax() {
    static TURN: AtomicUsize = AtomicUsize::new(1);
    match TURN.fetch_add(1, Ordering::Relaxed) % 4096 {
        0 => thread::yield_now(),
        _ => spin_loop(),
    }
}

fn counters() -> Counters {
    Counters::new().with_relax(relax)
}

#[test]
fn handlers_use_what_they_find_in_a_flat_page_map_while_modules_come_and_go() {
    run(page_map(Form::Flat), counters(), || ());
}

#[test]
fn handlers_use_what_they_find_in_a_two_level_page_map_while_modules_come_and_go() {
    #[cfg(target_arch = "x86_64")]
    if let Some(rdpid) = Rdpid::new() {
        let counters = Counters::<Rdpid, 4>::striped(rdpid).with_relax(relax);
        return run(page_map(Form::TwoLevel), counters, || ());
    }
    run(page_map(Form::TwoLevel), counters(), || ());
}

#[test]
fn handlers_use_what_they_find_in_a_latch_tree_while_modules_come_and_go() {
    run(LatchTree::<Word>::new(), counters(), || ());
}

#[test]
fn handlers_use_what_they_find_in_a_packed_map_while_modules_come_and_go() {
    run(PackedMap::new(&space::windows(), PAGE_SHIFT).unwrap(), counters(), || ());
}

#[cfg(feature = "membarrier")]
#[test]
fn handlers_use_what_they_find_under_epochs_while_threads_register_and_leave() {
    match Epochs::new(2) {
        Ok(epochs) => {
            let (epochs, turn) = (epochs.with_relax(relax), AtomicUsize::new(0));
            let every_second = || turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            run(page_map(Form::Flat), &epochs, || every_second().then(|| epochs.register()));
        }
        Err(error) => println!("not run: {error}"),
    }
}

/// Loads and unloads modules, in a random order, until it is told to stop; and takes memory from those that stay loaded,
/// as from modules whose init has returned.
fn write<I: AddressIndex<Word>, P: Protection>(
    seat: &Seat<'_, I, P>,
    registry: &mut Registry<Module, P>,
    stop: &AtomicBool,
) {
    let places = &seat.world.places;
    let mut loaded = vec![None; places.len()];
    while !stop.load(Ordering::Relaxed) {
        let random = seat.random() >> 8;
        let n = random as usize % places.len();
        let place = seat.world.go_to_work_at(n);
        loaded[n] = match loaded[n] {
            None => Some(load(seat, registry, place)),
            Some(id) if (random >> 8).is_multiple_of(8) => {
                unload(seat, registry, place, id);
                None
            }
            Some(id) => {
                place.changing.iter().for_each(|range| remove(seat, range, id));
                place.changing.iter().rev().for_each(|range| insert(seat, range, id));
                Some(id)
            }
        };
        seat.look();
    }
    for (place, id) in places.iter().zip(loaded) {
        if let Some(id) = id {
            unload(seat, registry, place, id);
        }
    }
    let mut staying: Vec<_> =
        places.iter().flat_map(|place| &place.staying).map(|&(extent, _)| extent).collect();
    staying.sort_by_key(|extent| extent.start);
    assert!(seat.world.index.iter().map(|(extent, _)| extent).eq(staying));
}

fn insert<I: AddressIndex<Word>, P: Protection>(seat: &Seat<'_, I, P>, range: &Range, id: OwnerId) {
    let insert = || seat.world.index.insert(range.extent, Owner::new(id, range.kind));
    range.come(id, || assert_eq!(seat.during(Doing::Inserting, insert), Ok(())));
}

fn remove<I: AddressIndex<Word>, P: Protection>(seat: &Seat<'_, I, P>, range: &Range, id: OwnerId) {
    let was = Some((range.extent, Owner::new(id, range.kind)));
    let remove = || seat.world.index.remove(range.extent.start);
    range.go(|| assert_eq!(seat.during(Doing::Removing, remove), was));
}

fn load<I: AddressIndex<Word>, P: Protection>(
    seat: &Seat<'_, I, P>,
    registry: &mut Registry<Module, P>,
    place: &Place,
) -> OwnerId {
    world::load(registry, |id| place.changing.iter().for_each(|range| insert(seat, range, id)))
}

fn unload<I: AddressIndex<Word>, P: Protection>(
    seat: &Seat<'_, I, P>,
    registry: &mut Registry<Module, P>,
    place: &Place,
    id: OwnerId,
) {
    let take_ranges = |_: &Module| place.changing.iter().for_each(|range| remove(seat, range, id));
    let unload = || registry.remove(id, take_ranges).map(drop);
    assert!(seat.during(Doing::Unloading, unload).is_some());
}

/// One structure at a time has the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// A writer and two readers, all of them interrupted.
///
/// `attend` is what a thread does for the protection, again and again: it leaves when the result is dropped.
fn run<I, P, A>(index: I, protection: P, attend: impl Fn() -> A + Sync)
where
    I: AddressIndex<Word> + Sync,
    P: Protection + Send + Sync,
    Registry<Module, P>: Send,
    Reader<Module, P>: Sync,
{
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let unloaded_in_use_before = Module::unloaded_in_use();
    let mut registry = Registry::new(protection);
    let world = World::new(index, &mut registry);
    let seats = [1, 2, 3].map(|seed| Seat::new(&world, registry.reader(), seed));
    let [writer, readers @ ..] = &seats;
    let (stop, attend) = (&AtomicBool::new(false), &attend);

    thread::scope(|threads| {
        let registry = &mut registry;
        let mut running = vec![threads.spawn(move || {
            let _timer = Timer::start(writer, INTERVAL_NS.into());
            let _attendance = attend();
            write(writer, registry, stop);
        })];
        running.extend(readers.iter().map(|reader| {
            threads.spawn(move || {
                let _timer = Timer::start(reader, INTERVAL_NS.into());
                while !stop.load(Ordering::Relaxed) {
                    let _attendance = attend();
                    (0..1024).for_each(|_| reader.look());
                    thread::yield_now();
                }
            })
        }));
        let begun = Instant::now();
        let going_on = || begun.elapsed() < AT_MOST && !running.iter().any(|thread| thread.is_finished());
        while going_on() && (begun.elapsed() < RUN || missing(writer, readers).is_some()) {
            thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        let told = Instant::now();
        while !running.iter().all(|thread| thread.is_finished()) {
            if told.elapsed() > AT_MOST {
                eprintln!("a thread does not come back: does a handler wait for what it interrupted?");
                std::process::abort();
            }
            thread::sleep(Duration::from_millis(10));
        }
    });

    let own = seats.each_ref().map(|seat| &seat.own);
    let handlers = seats.each_ref().map(|seat| &seat.handlers);
    let interrupted = seats.each_ref().map(|seat| &seat.interrupted);
    println!("threads {own:?}\nhandlers {handlers:?}\ninterrupted {interrupted:?}");
    assert_eq!(missing(writer, readers), None, "this did not happen often enough");
    for tally in own.into_iter().chain(handlers) {
        let wrong = tally.wrong.load(Ordering::Relaxed);
        assert_eq!(wrong, 0, "wrong answers, one of them for {:#x}", tally.wrong_at.load(Ordering::Relaxed));
        assert_eq!(tally.used_after_unloading.load(Ordering::Relaxed), 0, "uses after unloading");
    }
    assert_eq!(
        Module::unloaded_in_use(),
        unloaded_in_use_before,
        "modules were unloaded while they were used"
    );
}

/// What has not happened often enough for the test to tell anything.
fn missing<I, P: Protection>(writer: &Seat<'_, I, P>, readers: &[Seat<'_, I, P>]) -> Option<&'static str> {
    let seats = || readers.iter().chain([writer]);
    let in_handlers = |count: fn(&Tally) -> &AtomicUsize| -> usize {
        seats().map(|seat| count(&seat.handlers).load(Ordering::Relaxed)).sum()
    };
    let interrupted = |seat: &Seat<'_, I, P>, doing| seat.interrupted[doing as usize].load(Ordering::Relaxed);
    [
        ("look-ups by handlers", in_handlers(|tally| &tally.looked) >= ENOUGH_LOOKS),
        ("uses by handlers", in_handlers(|tally| &tally.pinned) >= ENOUGH_LOOKS / 8),
        ("interrupted insertions", interrupted(writer, Doing::Inserting) >= ENOUGH_INTERRUPTIONS),
        ("interrupted removals", interrupted(writer, Doing::Removing) >= ENOUGH_INTERRUPTIONS),
        ("interrupted unloading", interrupted(writer, Doing::Unloading) >= ENOUGH_INTERRUPTIONS),
        (
            "interrupted look-ups",
            readers.iter().all(|seat| interrupted(seat, Doing::Looking) >= ENOUGH_INTERRUPTIONS),
        ),
    ]
    .into_iter()
    .find_map(|(what, enough)| (!enough).then_some(what))
}
