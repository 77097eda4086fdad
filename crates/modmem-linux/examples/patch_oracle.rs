//! What a monitor that traps writes to kernel text would say of those that a kernel really made:
//!
//!     cargo run --release -p modmem-linux --example patch_oracle -- debian:6.12 host.mms writes
//!
//! `host.mms` is what `modmem snapshot` made. `writes` has a line for each write, `at=0xADDRESS old=0xWORD new=0xWORD length=0xN`, as a probe prints them on x86-64:
//!
//!     echo 'p:poke __text_poke at=%si old=+0(%si):x64 new=+0(%dx):x64 length=%cx' > /sys/kernel/tracing/kprobe_events
//!
//! Or it is another snapshot, taken of the same machine before or after: then each place that may change is compared.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use modmem::RunAddr;
use modmem::finalize::LiveText;
use modmem::guest::GuestMemory as _;
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Options, SnapshotGuest, live_text, verify};
use modmem_linux::{Kernel, OpenOptions};

/// A write: where, what was there, what comes there.
type Write = (RunAddr, Vec<u8>, Vec<u8>);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, snapshot, writes] = arguments.as_slice() else {
        eprintln!("usage: patch_oracle KERNEL SNAPSHOT WRITES|SNAPSHOT");
        return ExitCode::FAILURE;
    };
    match run(kernel, snapshot, writes) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// How many writes to modules were refused.
fn run(kernel: &str, snapshot: &str, writes: &str) -> Result<usize, Box<dyn Error>> {
    let snapshot = Snapshot::open(snapshot)?;
    let kernel = Kernel::open(&[kernel], &OpenOptions::default())?;
    let mut file = |name: &str| kernel.module(name).map(|module| kernel.read(module)).transpose();
    let options = Options::default();
    // What the code may become follows from a verified machine's modules, each linked and finalized as that kernel did.
    let verification = verify(&snapshot, &options, &mut file)?;
    let modules = live_text(&snapshot, &verification, &options, &mut file)?;
    // Later only symbols of the kernel are looked up: a monitor has them in a table of its own.
    let guest = SnapshotGuest::new(&snapshot);

    let writes = match Snapshot::open(writes) {
        Ok(other) => differences(&modules, &guest, &SnapshotGuest::new(&other)),
        Err(_) => recorded(&std::fs::read_to_string(writes)?)?,
    };
    let (mut permitted, mut refused, mut elsewhere) = (BTreeMap::<_, usize>::new(), 0, 0);
    for (at, old, new) in writes {
        let Some((name, text)) = modules.iter().find(|(_, text)| covers(text, at)) else {
            elsewhere += 1;
            continue;
        };
        match text.permits(&guest, at, &old, &new) {
            Ok(permit) => *permitted.entry(permit.rule).or_default() += 1,
            Err(refusal) => {
                refused += 1;
                println!("{at} {name}: {old:02x?} to {new:02x?}: {refusal}");
            }
        }
    }
    permitted.iter().for_each(|(rule, count)| println!("{count:8} permitted: {rule}"));
    println!("{refused:8} refused");
    println!("{elsewhere:8} elsewhere: the kernel's own text, and trampolines");
    Ok(refused)
}

/// Whether an address lies among the places of a module that may change.
fn covers(text: &LiveText, at: RunAddr) -> bool {
    let (first, last) = (text.sites().next(), text.sites().last());
    first.zip(last).is_some_and(|(first, last)| (first.0..last.0 + last.1 as u64).contains(&at))
}

/// Each place that one machine has otherwise than the other, there and back.
fn differences(
    modules: &[(String, LiveText)],
    one: &SnapshotGuest<'_>,
    other: &SnapshotGuest<'_>,
) -> Vec<Write> {
    let mut writes = Vec::new();
    for (at, length, _) in modules.iter().flat_map(|(_, text)| text.sites()) {
        let (mut here, mut there) = (vec![0; length], vec![0; length]);
        if one.read(at, &mut here) && other.read(at, &mut there) && here != there {
            writes.extend([(at, here.clone(), there.clone()), (at, there, here)]);
        }
    }
    writes
}

fn recorded(text: &str) -> Result<Vec<Write>, String> {
    let write = |line: &str| {
        let field = |name: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix("=0x"));
            u64::from_str_radix(word?, 16).ok()
        };
        let length = usize::try_from(field("length")?).ok().filter(|length| (1..=8).contains(length))?;
        let bytes = |name| Some(field(name)?.to_le_bytes()[..length].to_vec());
        Some((RunAddr(field("at")?), bytes("old")?, bytes("new")?))
    };
    let lines = text.lines().filter(|line| line.contains("at=0x"));
    lines.map(|line| write(line).ok_or_else(|| format!("no write: {line}"))).collect()
}
