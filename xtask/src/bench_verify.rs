//! How long it takes to verify snapshots, one after the other, on one core, and how much memory.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Options, OwnFiles, verify};

use crate::command;

/// Runs of each snapshot, of which the median counts.
const RUNS: usize = 7;

/// Builds this in release and measures each snapshot in a process of its own.
///
/// # Errors
/// A snapshot cannot be read, or is not clean: then there is nothing to be fast at.
pub fn run(snapshots: &[&str]) -> Result<()> {
    println!("| snapshot | modules | module memory | snapshot unpacked | read | verify | peak memory |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    snapshots.iter().try_for_each(|snapshot| {
        let mut run = command::cargo();
        run.args([
            "run",
            "--quiet",
            "--release",
            "--locked",
            "-p",
            "xtask",
            "--",
            "bench",
            "verify-one",
            snapshot,
        ]);
        command::succeed(&mut run)
    })
}

/// Measures one snapshot in this process, and prints a row.
///
/// # Errors
/// As [`run`].
pub fn one(path: &str) -> Result<()> {
    let start = Instant::now();
    let snapshot = Snapshot::open(path)?;
    let files = OwnFiles::of(&snapshot)?.context("the snapshot brings no module files along")?;
    let read = start.elapsed();
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..RUNS {
        let start = Instant::now();
        let verification = verify(&snapshot, &Options::default(), &mut |name| files.get(name))?;
        times.push(start.elapsed());
        ensure!(verification.is_clean(), "{path}: not clean, so its time means nothing");
        bytes = verification.total().total;
    }
    times.sort_unstable();
    let memory: u64 = snapshot.memory.records().iter().map(|record| record.bytes.len() as u64).sum();
    let symbols: u64 = snapshot.symbols.iter().map(|symbol| symbol.name.len() as u64 + 20).sum();
    let mut row = String::new();
    write!(
        row,
        "| {} | {} | {} | {} | {} | {} | {} |",
        Path::new(path).file_name().unwrap_or_default().to_string_lossy(),
        snapshot.modules.len(),
        mib(bytes),
        mib(memory + symbols),
        milliseconds(read),
        milliseconds(times[RUNS / 2]),
        peak().map_or_else(|| "?".into(), mib),
    )?;
    println!("{row}");
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

/// The most memory that this process has had, in bytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
