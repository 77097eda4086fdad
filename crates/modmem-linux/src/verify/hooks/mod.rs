//! Who hooks what: for each function that is traced, probed, patched or attached to, by whom.
//!
//! A hook by the book is explained, and a hook all the same. What code shows (a call of a trampoline, a breakpoint) is
//! followed to who owns what is called in the end, as far as the snapshot has the memory on the way: trampolines and
//! descriptions of ftrace, probes, the functions of tracepoints, livepatches. All of it was written by the machine that is
//! looked at: it names, it excuses nothing.

mod calls;
mod ftrace;
mod livepatch;
mod map;
mod ops;
mod probes;
#[cfg(test)]
mod tests;
mod trampoline;

use modmem::profile::Profile;

use self::map::Map;
use super::{Checked, HiddenModule, StateFact, Stray};
use crate::snapshot::Snapshot;

/// How something is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookWay {
    /// The entry of a function calls a tracer.
    Ftrace,
    /// A probe, by a breakpoint, a jump, or ftrace.
    Kprobe,
    /// A livepatch has another function in its place.
    Livepatch,
    /// Functions that a tracepoint calls.
    Tracepoint,
    /// A static call that leads into another module than its key is of.
    StaticCall,
}

/// Whose something is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The kernel itself.
    Kernel,
    /// A listed module.
    Module(String),
    /// Code that BPF made.
    Bpf,
    /// A module that is in no list, by the name that it gives itself.
    Hidden(String),
    /// Memory where modules may lie that no listed module owns.
    Nobody,
    /// What the snapshot knows nothing of: what the kernel allocated, most likely.
    Unknown,
}

/// Who hooks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hooker {
    /// Whose function is called, as far as that can be followed.
    pub owner: Owner,
    /// The function; `None` where the way ends before.
    pub function: Option<u64>,
    /// Where the kernel's description of the hook lies (`struct ftrace_ops`, `struct kprobe`, `struct klp_func`).
    pub description: Option<u64>,
    /// Whose memory that is.
    pub described_by: Option<Owner>,
    /// The trampoline on the way.
    pub trampoline: Option<u64>,
}

/// One place that is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookSite {
    /// The instruction; of tracepoints and static calls, what describes them.
    pub address: u64,
    /// The module, by its index among those that were verified; `None` for the kernel.
    pub module: Option<usize>,
}

/// All that one hooker hooks in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRow {
    /// How.
    pub way: HookWay,
    /// By whom.
    pub by: Hooker,
    /// What the kernel's description says of it.
    pub flags: Vec<&'static str>,
    /// Whether rules allow what was found at all of these places.
    pub explained: bool,
    /// What is hooked, by address. None where the snapshot does not say.
    pub sites: Vec<HookSite>,
    /// What is not known of it.
    pub note: Option<String>,
}

impl HookRow {
    /// One of which nothing is known but who hooks what, by the book.
    fn plain(way: HookWay, by: Hooker, sites: Vec<HookSite>) -> HookRow {
        HookRow { way, by, flags: Vec::new(), explained: true, sites, note: None }
    }
}

impl Hooker {
    /// Whoever is called there.
    fn of_function(map: &Map<'_>, function: u64) -> Hooker {
        let owner = map.owner(function);
        Hooker { owner, function: Some(function), description: None, described_by: None, trampoline: None }
    }

    /// The same, as a description at that address says.
    fn described(self, map: &Map<'_>, description: u64) -> Hooker {
        let described_by = Some(map.owner(description));
        Hooker { description: Some(description), described_by, ..self }
    }
}

/// The table, by way and who hooks.
pub(super) fn find(
    snapshot: &Snapshot,
    profile: &Profile,
    modules: &[Checked],
    (strays, hidden): (&[Stray], &[HiddenModule]),
    state: &[StateFact],
) -> Vec<HookRow> {
    let map = Map::new(snapshot, profile, modules, strays, hidden);
    let probes = probes::Probes::find(&map, modules);
    let mut rows = ftrace::rows(&map, modules, &probes);
    rows.extend(probes.rows(&map, modules));
    rows.extend(livepatch::rows(&map));
    rows.extend(calls::tracepoints(&map, state));
    rows.extend(calls::static_calls(&map, state));
    for row in &mut rows {
        row.sites.sort_unstable();
        row.sites.dedup();
    }
    rows.sort_by(|a, b| (a.way, a.explained, &a.by).cmp(&(b.way, b.explained, &b.by)));
    rows
}
