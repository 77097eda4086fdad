//! What should not be there: memory from the module allocator that no listed module owns, code between modules.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use modmem::RunAddr;
use modmem::arch::Machine;
use modmem::profile::{Profile, Ranges};
use modmem::verify::{ModuleReport, NotCompared};

use super::{Checked, Outcome};
use crate::Error;
use crate::snapshot::{Area, ModuleRecord, Snapshot};

/// Callers of vmalloc that keep code of their own among modules, and what it is.
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
    ("alloc_optinsn_page", "kprobes"),
    ("its_alloc", "ITS thunks"),
];
/// Functions of s390's loader that ask for pages of trampolines, one for each function of a module that can be traced.
/// Compilers put the second into the first.
const TRAMPOLINE_CALLERS: &[&str] = &["module_finalize", "module_alloc_ftrace_hotpatch_trampolines"];
/// The loader's own function that asks for a module's memory, by what the compiler inlined, and execmem's.
const LOADER: &[&str] = &[
    "load_module",
    "layout_and_allocate",
    "move_module",
    "module_memory_alloc",
    "module_alloc",
    "execmem_alloc",
    "execmem_alloc_rw",
    "__execmem_alloc",
    "execmem_vmalloc",
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
    profile: &Profile,
    modules: &[Checked],
    records: &[&ModuleRecord],
    is_still_init: &mut IsStillInit<'_>,
) -> Result<Vec<Stray>, Error> {
    let ranges = &profile.ranges;
    let of_modules = of_modules(ranges, records);
    let kernel = of_kernel(snapshot);
    // Elsewhere the loader allocates what it needs for a moment, or for its own lists.
    let in_ranges = |area: &&Area| {
        let start = RunAddr(area.range.start);
        if kernel.contains(&area.range.start) {
            return false;
        }
        let alone = of_modules.iter().any(|range| range.contains(&start));
        // Where data lies in vmalloc, it lies among everybody's.
        let asked = LOADER.contains(&&*area.caller)
            || KNOWN_CALLERS.iter().any(|(caller, _)| *caller == area.caller)
            || ranges.data == ranges.text;
        (alone || asked && ranges.data.contains(&start)) && !area.is_freed()
    };
    let places = Places::of(snapshot, modules, records);
    let mut strays: Vec<Stray> = Vec::new();
    for area in snapshot.areas.iter().filter(in_ranges) {
        let known = KNOWN_CALLERS.iter().find(|(caller, _)| *caller == area.caller);
        let end = area.end_of_pages(profile.page_size);
        let range = area.range.start..end;
        let stray = |kind| Stray { range: range.clone(), caller: area.caller.clone(), kind };
        if let Some((_, owner)) = known {
            strays.push(stray(StrayKind::Known(owner)));
            continue;
        }
        // Whoever else asked for memory there: nobody but those above keeps anything between modules.
        if !places.owned_in(&range).is_empty() {
            strays.extend(between(snapshot, profile, area, &places));
            continue;
        }
        let late = match places.late_init(&range) {
            Some(index) if is_still_init(index, &range)? => modules.get(index),
            _ => None,
        };
        let kind = late
            .map(|module| StrayKind::LateInit(module.name.clone()))
            .or_else(|| places.known(&range))
            .or_else(|| made_by_loader(snapshot, profile.machine, area, &places).map(StrayKind::Known))
            .unwrap_or(StrayKind::NoOwner);
        strays.push(stray(kind));
    }
    strays.extend(unlisted(snapshot));
    Ok(strays)
}

/// Where nothing but modules lies, and code that the kernel makes. Where that is random, modules may lie behind where
/// the profile has it.
fn of_modules(ranges: &Ranges, records: &[&ModuleRecord]) -> Vec<Range<RunAddr>> {
    let mut of_modules: Vec<Range<RunAddr>> =
        [Some(ranges.text.clone()), ranges.fallback.clone()].into_iter().flatten().collect();
    if ranges.data == ranges.text {
        let sections = records.iter().flat_map(|record| &record.sections);
        let behind = |address: &u64| {
            let distance = address.checked_sub(ranges.text.end.0);
            distance.is_some_and(|distance| distance < ranges.text.end.0 - ranges.text.start.0)
        };
        if let Some(last) = sections.map(|section| section.address).filter(behind).max() {
            of_modules.push(ranges.text.end..RunAddr(last));
        }
    }
    of_modules
}

/// Where the kernel itself is. Some machines have areas for its parts.
fn of_kernel(snapshot: &Snapshot) -> Range<u64> {
    let symbol = |name| snapshot.symbols.kernel(name);
    match (symbol("_text"), symbol("_end")) {
        (Some(start), Some(end)) => start..end,
        _ => 0..0,
    }
}

impl Area {
    /// Whether it was given back and only waits for its addresses to be free again (mm/vmalloc.c:vmalloc_info_show).
    fn is_freed(&self) -> bool {
        self.rest == "unpurged vm_area"
    }

    /// Its end without the guard page.
    fn end_of_pages(&self, page: u64) -> u64 {
        match self.pages() {
            Some(pages) => self.range.start.saturating_add(pages.saturating_mul(page)).min(self.range.end),
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

/// What is known of addresses, found without looking through all of it: a hostile snapshot has much.
struct Places {
    /// What compared modules have, by address, none touching another. What was given back may be anybody's now.
    owned: Vec<Range<u64>>,
    /// Init memory that was given back, and whose it was: each memory for itself, and all of them as one block.
    given_back: Vec<(u64, u64, usize)>,
    /// The addresses of all that was given back.
    given: Vec<Range<u64>>,
    /// Code that the kernel lists under a name of its own.
    listed: Vec<(u64, &'static str)>,
    /// Sections of listed modules that could not be compared.
    uncompared: Vec<(u64, String)>,
}

impl Places {
    fn of(snapshot: &Snapshot, modules: &[Checked], records: &[&ModuleRecord]) -> Places {
        let (mut all, mut given_back, mut uncompared) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (checked, record)) in modules.iter().zip(records).enumerate() {
            let Outcome::Compared(report) = &checked.outcome else {
                uncompared.extend(record.sections.iter().map(|s| (s.address, record.name.clone())));
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
        let of_kernel = |module: &str| KNOWN_LISTS.iter().find(|(list, _)| *list == module);
        let listed = snapshot.symbols.iter();
        let listed = listed.filter_map(|symbol| Some((symbol.address, of_kernel(symbol.module?)?.1)));
        let mut listed: Vec<(u64, &'static str)> = listed.collect();
        listed.sort_unstable();
        given_back.sort_unstable();
        uncompared.sort_unstable();
        Places { owned, given_back, given, listed, uncompared }
    }

    /// What compared modules have at these addresses.
    fn owned_in(&self, range: &Range<u64>) -> &[Range<u64>] {
        within(&self.owned, range)
    }

    /// The module whose init memory lay exactly at these addresses.
    fn late_init(&self, range: &Range<u64>) -> Option<usize> {
        let first =
            self.given_back.partition_point(|(start, end, _)| (*start, *end) < (range.start, range.end));
        let (start, end, index) = self.given_back.get(first)?;
        (*start == range.start && *end == range.end).then_some(*index)
    }

    /// Whether an address is in a listed module, or was while its init ran.
    fn is_of_module(&self, address: u64) -> bool {
        let here = address..address.saturating_add(1);
        // Of modules that could not be compared only the places of sections are known.
        !within(&self.owned, &here).is_empty()
            || !within(&self.given, &here).is_empty()
            || !self.uncompared.is_empty()
    }

    /// Who else is known to have something at these addresses.
    fn known(&self, range: &Range<u64>) -> Option<StrayKind> {
        let first = self.listed.partition_point(|(address, _)| *address < range.start);
        let listed = self.listed.get(first).filter(|(address, _)| range.contains(address));
        let first = self.uncompared.partition_point(|(address, _)| *address < range.start);
        let uncompared = || self.uncompared.get(first).filter(|(address, _)| range.contains(address));
        let known = listed.map(|(_, owner)| StrayKind::Known(owner));
        known.or_else(|| uncompared().map(|(_, module)| StrayKind::NotCompared(module.clone())))
    }
}

/// Ranges by address, those that touch joined.
fn merged(mut all: Vec<Range<u64>>) -> Vec<Range<u64>> {
    all.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in all {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

/// Those of some merged ranges that have a part of `range`.
fn within<'r>(merged: &'r [Range<u64>], range: &Range<u64>) -> &'r [Range<u64>] {
    let first = merged.partition_point(|part| part.end <= range.start);
    let end = merged.partition_point(|part| part.start < range.end);
    merged.get(first..end).unwrap_or_default()
}

/// Whose the pages are that the loader asks for beside a module's memories, by what is in them.
fn made_by_loader(
    snapshot: &Snapshot,
    machine: Machine,
    area: &Area,
    places: &Places,
) -> Option<&'static str> {
    match machine {
        Machine::X86_64 => {
            let range = area.range.start..area.end_of_pages(4096);
            is_its_page(snapshot, &range).then_some("ITS thunks")
        }
        Machine::S390 if TRAMPOLINE_CALLERS.contains(&area.caller.as_str()) => {
            let range = area.range.start..area.end_of_pages(4096);
            are_trampolines(snapshot, &range, places).then_some("ftrace trampolines")
        }
        _ => None,
    }
}

/// Whether pages hold s390's trampolines of traced functions and nothing else (struct ftrace_hotpatch_trampoline): a branch
/// to the kernel's shared part, where the function goes on, and who intercepts it. What was not read may be.
fn are_trampolines(snapshot: &Snapshot, range: &Range<u64>, places: &Places) -> bool {
    const BRASL: [u8; 2] = [0xc0, 0x15];
    let kernel = |name: &str| snapshot.symbols.kernel(name);
    let shared = ["ftrace_shared_hotpatch_trampoline_br", "ftrace_shared_hotpatch_trampoline_exrl"];
    let shared: Vec<u64> = shared.iter().filter_map(|name| kernel(name)).collect();
    let interceptors: Vec<u64> =
        ["ftrace_caller", "ftrace_regs_caller"].iter().filter_map(|name| kernel(name)).collect();
    let Ok(length) = usize::try_from(range.end - range.start) else { return false };
    let Some(bytes) = snapshot.memory.bytes(range.start, length) else { return true };
    let mut is_over = false;
    (range.start..).step_by(24).zip(bytes.chunks(24)).all(|(address, record)| {
        is_over |= record.iter().all(|byte| *byte == 0);
        if is_over {
            return record.iter().all(|byte| *byte == 0);
        }
        let number = |at: usize| record.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let distance = record.get(2..).and_then(<[u8]>::first_chunk).map(|bytes| i32::from_be_bytes(*bytes));
        let (Some(distance), Some(rest), Some(interceptor)) = (distance, number(8), number(16)) else {
            return false;
        };
        let target = address.wrapping_add_signed(2 * i64::from(distance));
        record.starts_with(&BRASL)
            && (shared.is_empty() || shared.contains(&target))
            && (interceptors.is_empty() || interceptors.contains(&interceptor))
            && places.is_of_module(rest)
    })
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
fn between(snapshot: &Snapshot, profile: &Profile, area: &Area, places: &Places) -> Vec<Stray> {
    let mut strays = Vec::new();
    let (start, end) = (area.range.start, area.end_of_pages(profile.page_size));
    // What x86 fills free text with.
    let filler = if profile.machine == Machine::X86_64 { 0xcc } else { 0 };
    let inside = places.owned_in(&(start..end)).iter();
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
        let something = |byte: &u8| *byte != 0 && *byte != filler;
        let (Some(first), Some(last)) = (bytes.iter().position(something), bytes.iter().rposition(something))
        else {
            continue;
        };
        let range = gap.start + first as u64..gap.start + last as u64 + 1;
        let kind = places.known(&gap).unwrap_or(StrayKind::Between);
        strays.push(Stray { range, caller: area.caller.clone(), kind });
    }
    strays
}

/// Modules that have symbols and are not listed.
fn unlisted(snapshot: &Snapshot) -> Vec<Stray> {
    let listed: HashSet<&str> = snapshot.modules.iter().map(|module| module.name.as_str()).collect();
    let mut unlisted: BTreeMap<&str, Range<u64>> = BTreeMap::new();
    for symbol in snapshot.symbols.iter() {
        let Some(module) = symbol.module else { continue };
        let of_kernel =
            KNOWN_LISTS.iter().any(|(list, _)| *list == module) || module.starts_with("__builtin__");
        if of_kernel || listed.contains(module) {
            continue;
        }
        let end = symbol.address.saturating_add(1);
        let range = unlisted.entry(module).or_insert(symbol.address..end);
        *range = range.start.min(symbol.address)..range.end.max(end);
    }
    let stray = |(module, range): (&str, Range<u64>)| {
        let kind = StrayKind::Unlisted(module.to_owned());
        Stray { range, caller: String::new(), kind }
    };
    unlisted.into_iter().map(stray).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{MemoryRecord, MemoryRecords, Symbol, SymbolTable};

    /// A page of one trampoline for a function at `rest`, which `interceptor` intercepts.
    fn page(rest: u64, interceptor: u64, behind: u8) -> Snapshot {
        let mut bytes = [0xc0, 0x15].to_vec();
        bytes.extend(0x800_i32.to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(rest.to_be_bytes());
        bytes.extend(interceptor.to_be_bytes());
        bytes.resize(4096, behind);
        let symbol = |name, address| Symbol { name, address, letter: 'T', module: None };
        let shared = symbol("ftrace_shared_hotpatch_trampoline_br", 0x9_1000);
        Snapshot {
            memory: MemoryRecords::new(vec![MemoryRecord { address: 0x9_0000, bytes }]).unwrap(),
            symbols: SymbolTable::new([shared, symbol("ftrace_caller", 0x100)]).unwrap(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn pages_of_s390_s_trampolines_lead_into_modules_and_hold_nothing_else() {
        let places = Places {
            owned: std::iter::once(0x5000..0x6000).collect(),
            given_back: Vec::new(),
            given: std::iter::once(0x7000..0x8000).collect(),
            listed: Vec::new(),
            uncompared: Vec::new(),
        };
        let range = 0x9_0000..0x9_1000;
        for (rest, interceptor, behind, good) in [
            (0x5106, 0x100, 0, true),
            (0x7106, 0x100, 0, true),
            (0x6106, 0x100, 0, false),
            (0x5106, 0x200, 0, false),
            (0x5106, 0x100, 7, false),
        ] {
            let snapshot = page(rest, interceptor, behind);
            assert_eq!(are_trampolines(&snapshot, &range, &places), good, "{rest:#x} {interceptor:#x}");
        }
    }
}
