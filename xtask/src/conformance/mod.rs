//! The proof: boots real kernels under software emulation, loads modules, takes snapshots in the guest, and checks on
//! the host that layout, bytes and views are what modmem computes.
//!
//! The guest runs busybox, a script, and modmem itself, statically linked, or a small program in C where Rust does not
//! build for the machine; the modules come from the kernel's package, decompressed, in the order in which modmem says that they have to be loaded. Besides them a module of ours is built
//! that waits in its init function, so that init memories can be looked at.
//!
//! | file | what it does |
//! |---|---|
//! | `arch` | the table of machines |
//! | `boots` | the tables of kernels and states |
//! | `states` | states by random, and those that the gate boots |
//! | `packages`, `mirrors`, `sources`, `programs`, `guest_module`, `guest`, `words`, `cpio` | what is needed, and the archive to boot from |
//! | `machine` | the emulator |
//! | `run` | one boot from beginning to end |
//! | `debian` | the same of a Debian root as it boots |
//! | `checks` | what is compared |
//! | `results` | what is kept of boots, and the table in docs/verify.md |

mod arch;
mod boots;
mod checks;
mod cpio;
mod debian;
mod guest;
mod guest_module;
mod machine;
mod mirrors;
mod options;
pub(crate) mod outcome;
pub(crate) mod packages;
mod programs;
mod results;
mod run;
mod sources;
mod states;
mod words;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use options::Options;
pub use outcome::Counts;
use outcome::Outcome;

/// Boots what is asked for, checks it, and prints what was found.
///
/// # Errors
/// The words are not understood, or the guest's program cannot be built. What goes wrong in a boot is counted.
pub fn run(words: &[&str]) -> Result<Counts> {
    let options = Options::parse(words)?;
    let mut counts = Counts::default();
    if options.table {
        results::write_table()?;
        return Ok(counts);
    }
    let target = target_folder();
    let mut bench = run::Bench::new(&target)?;
    for boot in &options.boots {
        let start = Instant::now();
        let result = run::boot(boot, &options, &mut bench);
        let seconds = start.elapsed().as_secs();
        let outcome = Outcome::of(boot, &result);
        match &result {
            Ok(report) => {
                report.print();
                if options.record && boot.refuses.is_none() && !options.snapshot_only {
                    let what = if boot.drawn { boot.about } else { boot.name };
                    results::keep(report, boot.arch.name, what)?;
                }
                println!("conformance: {}: {} after {seconds} s", boot.name, outcome.word());
            }
            Err(error) => {
                println!("conformance: {}: {} after {seconds} s: {error:#}", boot.name, outcome.word())
            }
        }
        if boot.drawn && !options.snapshot_only {
            states::report(boot, outcome, result.as_ref().ok(), seconds, &bench.folder(boot, &options))?;
        }
        counts.add(outcome);
    }
    if options.record {
        results::write_table()?;
    }
    Ok(counts)
}

/// Cargo's folder for what is built: everything of ours goes there too.
fn target_folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
