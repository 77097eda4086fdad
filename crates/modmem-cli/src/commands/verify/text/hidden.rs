//! Modules that are in no list, each as one.

use super::counted;
use super::page::Page;
use crate::commands::verify::hidden::HiddenReport;
use crate::commands::verify::hooks::HookReport;
use crate::output::{BAD, harmless};

/// Names that are shown without `-v`.
const FEW: usize = 16;

pub(super) fn show(page: &mut Page, hidden: &[HiddenReport], hooks: &[HookReport], verbose: bool) {
    for module in hidden {
        page.title(&format!("HIDDEN MODULE {}", harmless(&module.name)));
        let memories = module.memories.iter().map(|memory| {
            let kind = memory.kind.map_or("memory", |kind| kind.0.name());
            format!("{kind} {}-{}", memory.start.0, memory.end.0)
        });
        let style = BAD;
        let line = format!("  it is in no list; its own struct module is at {}", module.address.0);
        page.line(&format!("{}{line}{}", style.render(), style.render_reset()));
        page.wrapped("  memories: ", &memories.collect::<Vec<_>>());
        // What the compiler writes before functions is no symbol of anybody's.
        let symbols = module.symbols.iter().map(|symbol| symbol.name.as_str());
        let symbols = symbols.filter(|name| !name.starts_with("__pfx_"));
        names(page, "  symbols: ", symbols, verbose);
        names(page, "  exports: ", module.exports.iter().map(String::as_str), verbose);
        let imports: Vec<String> = module
            .imports
            .iter()
            .map(|import| match &import.module {
                Some(module) => format!("{} [{module}]", import.name),
                None => import.name.clone(),
            })
            .collect();
        names(page, "  calls: ", imports.iter().map(String::as_str), verbose);
        for hook in module.hooks.iter().filter_map(|index| hooks.get(*index)) {
            page.line(&format!(
                "  hooks {}, see below: {}",
                counted(hook.sites.len() + hook.more, "place"),
                hook.way
            ));
        }
    }
}

fn names<'n>(page: &mut Page, start: &str, names: impl Iterator<Item = &'n str>, verbose: bool) {
    let mut shown: Vec<String> = names.map(harmless).collect();
    if shown.is_empty() {
        return;
    }
    let hidden = if verbose { 0 } else { shown.len().saturating_sub(FEW) };
    shown.truncate(shown.len() - hidden);
    if hidden > 0 {
        shown.push(format!("and {} more: -v shows them", crate::output::grouped(hidden as u64)));
    }
    page.wrapped(start, &shown);
}
