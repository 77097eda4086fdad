//! What is known of addresses, found without looking through all of it: a hostile snapshot has much.

use std::ops::Range;

use modmem::verify::{ModuleReport, NotCompared};

use super::StrayKind;
use crate::snapshot::{ModuleRecord, Snapshot, merged};
use crate::verify::{Checked, Outcome};

/// A name under which the kernel lists code that it made at run time, as if it were a module.
#[derive(Debug)]
pub(super) struct KnownList {
    pub(super) list: &'static str,
    /// What the symbols in it begin with.
    pub(super) names: &'static [&'static str],
    /// What it is.
    owner: &'static str,
}

/// All of them (kernel/bpf/core.c:bpf_get_kallsym, kernel/trace/ftrace.c:ftrace_get_trampoline_kallsym,
/// kernel/kprobes.c:kprobe_cache_get_kallsym).
pub(super) const KNOWN_LISTS: &[KnownList] = &[
    KnownList { list: "bpf", names: &["bpf_"], owner: "BPF programs" },
    KnownList { list: "__builtin__ftrace", names: &["ftrace_trampoline"], owner: "ftrace trampolines" },
    KnownList {
        list: "__builtin__kprobes",
        names: &["kprobe_insn_page", "kprobe_optinsn_page"],
        owner: "kprobes",
    },
];

/// More sections before an address are not asked whose they are.
const MOST_SECTIONS: usize = 64;
/// More modules that had their init memory at one place are not asked for.
const MOST_FORMER_OWNERS: usize = 64;

/// A place that the kernel lists under a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    pub(super) address: u64,
    /// What it is.
    pub(super) owner: &'static str,
}

/// Who has, or had, which addresses.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// What compared modules have, by address, none touching another. What was given back may be anybody's now.
    pub(super) owned: Vec<Range<u64>>,
    /// Init memory that was given back, and whose it was, by index: each memory for itself, and all of them as one block.
    pub(super) given_back: Vec<(u64, u64, usize)>,
    /// The addresses of all that was given back.
    pub(super) given: Vec<Range<u64>>,
    /// Code that the kernel lists under a name of its own, by address.
    pub(super) listed: Vec<Listed>,
    /// Sections of listed modules that could not be compared: where they begin, how large the module is, and its name.
    pub(super) uncompared: Vec<(u64, u64, String)>,
}

impl Places {
    pub(super) fn of(snapshot: &Snapshot, modules: &[Checked], records: &[&ModuleRecord]) -> Places {
        let (mut all, mut given_back, mut uncompared) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (checked, record)) in modules.iter().zip(records).enumerate() {
            let Outcome::Compared(report) = &checked.outcome else {
                let sections = record.sections.iter();
                uncompared
                    .extend(sections.map(|section| (section.address, record.size, record.name.clone())));
                continue;
            };
            all.extend(memories(report, false));
            all.extend(report.areas.iter().map(|area| area.start.0..area.end.0));
            let start = memories(report, true).map(|memory| memory.start).min();
            let size = memories(report, true).fold(0, |size: u64, m| size.saturating_add(m.end - m.start));
            let whole = start.map(|start| (start, start.saturating_add(size), index));
            given_back
                .extend(memories(report, true).map(|memory| (memory.start, memory.end, index)).chain(whole));
        }
        let owned = merged(all);
        let given = merged(given_back.iter().map(|(start, end, _)| *start..*end).collect());
        let of_kernel = |module: &str| KNOWN_LISTS.iter().find(|known| known.list == module);
        let listed = snapshot.symbols.of_modules();
        let listed = listed.filter_map(|symbol| {
            Some(Listed { address: symbol.address, owner: of_kernel(symbol.module?)?.owner })
        });
        let mut listed: Vec<Listed> = listed.collect();
        listed.sort_unstable();
        given_back.sort_unstable();
        uncompared.sort_unstable();
        Places { owned, given_back, given, listed, uncompared }
    }

    /// What compared modules have at these addresses.
    pub(super) fn owned_in(&self, range: &Range<u64>) -> &[Range<u64>] {
        within(&self.owned, range)
    }

    /// What of these addresses no compared module has.
    pub(super) fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let parts = self.owned_in(range).iter().map(|part| (part.start.min(range.end), part.end));
        for (next, behind) in parts.chain(std::iter::once((range.end, range.end))) {
            if at < next {
                gaps.push(at..next);
            }
            at = at.max(behind);
        }
        gaps
    }

    /// The modules whose init memory lay at these addresses, those that were loaded last first, with where exactly.
    pub(super) fn former_owners(&self, range: &Range<u64>) -> Vec<(usize, Range<u64>)> {
        let end = self.given_back.partition_point(|(start, ..)| *start <= range.start);
        let before = self.given_back.get(..end).unwrap_or_default().iter().rev().take(4 * MOST_FORMER_OWNERS);
        let mut owners: Vec<(usize, Range<u64>)> = before
            .filter(|(_, end, _)| *end >= range.end)
            .map(|&(start, end, index)| (index, start..end))
            .collect();
        owners.sort_unstable_by_key(|(index, range)| (std::cmp::Reverse(*index), range.start));
        owners.dedup_by_key(|(index, _)| *index);
        owners.truncate(MOST_FORMER_OWNERS);
        owners
    }

    /// Whether an address is in a listed module, or was while its init ran.
    pub(super) fn is_of_module(&self, address: u64) -> bool {
        let here = address..address.saturating_add(1);
        !within(&self.owned, &here).is_empty()
            || !within(&self.given, &here).is_empty()
            || self.may_be_of_uncompared(address)
    }

    /// Whether an address may be in a module that could not be compared: behind one of its sections, no farther than the
    /// module is large.
    fn may_be_of_uncompared(&self, address: u64) -> bool {
        let after = self.uncompared.partition_point(|(start, ..)| *start <= address);
        let before = self.uncompared.get(..after).unwrap_or_default().iter().rev().take(MOST_SECTIONS);
        before.into_iter().any(|(start, size, _)| address - start < *size)
    }

    /// What the kernel lists at these addresses.
    pub(super) fn listed_in(&self, range: &Range<u64>) -> &[Listed] {
        let first = self.listed.partition_point(|listed| listed.address < range.start);
        let end = self.listed.partition_point(|listed| listed.address < range.end);
        self.listed.get(first..end).unwrap_or_default()
    }

    /// A module that could not be compared and has a section at these addresses.
    pub(super) fn uncompared_in(&self, range: &Range<u64>) -> Option<StrayKind> {
        let first = self.uncompared.partition_point(|(address, ..)| *address < range.start);
        let (.., module) = self.uncompared.get(first).filter(|(address, ..)| range.contains(address))?;
        Some(StrayKind::NotCompared(module.clone()))
    }
}

/// The memories of a compared module: those that it has, or those that it gave back after init.
fn memories(report: &ModuleReport, given_back: bool) -> impl Iterator<Item = Range<u64>> {
    let memories = report.memories.iter().filter_map(|(_, memory)| memory.as_ref());
    let memories = memories
        .filter(move |memory| (memory.tally.not_compared_for(NotCompared::FreedInit) > 0) == given_back);
    memories.map(|memory| memory.address.0..memory.address.0.saturating_add(memory.tally.total))
}

/// Those of some merged ranges that have a part of `range`.
fn within<'r>(merged: &'r [Range<u64>], range: &Range<u64>) -> &'r [Range<u64>] {
    let first = merged.partition_point(|part| part.end <= range.start);
    let end = merged.partition_point(|part| part.start < range.end);
    merged.get(first..end).unwrap_or_default()
}
