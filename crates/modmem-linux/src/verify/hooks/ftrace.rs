//! Who traces functions: from the branch at a function's entry to the function that is called in the end.

use std::collections::{BTreeMap, HashMap, HashSet};

use modmem::verify::HookKind;

use super::map::Map;
use super::ops::{AllOps, Ops};
use super::probes::Probes;
use super::{HookRow, HookSite, HookWay, Hooker, Owner, trampoline};
use crate::verify::{Checked, Outcome};

/// The kernel's function that calls all who trace a function, one after the other.
const ALL_OF_THEM: [&str; 2] = ["ftrace_ops_list_func", "arch_ftrace_ops_list_func"];
/// Functions of the kernel that call the one that a description names.
const HELPERS: [&str; 1] = ["ftrace_ops_assist_func"];
/// Functions of descriptions whose calls lead to somebody else.
const DIRECT: &str = "call_direct_funcs";
/// Functions of the kernel that serve probes.
const OF_PROBES: [&str; 1] = ["kprobe_ftrace_handler"];

/// What a branch at a function's entry shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Shown {
    target: u64,
    mark: Option<u64>,
    explained: bool,
}

/// The rows of all functions that are traced, and of descriptions of tracers that no function of a module leads to.
pub(super) fn rows(map: &Map<'_>, modules: &[Checked], probes: &Probes) -> Vec<HookRow> {
    let mut shown: HashMap<Shown, Vec<HookSite>> = HashMap::new();
    for (module, checked) in modules.iter().enumerate() {
        let Outcome::Compared(report) = &checked.outcome else { continue };
        for hook in report.hooks.iter().filter(|hook| hook.kind == HookKind::Ftrace) {
            let key = Shown {
                target: hook.target.map_or(0, |target| target.0),
                mark: hook.mark.map(|mark| mark.0),
                explained: hook.explained,
            };
            let site = HookSite { address: hook.site.0, module: Some(module) };
            shown.entry(key).or_default().push(site);
        }
    }
    let all = AllOps::find(map);
    let (mut rows, mut used): (BTreeMap<(bool, Hooker), HookRow>, _) = (BTreeMap::new(), HashSet::new());
    for (shown, sites) in shown {
        let row = follow(map, &all, shown);
        used.extend(row.by.description);
        let is_probe = row.by.function.is_some_and(|function| is_named(map, function, &OF_PROBES));
        for (by, sites) in
            if is_probe { probes.claim(map, &row.by, sites) } else { vec![(row.by.clone(), sites)] }
        {
            let way = if is_probe { HookWay::Kprobe } else { HookWay::Ftrace };
            let entry = rows.entry((row.explained, by.clone()));
            let row = entry.or_insert_with(|| HookRow { way, by, sites: Vec::new(), ..row.clone() });
            row.sites.extend(sites);
        }
    }
    let mut rows: Vec<HookRow> = rows.into_values().collect();
    for ops in all.by_address.values().filter(|ops| ops.is_enabled()) {
        more_of(map, ops, &used, &mut rows);
    }
    rows
}

/// What a description adds: functions of the kernel, and itself if no function of a module leads to it.
fn more_of(map: &Map<'_>, ops: &Ops, used: &HashSet<u64>, rows: &mut Vec<HookRow>) {
    let by = hooker(map, ops, None);
    let is_interesting = by.owner != Owner::Kernel || !matches!(map.owner(ops.address), Owner::Kernel);
    let functions = ops.functions(map);
    let sites = functions.iter().flatten().map(|address| map.site(*address));
    if used.contains(&ops.address) {
        let own = rows.iter_mut().find(|row| row.by.description == Some(ops.address));
        if let Some(row) = own {
            row.sites.extend(sites);
        }
        return;
    }
    let sites: Vec<HookSite> = sites.collect();
    // The kernel's own that traces nothing that is known is not worth a line.
    if sites.is_empty() && !is_interesting || is_named(map, ops.function, &OF_PROBES) {
        return;
    }
    let note = functions.is_none().then(|| "which functions is not in the snapshot".to_owned());
    rows.push(HookRow { way: HookWay::Ftrace, by, flags: ops.flags(), explained: true, sites, note });
}

fn is_named(map: &Map<'_>, function: u64, names: &[&str]) -> bool {
    let symbols = &map.snapshot.symbols;
    let mut here = symbols.at_address(function);
    here.any(|symbol| symbol.module.is_none() && names.contains(&symbol.name))
}

/// Whoever a description names.
fn hooker(map: &Map<'_>, ops: &Ops, trampoline: Option<u64>) -> Hooker {
    let is_direct = is_named(map, ops.function, &[DIRECT]);
    let function = if is_direct { ops.direct } else { Some(ops.function) };
    let trampoline = trampoline.or(ops.trampoline);
    match function {
        Some(function) => {
            Hooker { trampoline, ..Hooker::of_function(map, function).described(map, ops.address) }
        }
        // Whom direct calls lead to is not known.
        None => Hooker { owner: Owner::Unknown, ..unknown(map, Some(ops.address), trampoline) },
    }
}

/// Follows a branch as far as the snapshot has the way.
fn follow(map: &Map<'_>, all: &AllOps, shown: Shown) -> HookRow {
    let row = |by, flags, note| HookRow {
        way: HookWay::Ftrace,
        by,
        flags,
        explained: shown.explained,
        sites: Vec::new(),
        note,
    };
    let known = |address: u64| all.by_address.get(&address).cloned().or_else(|| Ops::read(map, address));
    let symbol = map.symbol(shown.target);
    let is_made = symbol.is_some_and(|symbol| symbol.module == Some("__builtin__ftrace"));
    if let Some(mark) = shown.mark.filter(|_| shown.explained) {
        return match known(mark) {
            Some(ops) => row(hooker(map, &ops, None), ops.flags(), None),
            // Where the description is not there, a trampoline of BPF's still says whose it is.
            None if map.owner(shown.target) == Owner::Bpf => {
                row(Hooker::of_function(map, shown.target).described(map, mark), Vec::new(), None)
            }
            None => row(unknown(map, Some(mark), None), Vec::new(), missing_ops(map, mark)),
        };
    }
    if is_made || !map.is_of_kernel(shown.target) {
        let read = trampoline::read(map, shown.target);
        let ops = read.and_then(|read| known(read.ops)).or_else(|| all.of_trampoline(shown.target).cloned());
        if let Some(ops) = ops {
            return row(hooker(map, &ops, Some(shown.target)), ops.flags(), None);
        }
        if let Some(read) = read {
            // A helper of the kernel calls what only the description names.
            let function = read.function.filter(|function| !is_named(map, *function, &HELPERS));
            let by = match function {
                Some(function) => Hooker::of_function(map, function).described(map, read.ops),
                None => unknown(map, Some(read.ops), None),
            };
            let note = missing_ops(map, read.ops).filter(|_| function.is_none());
            return row(Hooker { trampoline: Some(shown.target), ..by }, Vec::new(), note);
        }
        if is_made {
            let note = "neither its trampoline nor who owns it is in the snapshot";
            return row(unknown(map, None, Some(shown.target)), Vec::new(), Some(note.to_owned()));
        }
        // BPF's trampolines, and what calls somebody without one.
        return row(Hooker::of_function(map, shown.target), Vec::new(), None);
    }
    // The kernel's entry, which calls one for all functions that go there.
    let function = map.snapshot.symbols.kernel("ftrace_trace_function").and_then(|at| map.word(at));
    let function = function.filter(|function| map.is_code(*function));
    if function.is_some_and(|function| is_named(map, function, &ALL_OF_THEM)) {
        let who = all.by_address.values().filter(|ops| ops.is_enabled());
        let who: Vec<String> = who.map(|ops| map.words_for(ops.function)).take(8).collect();
        let note = match who.is_empty() {
            true => "several tracers, which are not in the snapshot".to_owned(),
            false => format!("one or several of the tracers, whose functions are {}", who.join(", ")),
        };
        return row(Hooker::of_function(map, shown.target), Vec::new(), Some(note));
    }
    row(Hooker::of_function(map, function.unwrap_or(shown.target)), Vec::new(), None)
}

fn unknown(map: &Map<'_>, ops: Option<u64>, trampoline: Option<u64>) -> Hooker {
    let owner = ops.map_or(Owner::Unknown, |ops| map.owner(ops));
    Hooker {
        owner,
        function: None,
        description: ops,
        described_by: ops.map(|ops| map.owner(ops)),
        trampoline,
    }
}

fn missing_ops(map: &Map<'_>, ops: u64) -> Option<String> {
    let named = map.symbol(ops).is_some();
    (!named).then(|| format!("by unknown ops at {ops:#x}, whose memory is not in the snapshot"))
}
