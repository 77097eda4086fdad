//! What nothing explains: changed bytes, memory of nobody.

use super::counted;
use super::page::Page;
use crate::commands::verify::finding::{Finding, Inside, Mark};
use crate::commands::verify::report::ModuleReport;
use crate::commands::verify::stray::StrayReport;
use crate::output::{BAD, DIM, GOOD, harmless};

/// Places of one module, and of all, that are shown without `-v`.
const PLACES_OF_ONE: usize = 8;
const PLACES: usize = 40;

/// Changed places, module by module.
pub(super) fn unexplained(page: &mut Page, modules: &[ModuleReport], verbose: bool) {
    let mut room = PLACES;
    for module in modules.iter().filter(|module| !module.unexplained.is_empty()) {
        let name = harmless(&module.name);
        page.title(&format!("Unexplained in {name}"));
        let most = if verbose { usize::MAX } else { PLACES_OF_ONE.min(room) };
        for finding in module.unexplained.iter().take(most) {
            self::finding(page, finding);
        }
        let shown = module.unexplained.len().min(most);
        room -= shown.min(room);
        let hidden = module.unexplained.len() - shown;
        if hidden > 0 {
            page.line(&format!("  {} more of {name}: -v shows them", counted(hidden, "place")));
        }
        if module.more_unexplained > 0 {
            page.line(&format!("  and {} that were only counted", counted(module.more_unexplained, "place")));
        }
    }
}

fn finding(page: &mut Page, finding: &Finding) {
    let Finding { kind, address, section, symbol, mark, .. } = finding;
    let place =
        |inside: &Inside| format!("{}+{:#x}/{:#x}", harmless(&inside.name), inside.offset, inside.size);
    let mut heading = format!("  {} {}", address.0, kind.0);
    for inside in [symbol, section].into_iter().flatten().take(1) {
        heading.push_str(if *mark { " before " } else { " " });
        heading.push_str(&place(inside));
    }
    if let (Some(_), Some(section)) = (symbol, section) {
        heading.push_str(&format!(" ({}+{:#x})", harmless(&section.name), section.offset));
    }
    let bytes = counted(finding.bytes, "byte");
    let more = if finding.cut { " or more" } else { "" };
    page.line(&format!("{heading}: {bytes}{more}"));
    finding.why.iter().for_each(|why| page.line(&format!("    {}", why.text)));
    for looks in &finding.looks_like {
        page.line(&format!("    looks like: {}{looks}{}", BAD.render(), BAD.render_reset()));
    }
    let width = finding.lines.iter().map(|line| line.bytes.len()).max().unwrap_or(0);
    for line in &finding.lines {
        let (sign, style) = match line.mark {
            Mark::Same => (' ', DIM),
            Mark::Expected => ('-', GOOD),
            Mark::Found => ('+', BAD),
        };
        let target = line.target.as_ref().map(|target| format!("  # {target}")).unwrap_or_default();
        let text = format!("    {sign} {}  {:<width$}  {}{target}", line.address.0, line.bytes, line.text);
        page.line(&format!("{}{}{}", style.render(), text.trim_end(), style.render_reset()));
    }
    page.line("");
}

/// Memory that no listed module owns.
pub(super) fn strays(page: &mut Page, strays: &[StrayReport]) {
    if strays.is_empty() {
        return;
    }
    page.title("Memory of no listed module");
    for stray in strays {
        let style = if stray.unexplained { BAD } else { anstyle::Style::new() };
        let mut line = format!("  {}-{}  {}", stray.start.0, stray.end.0, harmless(&stray.describe()));
        if let Some(caller) = &stray.caller {
            line.push_str(&format!(", from {}", harmless(caller)));
        }
        if let Some(first) = &stray.first_symbol {
            let more = if stray.symbols > 1 { ", ..." } else { "" };
            line.push_str(&format!(", {} ({}{more})", counted(stray.symbols, "symbol"), harmless(first)));
        }
        page.line(&format!("{}{line}{}", style.render(), style.render_reset()));
    }
}
