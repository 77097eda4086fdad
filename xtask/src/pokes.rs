//! Writes to text that a booted kernel made, and others that none would make, put to the patch oracle.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use modmem::RunAddr;
use modmem::finalize::{LiveText, Rule, Step};
use modmem::guest::GuestMemory as _;
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{FileSource, Options, OwnFiles, SnapshotGuest, live_text, verify};

/// Writes that no kernel makes.
const FOREIGN: u64 = 10_000;

/// One write, as `xtask/conformance/actions/pokes.sh` has the kernel record it.
#[derive(Clone, Debug)]
pub struct Poke {
    at: RunAddr,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// What became of all of them.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Writes to modules that were permitted, by rule.
    permitted: BTreeMap<Rule, usize>,
    /// Of these, those that were the last of a change.
    done: usize,
    /// Writes to the kernel's own text, which is none of ours.
    of_kernel: usize,
    /// What was refused although the kernel did it, or permitted although no kernel does it: a line each.
    pub wrong: Vec<String>,
    foreign: u64,
    nanoseconds: u128,
}

impl Outcome {
    /// In a line.
    pub fn line(&self) -> String {
        let all: usize = self.permitted.values().sum();
        let rules: Vec<String> =
            self.permitted.iter().map(|(rule, count)| format!("{count} {rule}")).collect();
        format!(
            "{all} writes to modules permitted ({}; {} changes), {} to the kernel itself; {} foreign ones refused, {} ns each",
            rules.join(", "),
            self.done,
            self.of_kernel,
            self.foreign,
            self.nanoseconds / u128::from(self.foreign.max(1)),
        )
    }

    /// Whether enough was seen to say anything.
    pub fn saw(&self, rule: Rule) -> bool {
        self.permitted.get(&rule).is_some_and(|count| *count > 20)
    }
}

/// Reads the kernel's own list of its writes.
///
/// # Errors
/// A line is none.
pub fn parse(text: &str) -> Result<Vec<Poke>> {
    text.lines()
        .filter(|line| line.contains(" at="))
        .map(|line| poke(line).with_context(|| line.to_owned()))
        .collect()
}

fn poke(line: &str) -> Option<Poke> {
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=0x"))?;
        u64::from_str_radix(rest.split_whitespace().next()?, 16).ok()
    };
    let length = usize::try_from(field("length")?).ok().filter(|length| (1..=8).contains(length))?;
    let bytes = |name| Some(field(name)?.to_le_bytes()[..length].to_vec());
    Some(Poke { at: RunAddr(field("at")?), old: bytes("old")?, new: bytes("new")? })
}

/// Writes that a kernel made.
#[derive(Debug)]
pub enum Writes<'w> {
    /// As it recorded them.
    Recorded(Vec<Poke>),
    /// Those that make one machine of what it was at another time, and back.
    Between(&'w Snapshot),
}

/// Each place that one machine has otherwise than the other, there and back.
fn differences(live: &[(String, LiveText)], here: &SnapshotGuest<'_>, before: &Snapshot) -> Vec<Poke> {
    let before = SnapshotGuest::new(before);
    let mut pokes = Vec::new();
    for (at, length, _) in live.iter().flat_map(|(_, live)| live.sites()) {
        let (mut old, mut new) = (vec![0; length], vec![0; length]);
        if before.read(at, &mut old) && here.read(at, &mut new) && old != new {
            pokes.push(Poke { at, old: old.clone(), new: new.clone() });
            pokes.push(Poke { at, old: new, new: old });
        }
    }
    pokes
}

/// Puts the writes that a kernel made, and as many foreign ones as there are to be, to the oracle of a snapshot's modules.
///
/// # Errors
/// The snapshot cannot be verified.
pub fn check(snapshot: &Snapshot, files: &mut FileSource<'_>, writes: Writes<'_>) -> Result<Outcome> {
    let options = Options { listed_kprobes: true, ..Options::default() };
    let verification = verify(snapshot, &options, files)?;
    let live = live_text(snapshot, &verification, &options, files)?;
    let guest = SnapshotGuest::new(snapshot);
    let kernel = snapshot.kernel_place().context("the snapshot does not tell where its kernel lies")?;
    let mut outcome = Outcome::default();
    let of = |at: RunAddr| {
        live.iter().find(|(_, live)| {
            live.sites()
                .next()
                .zip(live.sites().last())
                .is_some_and(|(first, last)| (first.0..last.0 + last.1 as u64).contains(&at))
        })
    };
    let pokes = match writes {
        Writes::Recorded(pokes) => pokes,
        Writes::Between(before) => differences(&live, &guest, before),
    };
    for poke in &pokes {
        if (kernel.start..kernel.end).contains(&poke.at) {
            outcome.of_kernel += 1;
            continue;
        }
        let Some((module, live)) = of(poke.at) else {
            // Trampolines that ftrace makes are no module's.
            outcome.of_kernel += 1;
            continue;
        };
        match live.permits(&guest, poke.at, &poke.old, &poke.new) {
            Ok(permit) => {
                *outcome.permitted.entry(permit.rule).or_default() += 1;
                outcome.done += usize::from(matches!(permit.step, Step::Done | Step::Whole));
            }
            Err(refusal) => {
                outcome.wrong.push(format!("{module}: {poke:x?} of the kernel's refused: {refusal}"))
            }
        }
    }
    foreign(&live, &guest, &mut outcome);
    Ok(outcome)
}

/// Writes that look like the kernel's and are none.
fn foreign(live: &[(String, LiveText)], guest: &SnapshotGuest<'_>, outcome: &mut Outcome) {
    let mut random = crate::random::Random::of(0x706f_6b65);
    let live: Vec<&LiveText> = live.iter().map(|(_, live)| live).filter(|live| !live.is_empty()).collect();
    if live.is_empty() {
        return;
    }
    while outcome.foreign < FOREIGN {
        let text = live[random.below(live.len())];
        let (site, length, _) = text.sites().nth(random.below(text.len())).expect("below its number");
        let mut old = vec![0; length];
        if !guest.read(site, &mut old) {
            continue;
        }
        let mut new = old.clone();
        let at = match random.below(4) {
            // A breakpoint beside a site.
            0 => {
                let at = site + length as u64 + random.below(3) as u64;
                let mut byte = [0];
                if text.site(at).is_some() || !guest.read(at, &mut byte) || byte == [0xcc] {
                    continue;
                }
                (old, new) = (byte.to_vec(), vec![0xcc]);
                at
            }
            // Elsewhere than to a function, in one write or behind a breakpoint.
            1 if length > 4 => {
                let start = length - 4;
                for byte in &mut new[start..] {
                    *byte = random.below(256) as u8;
                }
                (old, new) = (old[start..].to_vec(), new[start..].to_vec());
                site + start as u64
            }
            // Any other instruction.
            2 if length > 1 => {
                new.iter_mut().for_each(|byte| *byte = random.below(256) as u8);
                site
            }
            // One bit.
            _ => {
                let bit = random.below(8 * length);
                new[bit / 8] ^= 1 << (bit % 8);
                site
            }
        };
        let start = Instant::now();
        let verdict = text.permits(guest, at, &old, &new);
        outcome.nanoseconds += start.elapsed().as_nanos();
        outcome.foreign += 1;
        if let Ok(permit) = verdict {
            outcome.wrong.push(format!("{at}: {old:02x?} to {new:02x?} permitted: {permit:?}"));
        }
    }
}

/// Replays what a kernel recorded.
///
/// # Errors
/// The files cannot be read, or the oracle is wrong about a write.
pub fn run(snapshot: &str, log: &str) -> Result<()> {
    let snapshot = Snapshot::open(snapshot)?;
    let files = OwnFiles::of(&snapshot)?.context("the snapshot brings no module files along")?;
    let pokes = parse(&std::fs::read_to_string(log).with_context(|| log.to_owned())?)?;
    let outcome = check(&snapshot, &mut |name| files.get(name), Writes::Recorded(pokes))?;
    println!("{}", outcome.line());
    outcome.wrong.iter().take(20).for_each(|line| println!("  {line}"));
    if !outcome.wrong.is_empty() {
        bail!("{} writes were judged wrongly", outcome.wrong.len());
    }
    Ok(())
}
