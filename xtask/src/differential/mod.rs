//! A running Linux as second opinion on any module that can be thought of: `cargo xtask differential`.
//!
//! User Mode Linux loads modules that are made by random, and says what it makes of each: the error, its log, names,
//! places and bytes of memory, and what user space sees. modmem must say the same.
//!
//! | file | what it does |
//! |---|---|
//! | `model` | a module that can be changed |
//! | `generate`, `scripts` | modules by random; several of them, loaded and unloaded in an order |
//! | `uml`, `guest`, `answers` | the kernel that is asked, how, and what it answers |
//! | `memory` | the kernel's memory, read from outside |
//! | `ours`, `rules` | what modmem says |
//! | `compare`, `views` | whether that is the same |
//! | `stricter` | where modmem is stricter on purpose |
//! | `work`, `totals`, `coverage` | many of them, what they came to, and what they did not reach |
//! | `shrink` | what differs, made small |

mod answers;
mod compare;
mod coverage;
mod generate;
mod guest;
mod memory;
mod model;
mod ours;
mod rules;
mod scripts;
mod shrink;
mod stricter;
mod totals;
mod uml;
mod views;
mod work;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use compare::Outcome;
use generate::{Bases, Case, Step};
use guest::Mounted;
use totals::Totals;
use uml::Uml;
use work::Asker;

use crate::conformance::outcome::NotToBeHad;

const USAGE: &str = "\
usage: cargo xtask differential [--suite SUITE] [--modules N] [--scripts N] [--seed S] [--only N,N] [--keep FOLDER]
       cargo xtask differential --table
  --suite SUITE   whose user-mode-linux to ask: bookworm (6.1), trixie (6.12), sid; trixie if nothing is said
  --modules N     how many modules, 1000 if neither modules nor scripts are asked for
  --scripts N     how many scripts, in each of which several modules are loaded and unloaded
  --seed S        which ones: the first has seed S
  --only N,N      with these of a seed's changes or steps only
  --keep FOLDER   where to put modules about which Linux and modmem differ, or of which Linux dies
  --table         write where modmem is stricter into docs/findings.md";

/// Differences that are shown, and those that are made small.
const SHOWN: usize = 400;
const SHRUNK: usize = 10;

/// What is asked.
#[derive(Debug, Default)]
struct Options {
    suite: String,
    modules: u64,
    scripts: u64,
    seed: u64,
    only: Option<Vec<usize>>,
    keep: Option<PathBuf>,
    table: bool,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options { suite: "trixie".to_owned(), seed: 1, ..Options::default() };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value =
                || words.next().copied().with_context(|| format!("{word} needs a value\n{USAGE}"));
            match word {
                "--suite" => value()?.clone_into(&mut options.suite),
                "--modules" => options.modules = value()?.parse().context("--modules")?,
                "--scripts" => options.scripts = value()?.parse().context("--scripts")?,
                "--seed" => options.seed = value()?.parse().context("--seed")?,
                "--only" => {
                    let numbers: Result<Vec<usize>, _> = value()?.split(',').map(str::parse).collect();
                    options.only = Some(numbers.context("--only")?);
                }
                "--keep" => options.keep = Some(PathBuf::from(value()?)),
                "--table" => options.table = true,
                _ => bail!("{USAGE}"),
            }
        }
        if (options.modules, options.scripts) == (0, 0) {
            options.modules = 1000;
        }
        Ok(options)
    }
}

/// Asks, and says what was found: whether nothing differs, or nothing if this machine has no kernel to ask.
///
/// # Errors
/// The words are not understood, or the guest's program stops.
pub fn run(words: &[&str]) -> Result<Option<bool>> {
    let options = Options::parse(words)?;
    if options.table {
        return stricter::write_table().map(|()| Some(true));
    }
    match ask(&options) {
        Ok(agrees) => Ok(Some(agrees)),
        Err(error) if error.is::<NotToBeHad>() => {
            println!("differential: SKIPPED: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Modules or scripts.
type Make = fn(u64, &Bases, Option<&[usize]>) -> Case;

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
    let _mounted = Mounted::of(&uml.root)?;
    let mut all = Totals::default();
    let kinds: [(&str, u64, Make); 2] =
        [("modules", options.modules, generate::case), ("scripts", options.scripts, scripts::script)];
    for (what, count, make) in kinds {
        if count > 0 {
            all.append(kind(options, &uml, &bases, what, count, make)?);
        }
    }
    all.print_coverage()?;
    Ok(all.agree())
}

/// Asks about modules, or about scripts.
fn kind(options: &Options, uml: &Uml, bases: &Bases, what: &str, count: u64, make: Make) -> Result<Totals> {
    let start = Instant::now();
    let (totals, differing) = (Mutex::new(Totals::default()), Mutex::new(Vec::new()));
    let one = |seed: u64| make(seed, bases, options.only.as_deref());
    work::ask_all(uml, options.seed..options.seed + count, &one, &|case, judged| {
        totals.lock().unwrap_or_else(PoisonError::into_inner).add(case.seed, &judged);
        let found = judged.outcomes.into_iter().find_map(|outcome| match outcome {
            Outcome::Differs(what) => Some(what),
            Outcome::Deadly => Some("Linux dies of it".to_owned()),
            _ => None,
        });
        if let Some(found) = found {
            keep(options, &case)?;
            differing.lock().unwrap_or_else(PoisonError::into_inner).push((case, found));
        }
        Ok(())
    })?;
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut differing = differing.into_inner().unwrap_or_else(PoisonError::into_inner);
    differing.sort_by_key(|(case, _)| case.seed);
    for (index, (case, found)) in differing.into_iter().take(SHOWN).enumerate() {
        println!("seed {}: {} with {}: {found}", case.seed, case.base, case.words());
        if index < SHRUNK && case.changes.len() > 1 {
            let seed = case.seed;
            let make = |only: &[usize]| make(seed, bases, Some(only));
            let small = shrink::shrink(&mut Asker::new(uml, 0)?, case, make)?;
            let numbers: Vec<String> = small.changes.iter().map(|(number, _)| number.to_string()).collect();
            let (suite, only) = (&options.suite, numbers.join(","));
            println!("  the smallest: {}", small.words());
            println!("  cargo xtask differential --suite {suite} --{what} 1 --seed {seed} --only {only}");
        }
    }
    totals.print(what, start.elapsed().as_secs_f64());
    Ok(totals)
}

fn keep(options: &Options, case: &Case) -> Result<()> {
    let Some(folder) = &options.keep else { return Ok(()) };
    std::fs::create_dir_all(folder)?;
    for (number, step) in case.steps.iter().enumerate() {
        if let Step::Load(file) = step {
            std::fs::write(folder.join(format!("{}-{number}.ko", case.seed)), file).context("--keep")?;
        }
    }
    Ok(())
}

/// Where kernels to ask lie.
fn work_folder() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let work = target.join("differential");
    std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    Ok(work.canonicalize()?)
}
