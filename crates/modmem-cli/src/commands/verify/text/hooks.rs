//! Who hooks what: a line for each hooker and way, with what is hooked.

use super::counted;
use super::page::Page;
use crate::commands::verify::hooks::{HookReport, HookerReport, Named, SiteReport};
use crate::output::{BAD, harmless};

/// Rows that are shown without `-v`.
const ROWS: usize = 40;

/// The table.
pub(super) fn show(page: &mut Page, hooks: &[HookReport], verbose: bool) {
    if hooks.is_empty() {
        return;
    }
    page.title("Who hooks what");
    let most = if verbose { usize::MAX } else { ROWS };
    for hook in hooks.iter().take(most) {
        row(page, hook);
    }
    let hidden = hooks.len().saturating_sub(most);
    if hidden > 0 {
        page.line(&format!("  {} more: -v shows them", counted(hidden, "hooker")));
    }
}

fn row(page: &mut Page, hook: &HookReport) {
    let by = &hook.by;
    let style =
        if hook.explained && !matches!(by.owner, "nobody" | "hidden") { anstyle::Style::new() } else { BAD };
    let mut line = format!("{}, by {}", hook.way, who(by));
    let mut details: Vec<String> = hook.flags.iter().map(|flag| (*flag).to_owned()).collect();
    if let Some(description) = &by.description {
        let what = match hook.way {
            "kprobe" if by.owner != "kernel" => "struct kprobe",
            "livepatch" => "struct klp_func",
            _ => "struct ftrace_ops",
        };
        details
            .push(format!("{what} {}", name(description, by.described_by, by.describing_module.as_deref())));
    }
    if let Some(trampoline) = by.trampoline {
        details.push(format!("trampoline {}", trampoline.0));
    }
    if !details.is_empty() {
        line.push_str(&format!(" ({})", details.join(", ")));
    }
    if !hook.explained {
        line.push_str(", which no rule allows");
    }
    if let Some(note) = &hook.note {
        line.push_str(&format!("; {}", harmless(note)));
    }
    page.line(&format!("  {}{line}{}", style.render(), style.render_reset()));
    let mut sites: Vec<String> = hook.sites.iter().map(site).collect();
    if hook.more > 0 {
        let what = if hook.sites.len() + hook.more == 1 { "place" } else { "more place" };
        sites.push(format!("and {}: -v shows them", counted(hook.more, what)));
    }
    if !sites.is_empty() {
        page.wrapped("      ", &sites);
    }
}

/// Whose function it is.
fn who(by: &HookerReport) -> String {
    let module = by.module.as_deref();
    match &by.function {
        Some(function) => name(function, Some(by.owner), module),
        None => match (by.owner, module) {
            ("hidden", Some(module)) => format!("the HIDDEN module {}", harmless(module)),
            ("module", Some(module)) => format!("module {}", harmless(module)),
            ("kernel", _) => "the kernel".to_owned(),
            ("bpf", _) => "BPF".to_owned(),
            ("nobody", _) => "memory of no listed module".to_owned(),
            _ => "somebody unknown".to_owned(),
        },
    }
}

/// An address by its symbol and owner.
fn name(named: &Named, owner: Option<&str>, module: Option<&str>) -> String {
    let name = match &named.symbol {
        Some(symbol) => harmless(symbol),
        None => named.address.0.to_string(),
    };
    match (owner, module) {
        (Some("hidden"), Some(module)) => format!("{name} [{}, HIDDEN]", harmless(module)),
        (_, Some(module)) => format!("{name} [{}]", harmless(module)),
        (Some("nobody"), _) => format!("{name} in memory of no listed module"),
        (Some("bpf"), _) => format!("{name} [bpf]"),
        (Some("kernel"), _) => format!("the kernel's {name}"),
        _ => name,
    }
}

fn site(site: &SiteReport) -> String {
    let mut text = match &site.symbol {
        Some(symbol) => harmless(symbol),
        None => site.address.0.to_string(),
    };
    if site.offset > 0 && site.symbol.is_some() {
        text.push_str(&format!("+{:#x}", site.offset));
    }
    match &site.module {
        Some(module) => format!("{text} [{}]", harmless(module)),
        None => text,
    }
}
