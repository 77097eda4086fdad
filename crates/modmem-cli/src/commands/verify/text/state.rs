//! The machine state in a few lines.

use super::counted;
use super::page::Page;
use crate::commands::verify::state::State;
use crate::output::grouped;

/// What decides about code, and what speaks for it.
pub(super) fn show(page: &mut Page, state: &State, verbose: bool) {
    page.title("The machine, as all of its code shows it");
    if let Some(one) = &state.one_cpu {
        let what = if one.value {
            "one CPU, so without lock prefixes"
        } else {
            "several CPUs, lock prefixes are in"
        };
        page.line(&format!("  {what} ({})", speaks(one.proven, one.sites)));
    }
    match &state.return_thunk {
        Some(thunk) => {
            let name = thunk.value.symbol.clone().unwrap_or_else(|| thunk.value.address.0.to_string());
            page.line(&format!("  returns jump to {name} ({})", speaks(thunk.proven, thunk.sites)));
        }
        None => page.line("  returns are plain returns"),
    }
    if let Some(depth) = &state.call_depth {
        page.line(&format!("  calls are counted ({})", speaks(depth.proven, depth.sites)));
    }
    for (word, on) in [("on", true), ("off", false)] {
        let names = state.features.iter().filter(|feature| feature.on.value == on);
        let names: Vec<String> = names
            .map(|feature| {
                let mark = if feature.on.proven { "*" } else { "" };
                match verbose && !feature.on.proven {
                    true => format!("{} ({})", feature.name, grouped(feature.on.sites)),
                    false => format!("{}{mark}", feature.name),
                }
            })
            .collect();
        if !names.is_empty() {
            page.wrapped(&format!("  CPU features {word}: "), &names);
        }
    }
    let proven = |list: &[bool]| list.iter().filter(|proven| **proven).count();
    let keys: Vec<bool> = state.static_keys.iter().map(|key| key.fact.proven).collect();
    let calls: Vec<bool> = state.static_calls.iter().map(|key| key.fact.proven).collect();
    let paravirt: Vec<bool> = state.paravirt_calls.iter().map(|key| key.fact.proven).collect();
    let line = |name, list: &[bool]| {
        format!("{} ({} proven)", counted(list.len(), name), grouped(proven(list) as u64))
    };
    page.line(&format!(
        "  {}, {}, {}",
        line("static key", &keys),
        line("static call key", &calls),
        line("paravirt call", &paravirt)
    ));
    if state.features.iter().any(|feature| feature.on.proven) {
        page.line("  * and proven: the kernel's own memory says so. The rest is what all sites agree on.");
    }
}

fn speaks(proven: bool, sites: u64) -> String {
    match proven {
        true => "proven by the kernel's memory".into(),
        false => counted(sites as usize, "site"),
    }
}
