//! States by random: a kernel, a machine, a command line, settings, modules and what is done with them, in one line that
//! says everything that is needed to boot it again.
//!
//! ```text
//! kernel=debian:6.12 cpu=EPYC-Milan cpus=2 append=preempt=full+pti=on kptr=1 actions=instance+reload modules=ext4+xfs waits=yes
//! ```
//!
//! A seed is one line as long as nobody changes what is drawn from; the line stays the same state.

mod actions;
mod draw;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail, ensure};

use super::arch::{AMD64, ARM64, Arch, S390X};
use super::boots::{Boot, KernelFrom};
use super::checks::Measured;
use super::outcome::Outcome;
use super::run::Report;
pub(super) use draw::draw;

/// States that the gate boots.
const COMMITTED: &str = include_str!("../../../conformance/states");

/// Between the parts of a value: none of them has one.
const BETWEEN: char = '+';
/// Fewer modules than this prove nothing.
const LEAST: usize = 3;

/// One state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// As modmem's `--kernel` takes it.
    kernel: String,
    cpu: String,
    cpus: u32,
    /// Words for the kernel's command line.
    append: Vec<String>,
    kptr_restrict: Option<u8>,
    /// What is done when the modules are loaded: names of [`actions`].
    actions: Vec<String>,
    modules: Vec<String>,
    /// Whether a module of ours waits in its init function meanwhile.
    waits: bool,
}

impl State {
    /// As a boot of this name. What it borrows lives as long as the chore, which boots it once. Those of the gate fail
    /// the chore where a kernel lacks or refuses what is asked for, and where something differs.
    pub(super) fn boot(&self, name: String, gates: bool) -> Result<&'static Boot> {
        let setup = actions::script(&self.actions)?;
        let modules: Vec<&str> = self.modules.iter().map(|name| leaked(name.clone())).collect();
        Ok(Box::leak(Box::new(Boot {
            name: leaked(name),
            about: leaked(self.to_string()),
            arch: self.arch(),
            kernel: KernelFrom::Archive(leaked(self.kernel.clone())),
            cpu: leaked(self.cpu.clone()),
            cpus: self.cpus,
            append: leaked(self.append.join(" ")),
            kptr_restrict: self.kptr_restrict,
            setup: leaked(setup),
            expect: &[],
            modules: Box::leak(modules.into_boxed_slice()),
            least: LEAST,
            waits: self.waits,
            drawn: true,
            refuses: self.refuses(),
            finds: None,
            pokes: false,
            gates,
        })))
    }

    fn arch(&self) -> &'static Arch {
        match &self.kernel {
            kernel if kernel.contains("arm64") => &ARM64,
            kernel if kernel.contains("s390x") => &S390X,
            _ => &AMD64,
        }
    }

    fn has(&self, word: &str) -> bool {
        self.append.iter().any(|own| own == word)
    }

    /// What hides everything from a snapshot.
    fn refuses(&self) -> Option<&'static str> {
        if self.has("lockdown=confidentiality") {
            return Some("lockdown");
        }
        (self.kptr_restrict == Some(2)).then_some("kptr_restrict")
    }
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |words: &[String]| words.join(&BETWEEN.to_string());
        write!(f, "kernel={} cpu={} cpus={}", self.kernel, self.cpu, self.cpus)?;
        for (name, words) in [("append", &self.append), ("actions", &self.actions)] {
            if !words.is_empty() {
                write!(f, " {name}={}", list(words))?;
            }
        }
        if let Some(setting) = self.kptr_restrict {
            write!(f, " kptr={setting}")?;
        }
        let waits = if self.waits { "yes" } else { "no" };
        write!(f, " modules={} waits={waits}", list(&self.modules))
    }
}

impl FromStr for State {
    type Err = Error;

    fn from_str(line: &str) -> Result<State> {
        let mut state = State { cpu: "max".to_owned(), cpus: 1, ..State::default() };
        let list = |text: &str| text.split(BETWEEN).map(str::to_owned).collect();
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').with_context(|| format!("{word:?} has no value"))?;
            match name {
                "kernel" => value.clone_into(&mut state.kernel),
                "cpu" => value.clone_into(&mut state.cpu),
                "cpus" => state.cpus = value.parse().with_context(|| format!("{word:?}"))?,
                "append" => state.append = list(value),
                "kptr" => state.kptr_restrict = Some(value.parse().with_context(|| format!("{word:?}"))?),
                "actions" => state.actions = list(value),
                "modules" => state.modules = list(value),
                "waits" => state.waits = value == "yes",
                _ => bail!("{word:?} is no part of a state"),
            }
        }
        ensure!(!state.kernel.is_empty(), "{line:?} names no kernel");
        actions::script(&state.actions)?;
        Ok(state)
    }
}

/// Says in a line for programs what a state came to. What its guest recorded is kept if it did not pass, with the line
/// that boots it again; what passed needs no room.
pub(super) fn report(
    boot: &Boot,
    outcome: Outcome,
    report: Option<&Report>,
    seconds: u64,
    folder: &Path,
) -> Result<()> {
    let measured = report.map(Report::measured).unwrap_or_default();
    let Measured { modules, bytes, unexplained } = measured;
    let release = report.map_or("-", |report| &report.release);
    println!(
        "state\t{}\t{}\t{release}\t{modules}\t{bytes}\t{unexplained}\t{seconds}\t{}",
        boot.name,
        outcome.word(),
        boot.about
    );
    if !folder.exists() {
        return Ok(());
    }
    if outcome == Outcome::Passed {
        return std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string());
    }
    let again = format!("cargo xtask conformance --state '{}'\n", boot.about);
    println!("state {}: kept in {}; again: {}", boot.name, folder.display(), again.trim_end());
    std::fs::write(folder.join("again"), again)?;
    Ok(())
}

/// The states that the gate boots, one a line; `#` begins a remark.
pub(super) fn committed() -> Result<Vec<State>> {
    let lines = COMMITTED.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(State::from_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_its_line() {
        for seed in 0..300 {
            let state = draw(seed);
            assert_eq!(state.to_string().parse::<State>().unwrap(), state, "{seed}");
            assert_eq!(state, draw(seed), "{seed}");
            assert!(state.modules.len() >= LEAST && state.boot("x".into(), false).is_ok(), "{seed}");
        }
        for wrong in
            ["", "kernel", "cpus=2", "kernel=debian:6.12 cpus=x", "kernel=x actions=dance", "speed=2"]
        {
            assert!(wrong.parse::<State>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_gates_states_can_be_read() {
        assert_eq!(committed().unwrap().len(), 2);
    }

    #[test]
    fn what_hides_addresses_is_to_be_refused() {
        let refuses = |line: &str| line.parse::<State>().unwrap().refuses();
        assert_eq!(refuses("kernel=x kptr=2"), Some("kptr_restrict"));
        assert_eq!(refuses("kernel=x append=lockdown=confidentiality+quiet"), Some("lockdown"));
        assert_eq!(refuses("kernel=x kptr=1 append=lockdown=integrity"), None);
    }
}
