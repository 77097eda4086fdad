//! Readers look modules up and use what they find while another thread loads, starts and unloads them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::sample::{Kernel, core, lib};
use modmem::modules::{Lookup, State};
use modmem::{MemoryKind, RunAddr};

#[test]
fn a_pinned_module_stays_whole_while_it_is_unloaded() {
    let mut kernel = Kernel::new();
    kernel.start(&lib());
    // First fit puts a module at the same addresses each time.
    let id = kernel.start(&core());
    let module = kernel.modules.get(id).unwrap();
    let kinds = [MemoryKind::Text, MemoryKind::Data, MemoryKind::RoData];
    let starts = kinds.map(|kind| (kind, module.address(kind).unwrap()));
    let text = module.bytes(MemoryKind::Text).to_vec();
    let init = module.original_range(MemoryKind::InitText).unwrap().start;
    kernel.unload(id).unwrap();

    let reader = kernel.modules.reader();
    let (stop, pinned, coming, looked_up) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for (kind, start) in starts {
                        let Some((module, owner)) = reader.pin_at(start) else { continue };
                        assert_eq!((module.name(), owner.kind()), ("sample_core", kind));
                        // Neither its text nor its symbols change or go under a reader's hands.
                        assert_eq!(module.bytes(MemoryKind::Text), text);
                        assert!(module.symbol_at(starts[0].1).is_some());
                        pinned.fetch_add(1, Ordering::Relaxed);
                    }
                    if let Some((module, _)) = reader.pin_at(init) {
                        // Found in the index, so not freed while it is pinned, whatever state the module is in by now.
                        assert!(
                            module.bytes(MemoryKind::InitText).is_empty() || module.state() != State::Going
                        );
                        coming.fetch_add(1, Ordering::Relaxed);
                    }
                    reader.lookup(starts[0].1, |lookup| {
                        if let Lookup::Module(place) = lookup {
                            assert_eq!((place.module, place.offset), ("sample_core", 0));
                            looked_up.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
        }
        let begin = Instant::now();
        let done = || {
            let enough = |count: &AtomicUsize| count.load(Ordering::Relaxed) > 100;
            enough(&pinned) && enough(&coming) && enough(&looked_up)
        };
        let mut rounds = 0;
        while rounds < 200 || (!done() && begin.elapsed() < Duration::from_secs(20)) {
            let id = kernel.load(&core()).unwrap();
            kernel.modules.start(id, |_| 0).unwrap();
            kernel.unload(id).unwrap();
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(done(), "{pinned:?} {coming:?} {looked_up:?}");
    });
    assert!(reader.pin_at(starts[0].1).is_none());
}

#[test]
fn readers_that_outlive_the_table_find_nothing() {
    let mut kernel = Kernel::new();
    let id = kernel.start(&lib());
    let text = kernel.modules.get(id).unwrap().address(MemoryKind::Text).unwrap();
    let reader = kernel.modules.reader();
    assert_eq!(reader.pin_at(text).unwrap().0.name(), "sample_lib");
    assert_eq!(reader.find_text(text).unwrap().id(), id);
    drop(kernel);
    assert!(reader.pin(id).is_none() && reader.pin_at(text).is_none());
    assert!(reader.find(text).is_none());
    assert!(reader.find(RunAddr(0)).is_none());
}
