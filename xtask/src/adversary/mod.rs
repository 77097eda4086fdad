//! Ways to hide on a machine that one owns, and whether `verify` says "verified" all the same.
//!
//! Each way edits a recorded machine as an intruder would who owns its kernel: code and data in memory, what the kernel's
//! own words say, and the texts below /proc that a snapshot is made of, all in agreement. A way is **found** if the verdict
//! is not "verified", and **named** if what it rests on is among what the verdict says that it believed. Anything else is
//! a miss.
//!
//! Each is tried twice: as if the kernel's image were at hand (the recording's own list of symbols stands for it), and
//! with nothing but the module files.

mod intruder;
mod machine;
mod ways;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};
use modmem_linux::verify::Belief;

use self::intruder::Intruder;
pub use self::machine::Machine;
pub use self::ways::{WAYS, Way};

/// What became of one way on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The verdict is not "verified".
    Found,
    /// It is, and names what it believed that was a lie.
    Named,
    /// It is, and nothing else is said.
    Missed,
    /// The machine has nothing that it could be done with.
    NotPossible,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Fate::Found => "found",
            Fate::Named => "named",
            Fate::Missed => "MISSED",
            Fate::NotPossible => "-",
        })
    }
}

/// Tries one way on one machine.
///
/// # Panics
/// What the intruder left behind is no snapshot.
pub fn attempt(way: &Way, machine: &Machine, with_image: bool) -> Fate {
    let mut intruder = Intruder::on(machine);
    if (way.act)(&mut intruder).is_none() {
        return Fate::NotPossible;
    }
    let expects_probes = intruder.expects_probes;
    let verification = machine.verify(intruder.snapshot(), with_image, expects_probes);
    if !verification.is_clean() {
        return Fate::Found;
    }
    match verification.beliefs.iter().any(way.named_by) {
        true => Fate::Named,
        false => Fate::Missed,
    }
}

/// Nothing that is believed could name it: it has to be found.
pub(crate) fn never(_: &Belief) -> bool {
    false
}

/// Tries all ways on recorded machines and prints what became of them; fails if one was missed.
///
/// # Errors
/// A way was missed, or a recording is none.
pub fn run(recordings: &[&str]) -> Result<()> {
    let mut missed = BTreeSet::new();
    let machines: Vec<Machine> =
        recordings.iter().map(|path| Machine::read(Path::new(path))).collect::<Result<_>>()?;
    println!("| way | what is done | {} |", names(&machines).join(" | "));
    println!("|---|---|{}", "---|".repeat(machines.len()));
    let mut counts = [0; 4];
    for way in WAYS {
        let mut cells = Vec::new();
        for machine in &machines {
            let fates = [true, false].map(|with_image| attempt(way, machine, with_image));
            for fate in &fates {
                counts[match fate {
                    Fate::Found => 0,
                    Fate::Named => 1,
                    Fate::Missed => 2,
                    Fate::NotPossible => 3,
                }] += 1;
                if *fate == Fate::Missed {
                    missed.insert(format!("{} on {}", way.name, machine.name));
                }
            }
            let [with, without] = fates;
            cells.push(if with == without { with.to_string() } else { format!("{with}, {without}") });
        }
        println!("| {} | {} | {} |", way.name, way.about, cells.join(" | "));
    }
    let [found, named, lost, impossible] = counts;
    println!(
        "\n{} ways on {} machines, with and without the kernel's image: {found} found, {named} named, {lost} missed, \
         {impossible} not possible there",
        WAYS.len(),
        machines.len()
    );
    ensure!(missed.is_empty(), "missed: {missed:#?}");
    Ok(())
}

fn names(machines: &[Machine]) -> Vec<&str> {
    machines.iter().map(|machine| machine.name.as_str()).collect()
}
