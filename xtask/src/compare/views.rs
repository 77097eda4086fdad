//! What user space saw: /proc/modules, /sys/module and the modules' part of /proc/kallsyms, against what modmem's own
//! table shows after the same loads at the same addresses.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};
use modmem::modules::Module;
use modmem::{Modules, Name};

use super::temporary::TemporaryCopies;
use super::{Differences, remembered};
use crate::oracle::Oracle;
use crate::replay::{GivenBlock, Replay};

/// Modules of which the running kernel held references that loading does not make, and how many.
pub type Held<'h> = &'h [(&'h str, u64)];

/// What /proc/kallsyms prints like modules and that are none.
const NO_MODULES: &[&str] = &["[bpf]", "[__builtin__ftrace]", "[__builtin__kprobes]"];

/// How much was compared.
#[derive(Debug, Default)]
pub struct Views {
    /// Modules.
    pub modules: usize,
    /// Lines of /proc/kallsyms.
    pub symbols: usize,
    /// Files of /sys/module/*/sections and /sys/module/*/notes.
    pub files: usize,
    /// What differs.
    pub differences: Differences,
}

/// Loads all modules of a recording, and compares what user space would see.
///
/// # Errors
/// A module cannot be loaded.
pub fn views(oracle: &Oracle, held: Held<'_>) -> Result<Views> {
    let replay = Replay::all(oracle)?;
    let modules = &replay.modules;
    let mut result = Views { modules: modules.len(), ..Views::default() };

    let ours = modules.proc_modules().to_string();
    let theirs: Vec<String> = oracle.proc_modules.lines().map(|line| without_held(line, held)).collect();
    let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
    result.differences.push_lines("/proc/modules", &ours.lines().collect::<Vec<_>>(), &theirs);

    for module in modules.iter() {
        sysfs(&mut result, oracle, modules, module, held).with_context(|| module.name().to_owned())?;
    }

    let ours = modules.kallsyms().to_string();
    let ours: Vec<&str> = ours.lines().collect();
    let copies = TemporaryCopies::of(oracle)?;
    let of_modules = |line: &&str| !NO_MODULES.iter().any(|other| line.ends_with(other));
    let theirs = oracle.module_symbols.iter().map(String::as_str).filter(of_modules);
    let theirs: Vec<String> = theirs.map(|line| as_shown(&copies.without_base(line))).collect();
    let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
    let (modules, behind) = theirs.split_at(ours.len().min(theirs.len()));
    let remembered = remembered::are_init_functions(oracle, &replay.profile, behind)?;
    let theirs = if remembered { modules } else { &theirs[..] };
    result.differences.push_lines("/proc/kallsyms", &ours, theirs);
    result.symbols = ours.len();
    Ok(result)
}

/// A line with its control characters escaped, as modmem shows names: compilers make labels with such characters.
fn as_shown(line: &str) -> String {
    match line.split_once('\t') {
        Some((symbol, module)) => format!("{}\t{module}", Name::from(symbol)),
        None => line.to_owned(),
    }
}

/// The kernel's line of a module without the references that only its running made.
fn without_held(line: &str, held: Held<'_>) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let extra = held.iter().find(|(name, _)| words.first().is_some_and(|word| word == name));
    if let (Some((_, count)), Some(word)) = (extra, words.get_mut(2))
        && let Ok(references) = word.parse::<u64>()
    {
        *word = references.saturating_sub(*count).to_string();
    }
    words.join(" ")
}

fn sysfs(
    result: &mut Views,
    oracle: &Oracle,
    modules: &Modules<GivenBlock>,
    module: &Module<GivenBlock>,
    held: Held<'_>,
) -> Result<()> {
    let (name, shown) = (module.name(), modules.sysfs(module.id()).context("not in the table")?);
    let differences = &mut result.differences;
    let extra = held.iter().find(|(held, _)| *held == name).map_or(0, |&(_, count)| count as i64);
    let values = format!(
        "core={} init={} refcnt={} taint={} state={}",
        shown.coresize(),
        shown.initsize(),
        shown.refcnt().map_or("-".to_owned(), |count| (count + extra).to_string()),
        shown.taint(),
        shown.initstate(),
    );
    if oracle.modinfo.get(name) != Some(&values) {
        let theirs = oracle.modinfo.get(name);
        differences.push(format!("/sys/module/{name}: modmem has {values:?}, the kernel {theirs:?}"));
    }
    let sections: HashMap<String, u64> =
        shown.sections().map(|(name, address)| (name.to_text(), address.0)).collect();
    if Some(&sections) != oracle.sections.get(name) {
        let theirs = oracle.sections.get(name).cloned().unwrap_or_default();
        let mut differing: Vec<_> = sections
            .keys()
            .chain(theirs.keys())
            .filter(|name| sections.get(*name) != theirs.get(*name))
            .collect();
        differing.sort();
        differences.push(format!("/sys/module/{name}/sections: {differing:?} differ"));
    }
    result.files += sections.len();
    let Some(theirs) = oracle.notes.as_ref().and_then(|notes| notes.get(name)) else {
        return Ok(());
    };
    let notes: BTreeMap<String, Vec<u8>> =
        shown.notes().map(|(name, bytes)| (name.to_text(), bytes.to_vec())).collect();
    if notes != *theirs {
        let (ours, theirs): (Vec<_>, Vec<_>) = (notes.keys().collect(), theirs.keys().collect());
        differences.push(format!("/sys/module/{name}/notes: modmem has {ours:?}, the kernel {theirs:?}"));
    }
    result.files += notes.len();
    Ok(())
}
