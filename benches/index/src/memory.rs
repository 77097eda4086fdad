//! What a structure costs in memory: bytes that it has asked for, and bytes that are resident because of it.
//!
//! Each structure is built in a process of its own, so that none profits from what another has given back. Resident
//! are the anonymous pages that the process has more than before; free memory is given back to the system first, and
//! again at the end.
#![expect(unsafe_code, reason = "the C library's allocator has a C interface")]

use std::process::Command;

use crate::contenders::Structure;
use crate::counting;
use crate::workload::{Layout, Workload};

/// The word that makes this program build one structure and say what it took.
pub(crate) const CHILD: &str = "measure-memory";

/// Bytes of one structure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    pub(crate) requested: usize,
    pub(crate) resident: usize,
}

/// Starts a process that builds the structure and measures it.
pub(crate) fn measure(structure: Structure, layout: Layout, count: usize) -> Result<Footprint, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let place = |known: Option<usize>| known.expect("what is measured is in the lists").to_string();
    let structure_place = place(Structure::ALL.iter().position(|&other| other == structure));
    let layout_place = place(Layout::ALL.iter().position(|&other| other == layout));
    let arguments = [CHILD, &structure_place, &layout_place, &count.to_string()];
    let output = Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<usize> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [requested, resident] => Ok(Footprint { requested, resident }),
        _ => Err(format!("{}: {}", structure.name(), String::from_utf8_lossy(&output.stderr))),
    }
}

/// The child's part.
pub(crate) fn child(arguments: &[String]) -> Result<(), String> {
    let numbers: Vec<usize> = arguments.iter().filter_map(|word| word.parse().ok()).collect();
    let &[structure, layout, count] = &numbers[..] else {
        return Err(format!("{CHILD} is for this program itself"));
    };
    let workload = Workload::new(Layout::ALL[layout], count);
    give_free_memory_back();
    let (used, resident) = (counting::bytes_in_use(), anonymous_bytes()?);
    let contender = Structure::ALL[structure].build(&workload);
    give_free_memory_back();
    println!("{} {}", counting::bytes_in_use() - used, anonymous_bytes()?.saturating_sub(resident));
    drop(contender);
    Ok(())
}

fn give_free_memory_back() {
    // SAFETY: it takes numbers. A fixed threshold: large blocks always come from the system, and go back to it.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10) };
    // SAFETY: it only gives back what is free.
    unsafe { libc::malloc_trim(0) };
}

fn anonymous_bytes() -> Result<usize, String> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.map(|kilobytes| kilobytes << 10).ok_or_else(|| "smaps_rollup has another form".to_owned())
}
