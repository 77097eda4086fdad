//! modmem held against kmod's own tools, on roots made of kernel packages: the order in which `modprobe` loads every module
//! with what it needs, the modules that every alias and symbol stands for, and what `modinfo` says of every file.

mod aliases;
mod fields;
mod orders;
mod root;

use std::fmt;

use anyhow::{Result, bail};
use modmem_linux::{Kernel, OpenOptions};

use root::DepmodRoot;

/// Differences that are shown, of many.
const SHOWN: usize = 10;

/// How many of how many things are equal, and what the others are.
#[derive(Debug, Default)]
struct Tally {
    compared: usize,
    different: Vec<String>,
}

impl Tally {
    fn add(&mut self, what: impl FnOnce() -> String, equal: bool) {
        self.compared += 1;
        if !equal {
            self.different.push(what());
        }
    }

    fn join(mut self, other: Tally) -> Tally {
        self.compared += other.compared;
        self.different.extend(other.different);
        self
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.compared - self.different.len(), self.compared)
    }
}

/// Compares kernels, each as it comes and after depmod ran over it.
///
/// # Errors
/// kmod's tools are not there or fail, a kernel cannot be opened, or anything differs.
pub fn run(kernels: &[&str]) -> Result<()> {
    let mut different = 0;
    for spec in kernels {
        let options = OpenOptions { config: false, ..OpenOptions::default() };
        let bare = Kernel::open(&[spec], &options)?;
        let root = DepmodRoot::of(&bare)?;
        let path = root.path().to_string_lossy().into_owned();
        let written = Kernel::open(&[&path], &OpenOptions { cache: None, ..options })?;
        println!("{spec}: {} modules of {}", bare.modules().count(), bare.release());
        let mut tell = |what: &str, tally: &Tally| {
            println!("  {what}: {tally} equal");
            tally.different.iter().take(SHOWN).for_each(|line| println!("    {line}"));
            different += tally.different.len();
        };
        let [with, without] = orders::compare(&root, [&written, &bare])?;
        tell("order of loading, with depmod's files", &with);
        tell("order of loading, without them", &without);
        for (what, file) in [("aliases", "modules.alias"), ("symbols", "modules.symbols")] {
            let [with, without] = aliases::compare(&root, file, [&written, &bare])?;
            tell(&format!("{what}, with depmod's files"), &with);
            tell(&format!("{what}, without them"), &without);
        }
        tell("files as modinfo shows them", &fields::compare(&bare)?);
    }
    if different > 0 {
        bail!("{different} answers differ from kmod's");
    }
    Ok(())
}

/// Does something with each part of `all` on each core.
fn in_parallel<T: Sync, R: Send>(all: &[T], work: impl Fn(&[T]) -> Result<R> + Sync) -> Result<Vec<R>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = all.chunks(all.len().div_ceil(cores).max(1));
    std::thread::scope(|scope| {
        let threads: Vec<_> = parts.map(|part| scope.spawn(|| work(part))).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}
