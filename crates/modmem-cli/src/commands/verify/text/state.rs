//! The machine state in a few lines.

use super::counted;
use super::page::Page;
use crate::commands::verify::state::{Feature, Key, State};
use crate::features;
use crate::output::grouped;

/// What decides about code, and what speaks for it. What nothing speaks for is left out.
pub(super) fn show(page: &mut Page, state: &State, verbose: bool) {
    let lines = lines(state);
    let features: Vec<&Feature> =
        state.features.iter().filter(|feature| feature.on.proven || feature.on.sites > 0).collect();
    if lines.is_empty() && features.is_empty() {
        return;
    }
    page.title("The machine, as all of its code shows it");
    lines.iter().for_each(|line| page.line(line));
    for (word, on) in [("on", true), ("off", false)] {
        let names = features.iter().filter(|feature| feature.on.value == on);
        let names: Vec<String> = names.map(|feature| name(feature, verbose)).collect();
        if !names.is_empty() {
            page.wrapped(&format!("  CPU features {word}: "), &names);
        }
    }
    if features.iter().any(|feature| feature.on.proven) {
        page.line("  * and proven: the kernel's own memory says so. The rest is what all sites agree on.");
    }
}

fn name(feature: &Feature, verbose: bool) -> String {
    match (feature.on.proven, verbose) {
        (true, _) => format!("{}*", feature.name),
        (false, true) => format!("{} ({})", feature.name, grouped(feature.on.sites)),
        (false, false) => feature.name.clone(),
    }
}

fn lines(state: &State) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(one) = &state.one_cpu {
        let what = match one.value {
            true => "one CPU, so without lock prefixes",
            false => "several CPUs, lock prefixes are in",
        };
        lines.push(format!("  {what} ({})", speaks(one.proven, one.sites)));
    }
    if let Some(thunk) = &state.return_thunk {
        let name = thunk.value.symbol.clone().unwrap_or_else(|| thunk.value.address.0.to_string());
        lines.push(format!("  returns jump to {name} ({})", speaks(thunk.proven, thunk.sites)));
    } else if let Some(off) = state.features.iter().find(|f| f.name == features::RETURN_THUNKS && !f.on.value)
    {
        lines.push(format!("  returns are plain returns ({})", speaks(off.on.proven, off.on.sites)));
    }
    if let Some(depth) = &state.call_depth {
        lines.push(format!("  calls are counted ({})", speaks(depth.proven, depth.sites)));
    }
    let mut kinds = Vec::new();
    let mut kind = |name, all: usize, proven: usize| {
        if all > 0 {
            kinds.push(format!("{} ({} proven)", counted(all, name), grouped(proven as u64)));
        }
    };
    kind("static key", state.static_keys.len(), proven(&state.static_keys));
    kind("static call key", state.static_calls.len(), proven(&state.static_calls));
    kind("paravirt call", state.paravirt_calls.len(), proven(&state.paravirt_calls));
    if !kinds.is_empty() {
        lines.push(format!("  {}", kinds.join(", ")));
    }
    lines
}

fn proven<T>(keys: &[Key<T>]) -> usize {
    keys.iter().filter(|key| key.fact.proven).count()
}

fn speaks(proven: bool, sites: u64) -> String {
    match proven {
        true => "proven by the kernel's memory".into(),
        false => counted(sites as usize, "site"),
    }
}
