//! What should not be there: memory from the module allocator that no listed module owns, code between modules.

use std::ops::Range;

use modmem::RunAddr;
use modmem::profile::Ranges;
use modmem::verify::{ModuleReport, NotCompared};

use super::{Checked, Outcome};
use crate::Error;
use crate::snapshot::{Area, ModuleRecord, Snapshot};

/// Callers of vmalloc whose areas hold modules or code.
const MODULE_CALLERS: &[&str] = &["load_module", "module_alloc", "move_module", "layout_and_allocate"];
/// The same where every kind of executable memory comes from one place (6.10 and later).
const EXECUTABLE_CALLERS: &[&str] = &["execmem_alloc", "execmem_alloc_rw", "execmem_cache_alloc"];
/// Other owners of executable memory, and what they keep there.
const KNOWN_CALLERS: &[(&str, &str)] = &[
    ("bpf_prog_pack_alloc", "BPF programs"),
    ("bpf_jit_alloc_exec", "BPF programs"),
    ("bpf_jit_binary_alloc", "BPF programs"),
    ("bpf_trampoline_alloc", "BPF trampolines"),
    ("arch_alloc_bpf_trampoline", "BPF trampolines"),
    ("arch_ftrace_update_trampoline", "ftrace trampolines"),
    ("create_trampoline", "ftrace trampolines"),
    ("alloc_insn_page", "kprobes"),
    ("__get_insn_slot", "kprobes"),
    ("its_alloc", "ITS thunks"),
];
/// Names under which the kernel lists code that it made at run time.
const KNOWN_LISTS: &[(&str, &str)] = &[
    ("bpf", "BPF programs"),
    ("__builtin__ftrace", "ftrace trampolines"),
    ("__builtin__kprobes", "kprobes"),
];

/// What a stray is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrayKind {
    /// Code that the kernel makes at run time, by this owner.
    Known(&'static str),
    /// Init memory of a module, not yet given back.
    LateInit(String),
    /// Memory of a listed module that could not be compared.
    NotCompared(String),
    /// Memory for a module that is in no list.
    NoOwner,
    /// Code in a page of code, between what modules own.
    Between,
    /// A module that has symbols but is not in the list of modules.
    Unlisted(String),
}

impl StrayKind {
    /// Whether nothing explains it.
    pub fn is_unexplained(&self) -> bool {
        matches!(self, StrayKind::NoOwner | StrayKind::Between | StrayKind::Unlisted(_))
    }
}

/// Memory that no listed module owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Its addresses.
    pub range: Range<u64>,
    /// The function that asked for it, as the kernel says; empty if unknown.
    pub caller: String,
    /// What it is.
    pub kind: StrayKind,
}

/// Whether the memory at some addresses, which the module of that index had until its init was over, still is what it
/// was.
pub(super) type IsStillInit<'i> = dyn FnMut(usize, &Range<u64>) -> Result<bool, Error> + 'i;

pub(super) fn find(
    snapshot: &Snapshot,
    ranges: &Ranges,
    modules: &[Checked],
    records: &[&ModuleRecord],
    is_still_init: &mut IsStillInit<'_>,
) -> Result<Vec<Stray>, Error> {
    // Elsewhere the loader allocates what it needs for a moment, or for its own lists.
    let in_ranges = |area: &&Area| {
        let start = RunAddr(area.range.start);
        [Some(&ranges.text), Some(&ranges.data), ranges.fallback.as_ref()]
            .into_iter()
            .flatten()
            .any(|range| range.contains(&start))
    };
    let owned = owned(modules);
    let mut strays: Vec<Stray> = Vec::new();
    for area in snapshot.areas.iter().filter(in_ranges) {
        let from_modules =
            MODULE_CALLERS.contains(&&*area.caller) || EXECUTABLE_CALLERS.contains(&&*area.caller);
        let known = KNOWN_CALLERS.iter().find(|(caller, _)| *caller == area.caller);
        let end = area.end_of_pages();
        let range = area.range.start..end;
        let stray = |kind| Stray { range: range.clone(), caller: area.caller.clone(), kind };
        if let Some((_, owner)) = known {
            strays.push(stray(StrayKind::Known(owner)));
            continue;
        }
        if !from_modules {
            continue;
        }
        if owned.iter().any(|part| part.start < end && range.start < part.end) {
            strays.extend(between(snapshot, area, &owned));
            continue;
        }
        let late = match late_init(modules, &range) {
            Some(index) if is_still_init(index, &range)? => modules.get(index),
            _ => None,
        };
        let kind = late
            .map(|module| StrayKind::LateInit(module.name.clone()))
            .or_else(|| listed_owner(snapshot, &range))
            .or_else(|| of_uncompared(modules, records, &range))
            .or_else(|| is_its_page(snapshot, &range).then_some(StrayKind::Known("ITS thunks")))
            .unwrap_or(StrayKind::NoOwner);
        strays.push(stray(kind));
    }
    strays.extend(unlisted(snapshot));
    Ok(strays)
}

impl Area {
    /// Its end without the guard page.
    fn end_of_pages(&self) -> u64 {
        match self.pages() {
            Some(pages) => self.range.start.saturating_add(pages.saturating_mul(4096)).min(self.range.end),
            None => self.range.end,
        }
    }
}

/// The memories of a compared module: those that it has, or those that it gave back after init.
fn memories(report: &ModuleReport, given_back: bool) -> impl Iterator<Item = Range<u64>> {
    let memories = report.memories.iter().filter_map(|(_, memory)| memory.as_ref());
    let memories = memories
        .filter(move |memory| (memory.tally.not_compared_for(NotCompared::FreedInit) > 0) == given_back);
    memories.map(|memory| memory.address.0..memory.address.0.saturating_add(memory.tally.total))
}

/// The memories that compared modules have, in order of address. What was given back may be anybody's now.
fn owned(modules: &[Checked]) -> Vec<Range<u64>> {
    let compared = modules.iter().filter_map(|checked| match &checked.outcome {
        Outcome::Compared(report) => Some(report),
        _ => None,
    });
    let mut owned: Vec<Range<u64>> = compared.flat_map(|report| memories(report, false)).collect();
    owned.sort_by_key(|range| range.start);
    owned
}

/// The module whose init memory lay exactly at these addresses: each memory for itself, or all of them as one block.
fn late_init(modules: &[Checked], range: &Range<u64>) -> Option<usize> {
    modules.iter().position(|checked| {
        let Outcome::Compared(report) = &checked.outcome else { return false };
        let start = memories(report, true).map(|memory| memory.start).min();
        let all: u64 = memories(report, true).map(|memory| memory.end - memory.start).sum();
        memories(report, true).any(|memory| memory == *range)
            || (start == Some(range.start) && all == range.end - range.start)
    })
}

/// Code that the kernel lists under a name of its own.
fn listed_owner(snapshot: &Snapshot, range: &Range<u64>) -> Option<StrayKind> {
    let mut listed = snapshot.symbols.iter().filter(|symbol| range.contains(&symbol.address));
    listed.find_map(|symbol| {
        let (_, owner) = KNOWN_LISTS.iter().find(|(list, _)| symbol.module == Some(list))?;
        Some(StrayKind::Known(owner))
    })
}

/// Memory of a listed module that could not be compared.
fn of_uncompared(modules: &[Checked], records: &[&ModuleRecord], range: &Range<u64>) -> Option<StrayKind> {
    let mut pairs = records.iter().zip(modules);
    let owner = pairs.find(|(record, checked)| {
        !matches!(checked.outcome, Outcome::Compared(_))
            && record.sections.iter().any(|section| range.contains(&section.address))
    });
    owner.map(|(record, _)| StrayKind::NotCompared(record.name.clone()))
}

/// A page of nothing but breakpoints and `jmp *reg; int3`.
fn is_its_page(snapshot: &Snapshot, range: &Range<u64>) -> bool {
    let Ok(length) = usize::try_from(range.end - range.start) else { return false };
    let Some(bytes) = snapshot.memory.bytes(range.start, length).filter(|_| length == 4096) else {
        return false;
    };
    let mut at = 0;
    while at < bytes.len() {
        at += match &bytes[at..] {
            [0xcc, ..] => 1,
            [0xff, 0xe0..=0xe7, 0xcc, ..] => 3,
            [0x41, 0xff, 0xe0..=0xe7, 0xcc, ..] => 4,
            _ => return false,
        };
    }
    true
}

/// Bytes of an area that hold something and belong to nobody: what is free there is filled.
fn between(snapshot: &Snapshot, area: &Area, owned: &[Range<u64>]) -> Vec<Stray> {
    let mut strays = Vec::new();
    let (start, end) = (area.range.start, area.end_of_pages());
    let inside = owned.iter().filter(|part| part.end > start && part.start < end);
    let mut at = start;
    let ends = inside.map(|part| (part.start.min(end), part.end)).chain(std::iter::once((end, end)));
    for (next, behind) in ends {
        let gap = at..next;
        at = at.max(behind);
        if gap.start >= gap.end {
            continue;
        }
        let length = (gap.end - gap.start) as usize;
        let Some(bytes) = snapshot.memory.bytes(gap.start, length) else { continue };
        let something = |byte: &u8| !matches!(byte, 0 | 0xcc);
        let (Some(first), Some(last)) = (bytes.iter().position(something), bytes.iter().rposition(something))
        else {
            continue;
        };
        let range = gap.start + first as u64..gap.start + last as u64 + 1;
        let kind = listed_owner(snapshot, &gap).unwrap_or(StrayKind::Between);
        strays.push(Stray { range, caller: area.caller.clone(), kind });
    }
    strays
}

/// Modules that have symbols and are not listed.
fn unlisted(snapshot: &Snapshot) -> Vec<Stray> {
    let mut strays: Vec<Stray> = Vec::new();
    for symbol in snapshot.symbols.iter() {
        let Some(module) = symbol.module else { continue };
        if KNOWN_LISTS.iter().any(|(list, _)| *list == module) || module.starts_with("__builtin__") {
            continue;
        }
        if snapshot.module(module).is_some() {
            continue;
        }
        let known = strays
            .iter_mut()
            .find(|stray| matches!(&stray.kind, StrayKind::Unlisted(name) if name == module));
        match known {
            Some(stray) => {
                stray.range.start = stray.range.start.min(symbol.address);
                stray.range.end = stray.range.end.max(symbol.address.saturating_add(1));
            }
            None => strays.push(Stray {
                range: symbol.address..symbol.address.saturating_add(1),
                caller: String::new(),
                kind: StrayKind::Unlisted(module.to_owned()),
            }),
        }
    }
    strays
}
