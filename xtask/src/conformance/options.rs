//! What the chore is asked to do.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use super::arch::ARCHES;
use super::boots::{self, Boot};
use super::states::{self, State};

/// The words behind `cargo xtask conformance`, understood.
#[derive(Debug)]
pub(super) struct Options {
    /// Which kernels to boot, in which states.
    pub(super) boots: Vec<&'static Boot>,
    /// Another kernel than the boots name.
    pub(super) kernel: Option<String>,
    /// Other modules than the boots name.
    pub(super) modules: Option<Vec<String>>,
    /// Where to put what comes out of the guests.
    pub(super) keep: Option<PathBuf>,
    /// Only bring out what the guests recorded, and check nothing.
    pub(super) snapshot_only: bool,
    /// Whether the results go into the repository's file of them.
    pub(super) record: bool,
    /// Only write the table of results.
    pub(super) table: bool,
}

/// What to draw.
#[derive(Debug, Default)]
struct Draws {
    states: Vec<State>,
    count: u64,
    seed: Option<u64>,
    committed: bool,
}

impl Options {
    pub(super) fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options {
            boots: boots::all().take(1).collect(),
            kernel: None,
            modules: None,
            keep: None,
            snapshot_only: false,
            record: false,
            table: false,
        };
        let mut draws = Draws::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value =
                || words.next().copied().with_context(|| format!("{word} needs a value\n{}", usage()));
            match word {
                "--boot" => options.boots = value()?.split(',').map(named).collect::<Result<_>>()?,
                "--arch" => options.boots = value()?.split(',').map(default_of).collect::<Result<_>>()?,
                "--kernel" => options.kernel = Some(value()?.to_owned()),
                "--modules" => options.modules = Some(value()?.split(',').map(str::to_owned).collect()),
                "--keep" => options.keep = Some(PathBuf::from(value()?)),
                "--states" => match value()? {
                    "committed" => draws.committed = true,
                    count => draws.count = count.parse().with_context(|| format!("--states {count}"))?,
                },
                "--seed" => draws.seed = Some(value()?.parse().context("--seed")?),
                "--state" => draws.states.push(value()?.parse().context("--state")?),
                "--record" => options.record = true,
                "--table" => options.table = true,
                "--snapshot-only" => options.snapshot_only = true,
                "--help" => bail!("{}", usage()),
                _ => bail!("{word:?} is not understood\n{}", usage()),
            }
        }
        if let Some(boots) = draws.boots()? {
            options.boots = boots;
        }
        Ok(options)
    }
}

impl Draws {
    /// The boots of all states that are asked for; `None` if none are.
    fn boots(self) -> Result<Option<Vec<&'static Boot>>> {
        let mut boots = Vec::new();
        for (index, state) in self.states.iter().enumerate() {
            boots.push(state.boot(format!("state-{index}"), false)?);
        }
        if self.committed {
            for (index, state) in states::committed()?.iter().enumerate() {
                boots.push(state.boot(format!("committed-{}", index + 1), true)?);
            }
        }
        // Without a seed, others than last time; which ones is printed.
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        let first = self.seed.unwrap_or_else(now);
        for seed in (first..).take(usize::try_from(self.count)?) {
            boots.push(states::draw(seed).boot(format!("seed-{seed}"), false)?);
        }
        Ok((!boots.is_empty()).then_some(boots))
    }
}

fn named(name: &str) -> Result<&'static Boot> {
    let boot = boots::all().find(|boot| boot.name == name);
    boot.with_context(|| format!("there is no boot {name:?}\n{}", usage()))
}

fn default_of(name: &str) -> Result<&'static Boot> {
    let boot = boots::default_of(name);
    boot.with_context(|| format!("there is no machine {name:?}\n{}", usage()))
}

fn usage() -> String {
    let boots: Vec<String> =
        boots::all().map(|boot| format!("                     {:13} {}", boot.name, boot.about)).collect();
    let machines = ARCHES.map(|arch| arch.name).join(", ");
    format!(
        "usage: cargo xtask conformance [OPTION]...\n  \
         --arch NAME,...    boot each of these machines once: {machines}\n  \
         --boot NAME,...    boot these, one after the other; without either, the first:\n{}\n  \
         --states N         boot N states by random, which only report; \"committed\": those of the gate\n  \
         --seed S           the seed of the first of them; the others have those that follow\n  \
         --state LINE       boot this one; once for each\n  \
         --record           keep results in xtask/conformance/results.tsv, and write the table in docs/verify.md\n  \
         --table            only write the table\n  \
         --kernel KERNEL    another kernel, as modmem's --kernel takes it (debian:6.12, a .deb)\n  \
         --modules NAME,... other modules\n  \
         --keep DIR         leave what the guests recorded in a folder for each boot below DIR\n  \
         --snapshot-only    check nothing, only record",
        boots.join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_boots_one_kernel_and_others_are_asked_for_by_name() {
        let plain = Options::parse(&[]).unwrap();
        assert_eq!(plain.boots.iter().map(|boot| boot.name).collect::<Vec<_>>(), ["default"]);
        let asked = Options::parse(&["--boot", "smp,its", "--kernel", "debian:6.1", "--modules", "ext4,xfs"])
            .unwrap();
        assert_eq!(asked.boots.iter().map(|boot| boot.name).collect::<Vec<_>>(), ["smp", "its"]);
        let machines = Options::parse(&["--arch", "arm64,s390x"]).unwrap();
        assert_eq!(machines.boots.iter().map(|boot| boot.name).collect::<Vec<_>>(), ["arm64", "s390x"]);
        assert_eq!((asked.kernel.as_deref(), asked.modules.unwrap().len()), (Some("debian:6.1"), 2));
    }

    #[test]
    fn states_are_drawn_by_seed_or_named_or_committed() {
        let drawn = Options::parse(&["--states", "3", "--seed", "7"]).unwrap();
        assert_eq!(
            drawn.boots.iter().map(|boot| boot.name).collect::<Vec<_>>(),
            ["seed-7", "seed-8", "seed-9"]
        );
        assert!(drawn.boots.iter().all(|boot| boot.drawn && !boot.gates));
        let line = drawn.boots[1].about;
        let again = Options::parse(&["--state", line]).unwrap();
        assert_eq!((again.boots.len(), again.boots[0].about), (1, line));
        let committed = Options::parse(&["--states", "committed"]).unwrap();
        assert!(committed.boots.len() == 2 && committed.boots.iter().all(|boot| boot.gates));
    }

    #[test]
    fn what_is_not_understood_is_told_with_the_usage() {
        for words in [&["--boot", "nowhere"][..], &["--kernel"], &["--arch", "vax"], &["ext4"], &["--seed"]] {
            let error = Options::parse(words).unwrap_err().to_string();
            assert!(error.contains("usage: cargo xtask conformance"), "{error}");
        }
    }
}
