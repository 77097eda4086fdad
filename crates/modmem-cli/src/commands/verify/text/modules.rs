//! Bytes by module, memory and rule.

use super::page::Page;
use crate::commands::verify::report::{ByRule, MemoryReport, ModuleReport, TallyReport};
use crate::output::{self, Column, grouped, harmless};

/// Modules with something unexplained, or all of them with their memories.
pub(super) fn table(page: &mut Page, modules: &[ModuleReport], verbose: bool) {
    let shown = modules.iter().filter(|m| verbose || m.total.unexplained > 0);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for module in shown {
        let name = harmless(&module.name);
        if module.reason.is_none() {
            rows.push(row(name, &module.total, verbose));
        }
        let memories = module.memories.iter().filter(|_| verbose);
        rows.extend(
            memories.map(|MemoryReport { kind, tally, .. }| row(format!("  {}", kind.0), tally, verbose)),
        );
    }
    if !rows.is_empty() {
        page.title("Modules");
        let mut columns = vec![
            Column::Left("module"),
            Column::Right("bytes"),
            Column::Right("identical"),
            Column::Right("explained"),
            Column::Right("unproven"),
            Column::Right("unexplained"),
            Column::Right("not compared"),
        ];
        if verbose {
            columns.push(Column::Left("explained by"));
        }
        page.line(&output::table(&columns, rows));
    }
}

/// Modules that were not compared, by why.
pub(super) fn not_compared(page: &mut Page, modules: &[ModuleReport]) {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for module in modules {
        let Some(reason) = module.reason.as_deref() else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(harmless(&module.name)),
            None => reasons.push((reason, vec![harmless(&module.name)])),
        }
    }
    if !reasons.is_empty() {
        page.title("Not compared");
    }
    for (reason, names) in reasons {
        // What concerns several symbols has a line for each.
        let mut lines = reason.lines().map(|line| harmless(line.trim()));
        let first = lines.next().unwrap_or_default();
        let rest = lines.collect::<Vec<_>>().join(", ");
        let space = if rest.is_empty() { "" } else { " " };
        page.paragraph(&format!("{first}{space}{rest}: {}", names.join(", ")));
    }
    if modules.iter().any(|module| module.outcome == "no-file") {
        page.paragraph(
            "Modules from elsewhere (DKMS, vendors): give their files, or folders of them, by --modules.",
        );
    }
}

fn row(name: String, tally: &TallyReport, verbose: bool) -> Vec<String> {
    let mut row = vec![
        name,
        grouped(tally.bytes),
        grouped(tally.identical),
        grouped(tally.explained_bytes()),
        grouped(tally.unproven_bytes()),
        grouped(tally.unexplained),
        grouped(tally.not_compared_bytes()),
    ];
    if verbose {
        let rules = tally.explained.iter();
        row.push(rules.map(|r| format!("{} {}", r.rule, grouped(r.bytes))).collect::<Vec<_>>().join(", "));
    }
    row
}

/// Bytes of all modules by what explains them.
pub(super) fn totals(page: &mut Page, total: &TallyReport) {
    page.title("Bytes of all modules");
    let of = |list: &[ByRule], rule: &str| list.iter().find(|r| r.rule == rule).map_or(0, |r| r.bytes);
    let number = |bytes: u64| if bytes == 0 { String::new() } else { grouped(bytes) };
    let mut rows = vec![vec!["as in the file, relocated".into(), grouped(total.identical), String::new()]];
    for rule in modmem::verify::Rule::ALL.map(modmem::verify::Rule::name) {
        let (explained, unproven) = (of(&total.explained, rule), of(&total.unproven, rule));
        if explained + unproven > 0 {
            rows.push(vec![rule.into(), number(explained), number(unproven)]);
        }
    }
    rows.push(vec!["unexplained".into(), grouped(total.unexplained), String::new()]);
    for reason in &total.not_compared {
        rows.push(vec![format!("not compared: {}", reason.reason), grouped(reason.bytes), String::new()]);
    }
    let columns = [Column::Left(""), Column::Right("bytes"), Column::Right("either state, unproven")];
    page.line(&output::table(&columns, rows));
}
