//! Modules loaded by several threads with one table: reading and linking is everybody's, committing is one's alone.

use crate::contender::Loaded;
use crate::files::File;
use crate::own_modmem::{Blocks, Slice};
use modmem::link::{LinkOptions, Linked};
use modmem::space::{AddressSpace, SpaceBlock};
use modmem::{Image, Linker, Modules, Profile};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError, RwLock};

/// The files in batches, none of which imports from itself or from a later one, and how far they are.
#[derive(Debug)]
pub(crate) struct Work<'w> {
    files: &'w [File],
    batches: Vec<Batch<'w>>,
    profile: &'w Profile,
    modules: RwLock<Modules<SpaceBlock<Slice>>>,
    barrier: Barrier,
    /// How many batches are committed.
    committed: AtomicUsize,
}

#[derive(Debug)]
struct Batch<'w> {
    files: &'w [usize],
    /// Which file is the next to be read ahead, and to be linked.
    to_read: AtomicUsize,
    to_link: AtomicUsize,
    /// What was read ahead, and was not linked yet.
    read: Vec<Mutex<Option<Parsed<'w>>>>,
    linked: Mutex<Vec<(usize, LinkedFile<'w>)>>,
}

type Parsed<'w> = Result<Image<'w>, String>;
type LinkedFile<'w> = Result<(Image<'w>, Linked<SpaceBlock<Slice>>), String>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'w> Work<'w> {
    pub(crate) fn new(
        files: &'w [File],
        batches: &'w [Vec<usize>],
        profile: &'w Profile,
        modules: Modules<SpaceBlock<Slice>>,
        threads: usize,
    ) -> Work<'w> {
        let batches = batches.iter().map(|files| Batch {
            files,
            to_read: AtomicUsize::new(0),
            to_link: AtomicUsize::new(0),
            read: files.iter().map(|_| Mutex::default()).collect(),
            linked: Mutex::default(),
        });
        Work {
            files,
            batches: batches.collect(),
            profile,
            modules: RwLock::new(modules),
            barrier: Barrier::new(threads),
            committed: AtomicUsize::new(0),
        }
    }

    /// The table of modules, when all is done.
    pub(crate) fn into_modules(self) -> Modules<SpaceBlock<Slice>> {
        self.modules.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads and starts all modules by so many threads, this one among them.
    pub(crate) fn run(&self, linker: &mut Linker, space: &AddressSpace<Blocks>, threads: usize) -> Loaded {
        let mut loaded = Loaded::default();
        std::thread::scope(|scope| {
            for _ in 1..threads {
                let mut space = space.clone();
                scope.spawn(move || {
                    let mut linker = Linker::new();
                    for number in 0..self.batches.len() {
                        self.link(number, &mut linker, &mut space);
                        self.barrier.wait();
                        self.read_ahead(number);
                        self.barrier.wait();
                    }
                });
            }
            let mut space = space.clone();
            for number in 0..self.batches.len() {
                self.link(number, linker, &mut space);
                self.barrier.wait();
                self.commit(number, &mut loaded);
                self.barrier.wait();
            }
        });
        loaded
    }

    fn parse(&self, file: usize) -> Parsed<'w> {
        Image::parse(self.files[file].bytes()).map_err(|error| error.to_string())
    }

    /// Links what nobody has begun to link of a batch.
    fn link(&self, number: usize, linker: &mut Linker, space: &mut AddressSpace<Blocks>) {
        let batch = &self.batches[number];
        let modules = self.modules.read().unwrap_or_else(PoisonError::into_inner);
        let mut mine = Vec::new();
        loop {
            let at = batch.to_link.fetch_add(1, Ordering::Relaxed);
            let Some(&file) = batch.files.get(at) else { break };
            let read = locked(&batch.read[at]).take();
            let linked = read.unwrap_or_else(|| self.parse(file)).and_then(|image| {
                let linked = modules.link(&image, self.profile, space, linker, LinkOptions::default());
                linked.map(|linked| (image, linked)).map_err(|error| error.to_string())
            });
            mine.push((file, linked));
        }
        locked(&batch.linked).append(&mut mine);
    }

    /// Reads files of the batch after that one, until that one is committed.
    fn read_ahead(&self, number: usize) {
        let Some(batch) = self.batches.get(number + 1) else { return };
        while self.committed.load(Ordering::Relaxed) <= number {
            let at = batch.to_read.fetch_add(1, Ordering::Relaxed);
            let Some(&file) = batch.files.get(at) else { break };
            *locked(&batch.read[at]) = Some(self.parse(file));
        }
    }

    /// Commits and starts what was linked of a batch.
    fn commit(&self, number: usize, loaded: &mut Loaded) {
        let mut modules = self.modules.write().unwrap_or_else(PoisonError::into_inner);
        for (file, linked) in locked(&self.batches[number].linked).drain(..) {
            let started = linked.and_then(|(image, linked)| {
                let id = modules.commit(&image, linked).map_err(|error| error.to_string())?;
                modules.start(id, |_| 0).map_err(|error| error.to_string())
            });
            loaded.count(&self.files[file], started);
        }
        self.committed.store(number + 1, Ordering::Relaxed);
    }
}
