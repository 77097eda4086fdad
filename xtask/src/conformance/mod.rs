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
//! | `packages`, `mirrors`, `sources`, `programs`, `guest_module`, `guest`, `words`, `cpio` | what is needed, and the archive to boot from |
//! | `machine` | the emulator |
//! | `run` | one boot from beginning to end |
//! | `checks` | what is compared |

mod arch;
mod boots;
mod checks;
mod cpio;
mod guest;
mod guest_module;
mod machine;
mod mirrors;
mod options;
mod outcome;
mod packages;
mod programs;
mod run;
mod sources;
mod words;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use options::Options;
pub use outcome::Counts;
use outcome::NotToBeHad;

/// Boots what is asked for, checks it, and prints what was found.
///
/// # Errors
/// The words are not understood, or the guest's program cannot be built. What goes wrong in a boot is counted.
pub fn run(words: &[&str]) -> Result<Counts> {
    let options = Options::parse(words)?;
    let target = target_folder();
    let mut counts = Counts::default();
    let mut bench = run::Bench::new(&target)?;
    for boot in &options.boots {
        let start = Instant::now();
        let result = run::boot(boot, &options, &mut bench);
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(report) => {
                report.print();
                let (count, word) = match (report.is_clean(), boot.gates) {
                    (true, _) => (&mut counts.passed, "passed"),
                    (false, true) => (&mut counts.failed, "FAILED"),
                    (false, false) => (&mut counts.reported, "differs"),
                };
                *count += 1;
                println!("conformance: {}: {word} after {seconds} s", boot.name);
            }
            Err(error) if error.is::<NotToBeHad>() => {
                counts.skipped += 1;
                println!("conformance: {}: SKIPPED: {error:#}", boot.name);
            }
            Err(error) => {
                *(if boot.gates { &mut counts.failed } else { &mut counts.reported }) += 1;
                println!("conformance: {}: FAILED after {seconds} s: {error:#}", boot.name);
            }
        }
    }
    Ok(counts)
}

/// Cargo's folder for what is built: everything of ours goes there too.
fn target_folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
