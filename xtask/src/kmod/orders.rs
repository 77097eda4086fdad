//! The order in which modprobe loads a module with all that it needs.

use std::collections::HashSet;

use anyhow::Result;
use modmem_linux::{Kernel, ModuleFile};

use super::root::{DepmodRoot, output};
use super::{Tally, in_parallel};

/// Compares the order of each module, asked for alone, in each of two kernels that have the same modules.
pub(super) fn compare(root: &DepmodRoot, kernels: [&Kernel; 2]) -> Result<[Tally; 2]> {
    let modules: Vec<&ModuleFile> = kernels[1].modules().collect();
    // Once for all: a scan, or depmod's files.
    for kernel in kernels {
        kernel.load_order_of(&[modules[0].clone()])?;
    }
    let tallies = in_parallel(&modules, |part| {
        let mut tallies = [Tally::default(), Tally::default()];
        for module in part {
            let theirs = shown(root, module.name())?;
            for (kernel, tally) in kernels.iter().zip(&mut tallies) {
                let ours = planned(kernel, module.name());
                tally.add(|| format!("{}: kmod {theirs:?}, modmem {ours:?}", module.name()), ours == theirs);
            }
        }
        Ok(tallies)
    })?;
    let mut all = [Tally::default(), Tally::default()];
    for [with, without] in tallies {
        let [a, b] = all;
        all = [a.join(with), b.join(without)];
    }
    Ok(all)
}

/// The paths that modprobe says it would load, each once: what is loaded is not loaded again.
fn shown(root: &DepmodRoot, name: &str) -> Result<Vec<String>> {
    let text = output(root.modprobe()?.args(["--show-depends", name]), true)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let folder = format!("{}/", root.modules().display());
    let paths = text.lines().filter_map(|line| line.strip_prefix("insmod ")?.trim().strip_prefix(&folder));
    let mut seen = HashSet::new();
    Ok(paths.filter(|path| seen.insert(*path)).map(str::to_owned).collect())
}

fn planned(kernel: &Kernel, name: &str) -> Vec<String> {
    match kernel.load_order(&[name]) {
        Ok(plan) => plan.modules.iter().map(|planned| planned.module.path().to_owned()).collect(),
        Err(error) => vec![error.to_string()],
    }
}
