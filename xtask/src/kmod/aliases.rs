//! The modules that an alias stands for.

use std::collections::{BTreeSet, HashSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use modmem_linux::Kernel;

use super::root::{DepmodRoot, output};
use super::{Tally, in_parallel};

/// Names that one modprobe is asked for, far below what a command line may have.
const AT_ONCE: usize = 500;

/// Compares what each alias of one of depmod's files stands for, in each of two kernels that have the same modules.
pub(super) fn compare(root: &DepmodRoot, file: &str, kernels: [&Kernel; 2]) -> Result<[Tally; 2]> {
    let text = fs::read_to_string(root.modules().join(file))?;
    let patterns = text.lines().filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '));
    let names: BTreeSet<String> = patterns.map(|(pattern, _)| one(pattern)).collect();
    let names: Vec<String> = names.into_iter().collect();
    let mark = mark(&text, kernels[0])?;
    // Read what there is to read before many do.
    kernels.iter().for_each(|kernel| drop(kernel.find("symbol:none")));
    let tallies = in_parallel(&names, |part| {
        let mut tallies = [Tally::default(), Tally::default()];
        for batch in part.chunks(AT_ONCE) {
            for (name, theirs) in batch.iter().zip(resolved(root, batch, &mark)?) {
                for (kernel, tally) in kernels.iter().zip(&mut tallies) {
                    let ours = found(kernel, name);
                    tally.add(|| format!("{name}: kmod {theirs:?}, modmem {ours:?}"), ours == theirs);
                }
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

/// A name that a pattern matches.
fn one(pattern: &str) -> String {
    let mut name = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' => {}
            '?' => name.push('0'),
            '[' => {
                name.extend(characters.next());
                characters.by_ref().find(|&character| character == ']');
            }
            other => name.push(other),
        }
    }
    name
}

/// A module that no alias stands for: its name tells where the answer for one alias ends.
fn mark(text: &str, kernel: &Kernel) -> Result<String> {
    let with_alias: HashSet<&str> = text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.1)).collect();
    let names = kernel.modules().map(|module| module.name());
    let mark = names.into_iter().find(|name| !with_alias.contains(name));
    mark.map(str::to_owned).context("every module has an alias")
}

/// What modprobe says each name stands for, each module once.
fn resolved(root: &DepmodRoot, names: &[String], mark: &str) -> Result<Vec<Vec<String>>> {
    let mut command = root.modprobe()?;
    command.args(["-q", "-a", "-R"]);
    names.iter().for_each(|name| {
        command.args([name, mark]);
    });
    // It fails where one name is not found, after it has answered for all.
    let text = output(&mut command, false)?;
    let text = String::from_utf8_lossy(&text);
    let mut answers = Vec::with_capacity(names.len());
    let mut answer: Vec<String> = Vec::new();
    for line in text.lines() {
        if line == mark {
            answers.push(std::mem::take(&mut answer));
        } else if !answer.iter().any(|name| name == line) {
            answer.push(line.to_owned());
        }
    }
    ensure!(answers.len() == names.len(), "{} answers for {} names", answers.len(), names.len());
    Ok(answers)
}

fn found(kernel: &Kernel, name: &str) -> Vec<String> {
    let found = kernel.find(name).unwrap_or_default();
    found.iter().map(|module| module.name().to_owned()).collect()
}
