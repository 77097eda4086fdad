//! What user space sees of loaded modules, against what modmem shows.

use std::collections::{BTreeMap, BTreeSet};

use modmem::{MemoryKind, Modules, RunAddr};

use super::answers::Answer;
use super::ours::{Loaded, MADE_UP};
use crate::replay::GivenBlock;

/// What differs in /proc/modules.
pub(super) fn of_list(modules: &Modules<GivenBlock>, answer: &Answer) -> Option<String> {
    let ours = modules.proc_modules().to_string();
    lines("/proc/modules", ours.lines().map(placed), answer.modules.lines().map(placed_of(&ours)))
}

/// What differs in a module's folder in sysfs, and in /proc/kallsyms.
pub(super) fn of_module(modules: &Modules<GivenBlock>, loaded: &Loaded, answer: &Answer) -> Option<String> {
    let id = loaded.id;
    let shown = modules.sysfs(id)?;
    // No path leads to a folder of that name.
    if modules.get(id).is_some_and(|module| module.name() == ".") {
        return None;
    }
    let own = [
        ("coresize", shown.coresize().to_string()),
        ("initsize", shown.initsize().to_string()),
        ("taint", shown.taint()),
        ("initstate", shown.initstate().to_owned()),
        ("refcnt", shown.refcnt().map_or_else(String::new, |count| count.to_string())),
    ];
    for (name, ours) in own {
        if let Some(theirs) = answer.files.get(name).filter(|theirs| **theirs != ours) {
            return Some(format!("{name}: Linux says {theirs:?}, modmem {ours:?}"));
        }
    }
    let ours: BTreeSet<(String, u64)> =
        shown.sections().map(|(name, address)| (name.to_text(), address.0)).collect();
    // In a file's name a slash would be a folder's: sysfs has an exclamation mark for it.
    let ours: BTreeSet<(String, u64)> =
        ours.into_iter().map(|(name, address)| (name.replace('/', "!"), address)).collect();
    let theirs: BTreeSet<(String, u64)> = answer.sections.iter().cloned().collect();
    // Where only some were asked for, those that Linux told are ours.
    let is_asked = |section: &&(String, u64)| answer.whole || theirs.contains(*section);
    let is_placed = |section: &&(String, u64)| is_asked(section) && !MADE_UP.contains(&section.1);
    if let Some(section) = ours.symmetric_difference(&theirs).find(is_placed) {
        let who = if ours.contains(section) { "modmem" } else { "Linux" };
        return Some(format!("sections: only {who} has {} at {:#x}", section.0, section.1));
    }
    if !answer.whole {
        return None;
    }
    // A section without a name keeps the folder from being listed (fs/readdir.c:verify_dirent_name).
    let is_made_up = |kind| modules.get(id)?.address(kind).filter(|address| MADE_UP.contains(&address.0));
    if MemoryKind::ALL.into_iter().any(|kind| is_made_up(kind).is_some()) {
        return None;
    }
    let ours: BTreeMap<String, Vec<u8>> =
        shown.notes().map(|(name, bytes)| (name.to_text(), bytes.to_vec())).collect();
    // Linux keeps the files of notes in init memory, whose bytes are freed; modmem has them no more.
    let module = modules.get(id)?;
    let ranges = || MemoryKind::ALL.into_iter().filter_map(|kind| module.range(kind));
    let is_there = |(name, _): &(&String, &Vec<u8>)| {
        let address =
            answer.sections.iter().find(|(section, _)| section == *name).map(|(_, address)| *address);
        address.is_none_or(|address| ranges().any(|range| range.contains(&RunAddr(address))))
    };
    let theirs: BTreeMap<&String, &Vec<u8>> = answer.notes.iter().filter(is_there).collect();
    if !ours.iter().eq(theirs) && !loaded.needs_place {
        return Some(format!("notes: Linux has {:x?}, modmem {ours:x?}", answer.notes));
    }
    let symbols = answer.kallsyms.as_ref()?;
    lines(
        "/proc/kallsyms",
        modules.kallsyms().to_string().lines().map(str::to_owned),
        symbols.lines().map(str::to_owned),
    )
}

/// A line of /proc/modules without an address that was made up.
fn placed(line: &str) -> String {
    match line.split_once(" 0x") {
        Some((before, after)) if is_made_up(after) => before.to_owned(),
        _ => line.to_owned(),
    }
}

fn is_made_up(text: &str) -> bool {
    let digits = text.split(' ').next().unwrap_or_default();
    u64::from_str_radix(digits, 16).is_ok_and(|address| MADE_UP.contains(&address))
}

/// The same of the kernel's lines, where ours has one.
fn placed_of(ours: &str) -> impl Fn(&str) -> String {
    let without: BTreeSet<String> = ours.lines().map(placed).filter(|line| !line.contains(" 0x")).collect();
    move |line| match line.split_once(" 0x") {
        Some((before, _)) if without.contains(before) => before.to_owned(),
        _ => line.to_owned(),
    }
}

fn lines(
    what: &str,
    ours: impl Iterator<Item = String>,
    theirs: impl Iterator<Item = String>,
) -> Option<String> {
    let (ours, theirs): (Vec<String>, Vec<String>) = (ours.collect(), theirs.collect());
    if ours == theirs {
        return None;
    }
    let nothing = String::new();
    let count = ours.len().max(theirs.len());
    let pairs = (0..count).map(|at| (theirs.get(at).unwrap_or(&nothing), ours.get(at).unwrap_or(&nothing)));
    let (theirs, ours) = pairs.into_iter().find(|(theirs, ours)| theirs != ours)?;
    Some(format!("{what}: Linux says {theirs:?}, modmem {ours:?}"))
}
