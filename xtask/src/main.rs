//! Chores of the modmem repository: `cargo xtask`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask CHORE
  bench index [OPTION]   measure how long it takes to find the owner of an address, and write docs/index.md;
                         with options (--help) only print
  bench verify SNAPSHOT...
                         measure how long it takes to verify snapshots that bring their module files along
  bench machines KERNEL...
                         measure what a module and a relocation cost on the machine of each kernel (debian:6.12:arm64)
  goldens DIR            write crates/modmem/tests/goldens from recorded kernels
  picture DIR            draw docs/pictures/ppc32-6.12.svg from recorded kernels
  whole-package KERNEL   load all modules of a kernel package, or of several that it comes in; fails if one is missing
  kmod KERNEL...         compare loading orders, aliases and module files with kmod's own tools (debian:6.12)
  conformance [OPTION]   boot real kernels under emulation and compare them with modmem (--help for the options)
  differential [OPTION]  ask a running Linux about modules made by random (--help for the options)
  adversary SNAPSHOT...  try ways to hide on recorded machines that bring their module files along; fails if one is missed
  loaded SNAPSHOT...     compare what loading makes of a recorded machine's modules with its memory; fails if it differs
  pokes SNAPSHOT LOG     replay the writes to text that a kernel recorded (boot pokes), and 10,000 foreign ones
  machine-states [NAME]  boot the machines that load --machine knows, and keep what their kernels' variables hold
  freestanding           build and run the library in a program without std
  dependencies           hold what modmem depends on to deny.toml
  machines               check builds of the library with one machine each
  fuzz [TARGET...]       run the fuzz targets, or all, with libFuzzer, each for --seconds N (60)
  loom                   explore what readers and writers of the index share with the model checker";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["conformance", arguments @ ..] => return conformance(arguments),
        ["differential", arguments @ ..] => {
            return Ok(match xtask::differential::run(arguments)? {
                Some(true) => ExitCode::SUCCESS,
                Some(false) => ExitCode::FAILURE,
                None => ExitCode::from(77),
            });
        }
        ["bench", "index", arguments @ ..] => xtask::bench::index(arguments),
        ["bench", "verify", snapshots @ ..] if !snapshots.is_empty() => xtask::bench_verify::run(snapshots),
        ["bench", "verify-one", snapshot] => xtask::bench_verify::one(snapshot),
        ["bench", "machines", kernels @ ..] if !kernels.is_empty() => xtask::bench_machines::run(kernels),
        ["bench", "machine", kernel] => xtask::bench_machines::one(kernel),
        ["adversary", recordings @ ..] if !recordings.is_empty() => xtask::adversary::run(recordings),
        ["loaded", recordings @ ..] if !recordings.is_empty() => xtask::loaded::run(recordings),
        ["pokes", snapshot, log] => xtask::pokes::run(snapshot, log),
        ["machine-states", wanted @ ..] => xtask::machine_states::run(wanted),
        ["freestanding"] => xtask::freestanding::run(),
        ["dependencies"] => xtask::dependencies::run(),
        ["machines"] => xtask::machines::run(),
        ["fuzz", arguments @ ..] => xtask::fuzz::run(arguments),
        ["loom"] => xtask::loom::run(),
        ["goldens", folder] => xtask::goldens::write_all(Path::new(folder)),
        ["picture", folder] => xtask::picture::run(Path::new(folder)),
        ["kmod", kernels @ ..] if !kernels.is_empty() => xtask::kmod::run(kernels),
        ["whole-package", kernel @ ..] if !kernel.is_empty() => xtask::whole_package::run(kernel),
        _ => bail!("{USAGE}"),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Status 77, as test harnesses have it, says that this machine could not do all that was asked.
fn conformance(arguments: &[&str]) -> Result<ExitCode> {
    let counts = xtask::conformance::run(arguments)?;
    println!("conformance: {counts}");
    Ok(match counts.skipped {
        _ if counts.failed > 0 => ExitCode::FAILURE,
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(77),
    })
}
