//! What `load` makes of the modules of recorded machines, compared with the machines' memory.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use modmem::MemoryKind;
use modmem::finalize::HookKind;
use modmem::verify::{ModuleReport, Rule, Tally};
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Checked, Options, Outcome, OwnFiles, Verification, compare_loaded, verify};

/// How much of the modules is as loading makes it.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Modules that were compared.
    pub modules: usize,
    /// Modules that could not be, and why.
    pub not_compared: Vec<String>,
    /// All their memories.
    pub tally: Tally,
    /// What differs, a line each.
    pub differences: Vec<String>,
    /// Bytes of probes that were set on it since.
    probed: u64,
    probes: BTreeSet<u64>,
}

/// Bytes of a probe that is a jump.
const PROBE: u64 = 5;

fn probes(verification: &Verification) -> BTreeSet<u64> {
    let reports = verification.modules.iter().filter_map(|checked| match &checked.outcome {
        Outcome::Compared(report) => Some(report),
        _ => None,
    });
    let hooks = reports.flat_map(|report| &report.hooks);
    hooks.filter(|hook| hook.kind == HookKind::Kprobe && hook.explained).map(|hook| hook.site.0).collect()
}

impl Loaded {
    /// Sums up what became of each module. Probes are set on what has been loaded: those that the verification knows are
    /// counted apart.
    pub fn of(checked: &[Checked], verification: &Verification) -> Loaded {
        let mut loaded = Loaded { probes: probes(verification), ..Loaded::default() };
        for Checked { name, outcome } in checked {
            match outcome {
                Outcome::Compared(report) => loaded.add(name, report),
                Outcome::NoFile => loaded.not_compared.push(format!("{name}: no file")),
                Outcome::NotComparable(why) => loaded.not_compared.push(format!("{name}: {why}")),
            }
        }
        loaded
    }

    fn add(&mut self, name: &str, report: &ModuleReport) {
        self.modules += 1;
        self.tally.add(&report.total());
        for one in &report.unexplained {
            let bytes =
                one.expected.iter().zip(&one.found).enumerate().filter(|(_, (ours, found))| ours != found);
            let differing: Vec<u64> = bytes.map(|(at, _)| one.address.0 + at as u64).collect();
            let is_probed = |at: &u64| self.probes.range(at.saturating_sub(PROBE - 1)..=*at).next().is_some();
            if differing.iter().all(is_probed) {
                self.probed += differing.len() as u64;
                self.tally.unexplained -= differing.len() as u64;
                continue;
            }
            self.differences.push(format!(
                "{name}: {} at {}: {:02x?} where loading makes {:02x?} ({:?})",
                one.kind, one.address, one.found, one.expected, one.why
            ));
        }
    }

    /// What was compared, in a line.
    pub fn line(&self) -> String {
        let by_rules: u64 = Rule::ALL.into_iter().map(|rule| self.tally.explained_by(rule)).sum();
        format!(
            "{} modules, {} bytes, {} as relocated, {by_rules} as finalized, {} probed since, {} otherwise",
            self.modules,
            self.tally.identical + by_rules + self.tally.unexplained + self.tally.unproven_bytes(),
            self.tally.identical,
            self.probed,
            self.tally.unexplained,
        )
    }
}

/// Compares the modules of snapshots that bring their module files along.
///
/// # Errors
/// A snapshot cannot be read, or something differs.
pub fn run(snapshots: &[&str]) -> Result<()> {
    let mut wrong = 0;
    for path in snapshots {
        let snapshot = Snapshot::open(path)?;
        let files = OwnFiles::of(&snapshot)?.context("the snapshot brings no module files along")?;
        let options = Options::default();
        let verification = verify(&snapshot, &options, &mut |name| files.get(name))?;
        let checked = compare_loaded(&snapshot, &verification, &options, &mut |name| files.get(name))?;
        let loaded = Loaded::of(&checked, &verification);
        println!("{path}: {}", loaded.line());
        for line in loaded.not_compared.iter().chain(loaded.differences.iter().take(30)) {
            println!("  {line}");
        }
        for kind in MemoryKind::ALL {
            let memories = checked.iter().filter_map(|checked| match &checked.outcome {
                Outcome::Compared(report) => report.memories[kind].as_ref(),
                _ => None,
            });
            let differing: u64 = memories.map(|memory| memory.tally.unexplained).sum();
            if differing > 0 {
                println!("  {kind}: {differing} bytes differ");
            }
        }
        wrong += loaded.not_compared.len() + usize::from(loaded.tally.unexplained > 0);
    }
    match wrong {
        0 => Ok(()),
        _ => bail!("what is loaded is not what was running"),
    }
}
