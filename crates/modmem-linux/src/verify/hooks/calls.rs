//! Tracepoints that somebody listens to, and static calls that lead into other modules: by the machine's own keys.

use std::collections::BTreeMap;

use modmem::Name;
use modmem::verify::{Guest as _, Variable};

use super::map::Map;
use super::{HookRow, HookSite, HookWay, Hooker, Owner};
use crate::verify::StateFact;

/// Where a tracepoint's static key is: behind its name.
const KEY: u64 = 1;
/// Words of a tracepoint at most, and the first that can be its functions.
const WORDS: std::ops::Range<u64> = 5..16;
/// More functions than listen to one.
const MOST: u64 = 64;
/// Names of static calls of tracepoints.
const OF_TRACEPOINTS: &str = "__SCK__tp_func_";

/// Tracepoints that modules have code for and that are on.
pub(super) fn tracepoints(map: &Map<'_>, state: &[StateFact]) -> Vec<HookRow> {
    let mut rows: BTreeMap<(Hooker, bool), Vec<HookSite>> = BTreeMap::new();
    for fact in state {
        let Variable::Key(key) = fact.variable else { continue };
        let Some(tracepoint) = key.0.checked_sub(KEY * map.word_size()).filter(|_| fact.value != 0) else {
            continue;
        };
        let Some(symbol) = map.symbol(tracepoint) else { continue };
        let Some(name) = symbol.name.strip_prefix("__tracepoint_") else { continue };
        let (listeners, whole) = listeners(map, tracepoint, name, symbol.module, state);
        for function in listeners {
            let by = Hooker::of_function(map, function);
            rows.entry((by, whole)).or_default().push(map.site(tracepoint));
        }
        if !whole {
            let by = Hooker {
                owner: Owner::Unknown,
                function: None,
                description: None,
                described_by: None,
                trampoline: None,
            };
            rows.entry((by, false)).or_default().push(map.site(tracepoint));
        }
    }
    merged_events(map, rows)
}

/// The functions that listen to a tracepoint, and whether these are all.
fn listeners(
    map: &Map<'_>,
    tracepoint: u64,
    name: &str,
    module: Option<&str>,
    state: &[StateFact],
) -> (Vec<u64>, bool) {
    let size = map.word_size();
    if let Some(functions) =
        WORDS.filter_map(|at| map.word(tracepoint + at * size)).find_map(|word| array(map, word))
    {
        return (functions, true);
    }
    let named = |prefix: &str| {
        let name = format!("{prefix}{name}");
        let name = Name(name.as_bytes());
        match module {
            Some(module) => map.guest.module_symbol(module, name),
            None => map.guest.kernel_symbol(name),
        }
    };
    let Some(key) = named(OF_TRACEPOINTS) else { return (Vec::new(), false) };
    let of_state = || {
        let is_it = |fact: &&StateFact| matches!(fact.variable, Variable::StaticCall(at) if at.0 == key);
        state.iter().find(is_it).map(|fact| fact.value)
    };
    let called = map.word(key).or_else(of_state).filter(|function| *function != 0);
    // The function that asks all of several listeners says nothing of them.
    match called.filter(|function| Some(*function) != named("__traceiter_") && map.is_code(*function)) {
        Some(function) => (vec![function], true),
        None => (Vec::new(), false),
    }
}

/// The functions of a tracepoint's array (`struct tracepoint_func`), if there is one in memory at this address.
fn array(map: &Map<'_>, at: u64) -> Option<Vec<u64>> {
    let size = map.word_size();
    // Function, data, priority: an array in the heap. The kernel's and the modules' own memory is none of it.
    if at == 0 || map.is_of_kernel(at) || map.module_at(at).is_some() {
        return None;
    }
    let mut functions = Vec::new();
    for index in 0..MOST {
        let function = map.word(at.checked_add(index * 3 * size)?)?;
        if function == 0 {
            break;
        }
        functions.push(Some(function).filter(|function| map.is_code(*function))?);
    }
    (!functions.is_empty()).then_some(functions)
}

/// The kernel's own ways of listening have a function for each tracepoint: they are told as one.
fn merged_events(map: &Map<'_>, rows: BTreeMap<(Hooker, bool), Vec<HookSite>>) -> Vec<HookRow> {
    const EVENTS: [(&str, &str); 3] =
        [("trace_event_raw_event_", "trace events"), ("perf_trace_", "perf"), ("__bpf_trace_", "BPF")];
    let mut merged: Vec<HookRow> = Vec::new();
    for ((by, whole), sites) in rows {
        let own = |site: &HookSite| match (&by.owner, site.module) {
            (Owner::Kernel, _) => true,
            (Owner::Module(name), Some(module)) => map.name(module) == name,
            _ => false,
        };
        let symbol = by.function.and_then(|function| map.symbol(function));
        let event =
            symbol.and_then(|symbol| EVENTS.iter().find(|(prefix, _)| symbol.name.starts_with(prefix)));
        let event = event.filter(|_| sites.iter().all(own));
        let (by, note) = match event {
            Some((_, what)) => {
                (Hooker { owner: Owner::Kernel, function: None, ..by }, Some(format!("by {what}")))
            }
            None => {
                let unknown = "who listens is not in the snapshot";
                (by, (!whole).then(|| unknown.to_owned()))
            }
        };
        match merged.iter_mut().find(|row| row.by == by && row.note == note) {
            Some(row) => row.sites.extend(sites),
            None => merged.push(HookRow {
                way: HookWay::Tracepoint,
                by,
                flags: Vec::new(),
                explained: true,
                sites,
                note,
            }),
        }
    }
    merged
}

/// Static calls of functions of another module than the key is of, by these two.
pub(super) fn static_calls(map: &Map<'_>, state: &[StateFact]) -> Vec<HookRow> {
    let mut rows: BTreeMap<Hooker, Vec<HookSite>> = BTreeMap::new();
    let mut count: BTreeMap<(Option<usize>, Owner), u64> = BTreeMap::new();
    let mut foreign = Vec::new();
    for fact in state {
        let Variable::StaticCall(key) = fact.variable else { continue };
        let is_tracepoint = map.symbol(key.0).is_some_and(|symbol| symbol.name.starts_with(OF_TRACEPOINTS));
        if fact.value == 0 || is_tracepoint {
            continue;
        }
        let owner = map.owner(fact.value);
        if owner == Owner::Kernel || owner == map.owner(key.0) {
            continue;
        }
        let site = map.site(key.0);
        *count.entry((site.module, owner.clone())).or_default() += 1;
        foreign.push((site, owner, fact.value));
    }
    for (site, owner, function) in foreign {
        let mut by = Hooker::of_function(map, function);
        // A driver that fills in all calls of another module is one line.
        if count.get(&(site.module, owner)).is_some_and(|count| *count > 4) {
            by.function = None;
        }
        rows.entry(by).or_default().push(site);
    }
    rows.into_iter().map(|(by, sites)| HookRow::plain(HookWay::StaticCall, by, sites)).collect()
}
