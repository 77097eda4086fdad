//! What the chore is asked to do.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::arch::ARCHES;
use super::boots::{self, Boot};

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
}

impl Options {
    pub(super) fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options {
            boots: boots::all().take(1).collect(),
            kernel: None,
            modules: None,
            keep: None,
            snapshot_only: false,
        };
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
                "--snapshot-only" => options.snapshot_only = true,
                "--help" => bail!("{}", usage()),
                _ => bail!("{word:?} is not understood\n{}", usage()),
            }
        }
        Ok(options)
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
    fn what_is_not_understood_is_told_with_the_usage() {
        for words in [&["--boot", "nowhere"][..], &["--kernel"], &["--arch", "vax"], &["ext4"]] {
            let error = Options::parse(words).unwrap_err().to_string();
            assert!(error.contains("usage: cargo xtask conformance"), "{error}");
        }
    }
}
