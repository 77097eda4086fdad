//! A running Linux as second opinion on any module that can be thought of: `cargo xtask differential`.
//!
//! User Mode Linux loads modules that are made by random, and says what it makes of each: the error, its log, names,
//! places and bytes of memory. modmem must say the same.
//!
//! | file | what it does |
//! |---|---|
//! | `model` | a module that can be changed |
//! | `generate` | modules by random |
//! | `uml`, `answers` | the kernel that is asked, and what it answers |
//! | `ours` | what modmem says |
//! | `compare` | whether that is the same |

mod answers;
mod compare;
mod generate;
mod model;
mod ours;
mod uml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use answers::Answer;
use compare::{Outcome, STRICTER};
use generate::Case;
use ours::Ours;
use uml::Uml;

use crate::conformance::outcome::NotToBeHad;

const USAGE: &str = "\
usage: cargo xtask differential [--suite SUITE] [--modules N] [--seed S] [--keep FOLDER]
  --suite SUITE   whose user-mode-linux to ask: bookworm (6.1), trixie (6.12), sid; trixie if nothing is said
  --modules N     how many modules, 1000 if nothing is said
  --seed S        which ones: the first has seed S
  --keep FOLDER   where to put modules about which Linux and modmem differ";

/// Modules that are asked about in one start of the kernel.
const BATCH: usize = 500;
/// Differences that are shown.
const SHOWN: usize = 400;

/// What is asked.
#[derive(Debug)]
struct Options {
    suite: String,
    modules: u64,
    seed: u64,
    keep: Option<PathBuf>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options { suite: "trixie".to_owned(), modules: 1000, seed: 1, keep: None };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value =
                || words.next().copied().with_context(|| format!("{word} needs a value\n{USAGE}"));
            match word {
                "--suite" => value()?.clone_into(&mut options.suite),
                "--modules" => options.modules = value()?.parse().context("--modules")?,
                "--seed" => options.seed = value()?.parse().context("--seed")?,
                "--keep" => options.keep = Some(PathBuf::from(value()?)),
                _ => bail!("{USAGE}"),
            }
        }
        Ok(options)
    }
}

/// What all modules came to.
#[derive(Debug, Default)]
struct Totals {
    loaded: u64,
    bytes: u64,
    /// By rule and number.
    refused: BTreeMap<(String, i32), u64>,
    otherwise: BTreeMap<(String, i32), u64>,
    unplaced: u64,
    stricter: BTreeMap<&'static str, u64>,
    /// Seeds, by what differs, with numbers left out.
    differs: BTreeMap<String, Vec<u64>>,
    died: Vec<u64>,
    /// Those of which modmem says nothing.
    deadly: Vec<u64>,
}

/// Asks, and says what was found: whether nothing differs, or nothing if this machine has no kernel to ask.
///
/// # Errors
/// The words are not understood, or the guest's program stops.
pub fn run(words: &[&str]) -> Result<Option<bool>> {
    match ask(&Options::parse(words)?) {
        Ok(agrees) => Ok(Some(agrees)),
        Err(error) if error.is::<NotToBeHad>() => {
            println!("differential: SKIPPED: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn ask(options: &Options) -> Result<bool> {
    let work = work_folder()?;
    let mut uml = Uml::of_suite(&options.suite, &work)?;
    let bases = uml.bases()?;
    println!(
        "differential: Linux {} of {}, {} modules to begin with",
        uml.release,
        options.suite,
        bases.len()
    );
    let mut ours = Ours::new(&uml)?;
    let (start, mut totals, mut shown) = (Instant::now(), Totals::default(), 0);
    let seeds: Vec<u64> = (options.seed..options.seed + options.modules).collect();
    for batch in seeds.chunks(BATCH) {
        let cases: Vec<Case> =
            batch.iter().map(|seed| generate::case(*seed, &bases, uml.profile.switches.prel32)).collect();
        let mut from = 0;
        while from < cases.len() {
            let answers = uml.ask(&cases, from)?;
            for (&index, answer) in &answers.of {
                let Some((case, seed)) = cases.get(index).zip(batch.get(index)) else { continue };
                let verdict = ours.ask(&case.file, answer)?;
                let outcome = compare::compare(&verdict, answer);
                if let Outcome::Differs(what) = &outcome
                    && shown < SHOWN
                {
                    shown += 1;
                    println!("seed {seed}: {} with {}: {what}", case.base, case.changes.join("; "));
                    keep(options, *seed, case)?;
                }
                totals.add(*seed, outcome);
            }
            from = match (answers.complete, answers.died_of) {
                (true, _) => cases.len(),
                (false, Some(index)) => {
                    if let Some((case, seed)) = cases.get(index).zip(batch.get(index)) {
                        let verdict = ours.ask(&case.file, &Answer::default())?;
                        let outcome = compare::deadly(&verdict);
                        if let Outcome::Differs(what) = &outcome {
                            println!("seed {seed}: {} with {}: {what}", case.base, case.changes.join("; "));
                            keep(options, *seed, case)?;
                        }
                        totals.died.push(*seed);
                        totals.add(*seed, outcome);
                    }
                    index + 1
                }
                (false, None) => bail!("the kernel stopped between two modules"),
            };
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    totals.print(options.modules, seconds);
    Ok(totals.differs.is_empty())
}

fn keep(options: &Options, seed: u64, case: &Case) -> Result<()> {
    let Some(folder) = &options.keep else { return Ok(()) };
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(format!("{seed}.ko")), &case.file).context("--keep")
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        match outcome {
            Outcome::Loaded { bytes } => {
                self.loaded += 1;
                self.bytes += bytes;
            }
            Outcome::Refused { errno, rule } => *self.refused.entry((rule, errno)).or_default() += 1,
            Outcome::RefusedOtherwise { rule, errno } => {
                *self.otherwise.entry((rule, errno)).or_default() += 1
            }
            Outcome::Deadly => self.deadly.push(seed),
            Outcome::Unplaced => self.unplaced += 1,
            Outcome::Stricter { rule } => *self.stricter.entry(rule).or_default() += 1,
            Outcome::Differs(what) => {
                let kind: String =
                    what.chars().filter(|character| !character.is_ascii_digit()).take(100).collect();
                self.differs.entry(kind).or_default().push(seed);
            }
        }
    }

    fn print(&self, modules: u64, seconds: f64) {
        println!("loaded by both: {}, {} bytes equal", self.loaded, self.bytes);
        println!("refused by both:");
        for ((rule, errno), count) in &self.refused {
            println!("  {count:>7}  {rule} ({errno})");
        }
        println!("refused by both, with other numbers (by modmem's rule, Linux's number):");
        for ((rule, errno), count) in &self.otherwise {
            println!("  {count:>7}  {rule} ({errno})");
        }
        println!("refused by Linux for a value that depends on its place: {}", self.unplaced);
        if !self.stricter.is_empty() {
            println!("refused by modmem on purpose:");
            for (rule, count) in &self.stricter {
                let why = STRICTER.iter().find(|(known, _)| known == rule).map_or("", |(_, why)| *why);
                println!("  {count:>7}  {rule}: {why}");
            }
        }
        if !self.deadly.is_empty() {
            println!("Linux dies of these, and modmem loads them: seeds {:?}", self.deadly);
        }
        for (kind, seeds) in &self.differs {
            println!("DIFFERENT {:>5}  {kind} (seed {})", seeds.len(), seeds[0]);
        }
        let differs: usize = self.differs.values().map(Vec::len).sum();
        println!(
            "differential: {modules} modules, {differs} differ, Linux died of {}, {seconds:.0} s ({:.0} a second)",
            self.died.len(),
            modules as f64 / seconds.max(0.001)
        );
    }
}

/// Where kernels to ask lie.
fn work_folder() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let work = target.join("differential");
    std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    Ok(work.canonicalize()?)
}
