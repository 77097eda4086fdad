//! Who set kprobes: the kernel's list says where they are, the modules' own memory who they are of (`struct kprobe`,
//! include/linux/kprobes.h).

use std::collections::{BTreeMap, HashSet};

use modmem::verify::HookKind;

use super::map::Map;
use super::{HookRow, HookSite, HookWay, Hooker, Owner};
use crate::verify::{Checked, Outcome};

/// Fields, in words: a list of the probes at one address, of one alone leading back to itself; then how often it was
/// missed, the address, the symbol's name, an offset, and the functions that are called before and behind.
const ADDRESS: u64 = 3;
const BEFORE: u64 = 6;
const BEHIND: u64 = 7;
/// A return probe's own function follows the probe, within so many words.
const RETURN: std::ops::Range<u64> = 8..24;
/// The kernel's function that makes a probe one of returns.
const OF_RETURNS: &str = "pre_handler_kretprobe";
/// More of them than modules set.
const MOST: usize = 1 << 16;

/// A probe that a module's memory describes.
#[derive(Clone, Copy, Debug)]
struct Described {
    at: u64,
    function: u64,
}

/// Probes by the address that they sit on.
pub(super) struct Probes {
    described: BTreeMap<u64, Vec<Described>>,
}

impl Probes {
    pub(super) fn find(map: &Map<'_>, modules: &[Checked]) -> Probes {
        let set = places(map, modules);
        let mut described: BTreeMap<u64, Vec<Described>> = BTreeMap::new();
        let size = map.word_size();
        let mut count = 0;
        for range in map.data() {
            for (at, word) in map.words(&range) {
                // A list that names itself, as one of one probe does; or the address of one that somebody else lists.
                let list = match at == word {
                    true => Some(at),
                    false => at.checked_sub(ADDRESS * size).filter(|_| set.contains(&word)),
                };
                let found = list.and_then(|list| Some((list, probe(map, list, size, at == word)?)));
                let Some((list, (address, function))) = found.filter(|_| count < MOST) else { continue };
                count += 1;
                let own = described.entry(address).or_default();
                let at = list - 2 * size;
                if own.iter().all(|known| known.at != at) {
                    own.push(Described { at, function });
                }
            }
        }
        Probes { described }
    }

    /// Who set the probes at functions whose entries lead to the kernel's handler of probes.
    pub(super) fn claim(
        &self,
        map: &Map<'_>,
        by: &Hooker,
        sites: Vec<HookSite>,
    ) -> Vec<(Hooker, Vec<HookSite>)> {
        let mut claimed: BTreeMap<Hooker, Vec<HookSite>> = BTreeMap::new();
        for site in sites {
            let own = self.by(map, site.address);
            let known = own.map(|own| Hooker { trampoline: by.trampoline, ..own });
            claimed.entry(known.unwrap_or_else(|| by.clone())).or_default().push(site);
        }
        claimed.into_iter().collect()
    }

    fn by(&self, map: &Map<'_>, address: u64) -> Option<Hooker> {
        let described = self.described.get(&address)?.first()?;
        Some(Hooker::of_function(map, described.function).described(map, described.at))
    }

    /// The rows of all probes that are not at entries that ftrace has.
    pub(super) fn rows(&self, map: &Map<'_>, modules: &[Checked]) -> Vec<HookRow> {
        let mut sites: BTreeMap<u64, Vec<&'static str>> = BTreeMap::new();
        let mut traced = HashSet::new();
        for checked in modules {
            let Outcome::Compared(report) = &checked.outcome else { continue };
            for hook in &report.hooks {
                match hook.kind {
                    HookKind::Ftrace => drop(traced.insert(hook.site.0)),
                    HookKind::Kprobe => drop(sites.entry(hook.site.0).or_default()),
                }
            }
        }
        for probe in map.snapshot.kprobes.iter().flatten().filter(|probe| !probe.gone) {
            let flags = [
                (probe.kind == 'r', "RETURN"),
                (probe.optimized, "OPTIMIZED"),
                (probe.disabled, "DISABLED"),
                (probe.on_ftrace, "FTRACE"),
            ];
            let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
            sites.insert(probe.address, flags);
        }
        for address in self.described.keys() {
            sites.entry(*address).or_default();
        }
        let mut rows: BTreeMap<(Hooker, Vec<&str>), Vec<HookSite>> = BTreeMap::new();
        for (address, flags) in sites.into_iter().filter(|(address, _)| !traced.contains(address)) {
            let nobody = || Hooker {
                owner: Owner::Unknown,
                function: None,
                description: None,
                described_by: None,
                trampoline: None,
            };
            let by = self.by(map, address).unwrap_or_else(nobody);
            rows.entry((by, flags)).or_default().push(map.site(address));
        }
        let row = |((by, flags), sites): ((Hooker, Vec<&'static str>), Vec<HookSite>)| {
            let note = by
                .function
                .is_none()
                .then(|| "set by no module's own memory: who set it is not known".into());
            HookRow { way: HookWay::Kprobe, by, flags, explained: true, sites, note }
        };
        rows.into_iter().map(row).collect()
    }
}

/// Where probes are, as the kernel lists them or as code shows them.
fn places(map: &Map<'_>, modules: &[Checked]) -> HashSet<u64> {
    let listed = map.snapshot.kprobes.iter().flatten().map(|probe| probe.address);
    let reports = modules.iter().filter_map(|checked| match &checked.outcome {
        Outcome::Compared(report) => Some(report),
        _ => None,
    });
    let shown = reports.flat_map(|report| &report.hooks).filter(|hook| hook.kind == HookKind::Kprobe);
    listed.chain(shown.map(|hook| hook.site.0)).collect()
}

/// The address and the function of the probe whose list is at `at`, which is alone in it or one of several: an optimised
/// probe has one of the kernel's before it.
fn probe(map: &Map<'_>, at: u64, size: u64, alone: bool) -> Option<(u64, u64)> {
    let word = |index: u64| map.word(at.checked_add(index * size)?);
    let before = at.checked_sub(size)?;
    // In the kernel's table: the hash list's back pointer is set.
    let is_linked =
        |back: u64| if alone { back == at } else { back != 0 && word(0).is_some_and(|next| next != 0) };
    let is_set = is_linked(word(1)?) && map.word(before)? != 0;
    let address = word(ADDRESS).filter(|address| is_set && map.is_code(*address))?;
    let function = [BEFORE, BEHIND].into_iter().find_map(|at| word(at).filter(|to| map.is_code(*to)))?;
    let is_of_returns = map.symbol(function).is_some_and(|s| s.module.is_none() && s.name == OF_RETURNS);
    let own =
        || RETURN.clone().find_map(|at| word(at).filter(|to| map.is_code(*to) && !map.is_of_kernel(*to)));
    Some((address, if is_of_returns { own().unwrap_or(function) } else { function }))
}
