//! The report for people: what stands out first, the verdict last.

use super::finding::{Finding, Mark};
use super::report::{ByRule, MemoryReport, ModuleReport, Report, TallyReport, Verdict};
use super::state::State;
use super::stray::StrayReport;
use crate::output::{BAD, Column, DIM, GOOD, TITLE, grouped, harmless, table};

/// Places of one module, and of all, that are shown without `-v`.
const PLACES_OF_ONE: usize = 8;
const PLACES: usize = 40;

/// The whole report.
pub(super) fn page(report: &Report, verbose: bool) -> String {
    let mut page = Page::default();
    let (modules, release) = (report.verdict.modules, harmless(&report.kernel.release));
    page.line(&format!(
        "{}: {release}, {}, compared with {}",
        harmless(&report.snapshot),
        counted(modules, "module"),
        harmless(&report.files)
    ));
    modules_table(&mut page, &report.modules, verbose);
    findings(&mut page, &report.modules, verbose);
    strays(&mut page, &report.strays);
    totals(&mut page, &report.total);
    state(&mut page, &report.state, verbose);
    remarks(&mut page, report);
    verdict(&mut page, &report.verdict, &report.total);
    page.text
}

/// Modules with something unexplained, or all of them with their memories.
fn modules_table(page: &mut Page, modules: &[ModuleReport], verbose: bool) {
    let shown = modules.iter().filter(|m| verbose || m.outcome != "compared" || m.total.unexplained > 0);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for module in shown {
        let name = harmless(&module.name);
        match &module.reason {
            Some(reason) => page.late(&format!("{name} was not compared: {}", harmless(reason))),
            None => rows.push(row(name, &module.total, verbose)),
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
        page.line(&table(&columns, rows));
    }
    page.bring_late();
}

fn row(name: String, tally: &TallyReport, verbose: bool) -> Vec<String> {
    let mut row = vec![
        name,
        grouped(tally.total),
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

fn findings(page: &mut Page, modules: &[ModuleReport], verbose: bool) {
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
    let Finding { kind, address, section, symbol, .. } = finding;
    let place = |inside: &super::finding::Inside| {
        format!("{}+{:#x}/{:#x}", harmless(&inside.name), inside.offset, inside.size)
    };
    let mut heading = format!("  {} {}", address.0, kind.0);
    for inside in [symbol, section].into_iter().flatten().take(1) {
        heading.push(' ');
        heading.push_str(&place(inside));
    }
    if let (Some(_), Some(section)) = (symbol, section) {
        heading.push_str(&format!(" ({}+{:#x})", harmless(&section.name), section.offset));
    }
    let bytes = counted(finding.bytes, "byte");
    let more = if finding.cut { " or more" } else { "" };
    page.line(&format!("{heading}: {bytes}{more}"));
    finding.why.iter().for_each(|why| page.line(&format!("    {why}")));
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

fn strays(page: &mut Page, strays: &[StrayReport]) {
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
            line.push_str(&format!(", {} ({}...)", counted(stray.symbols, "symbol"), harmless(first)));
        }
        page.line(&format!("{}{line}{}", style.render(), style.render_reset()));
    }
}

fn totals(page: &mut Page, total: &TallyReport) {
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
    page.line(&table(&columns, rows));
}

fn state(page: &mut Page, state: &State, verbose: bool) {
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
        None => page.line("  returns return"),
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
    let line = |name, list: &[bool]| format!("{} ({} proven)", counted(list.len(), name), proven(list));
    page.line(&format!(
        "  {}, {}, {}",
        line("static key", &keys),
        line("static call", &calls),
        line("paravirt call", &paravirt)
    ));
    if state.features.iter().any(|feature| feature.on.proven) {
        page.line("  (* and proven: the kernel's own memory says so; the rest is what all sites agree on)");
    }
}

fn speaks(proven: bool, sites: u64) -> String {
    match proven {
        true => "proven by the kernel's memory".into(),
        false => counted(sites as usize, "site"),
    }
}

fn remarks(page: &mut Page, report: &Report) {
    if report.remarks.is_empty() && report.kernel.proven {
        return;
    }
    page.title("Remarks");
    if !report.kernel.proven {
        page.line(&format!("  rules of {}", report.kernel.profile));
    }
    report.remarks.iter().for_each(|remark| page.line(&format!("  {}", harmless(remark))));
}

fn verdict(page: &mut Page, verdict: &Verdict, total: &TallyReport) {
    page.line("");
    let Verdict { modules, .. } = *verdict;
    if verdict.clean {
        let compared = total.total - total.not_compared_bytes();
        let unproven = match total.unproven_bytes() {
            0 => String::new(),
            bytes => format!(", {} of them in either of two states", grouped(bytes)),
        };
        let text = format!(
            "verified: nothing unexplained in {}, {} bytes compared{unproven}",
            counted(modules, "module"),
            grouped(compared)
        );
        page.line(&format!("{}{text}{}", GOOD.render(), GOOD.render_reset()));
        return;
    }
    let mut parts = Vec::new();
    if verdict.unexplained > 0 {
        parts.push(format!(
            "{} unexplained in {}",
            counted(verdict.unexplained as usize, "byte"),
            counted(verdict.modules_with_unexplained, "module")
        ));
    }
    let mut part = |count: usize, thing: &str, what: &str| {
        if count > 0 {
            parts.push(format!("{} {what}", counted(count, thing)));
        }
    };
    part(verdict.unexplained_strays, "piece", "of memory that no listed module owns");
    part(verdict.modules_without_file, "module", "without a file");
    part(verdict.modules_not_comparable, "module", "not comparable");
    part(verdict.missing as usize, "byte", "of modules not in the snapshot");
    let text = format!("NOT VERIFIED, of {}: {}", counted(modules, "module"), parts.join("; "));
    page.line(&format!("{}{text}{}", BAD.render(), BAD.render_reset()));
}

/// So many of a thing.
fn counted(count: usize, thing: &str) -> String {
    format!("{} {thing}{}", grouped(count as u64), if count == 1 { "" } else { "s" })
}

#[derive(Default)]
struct Page {
    text: String,
    late: Vec<String>,
}

impl Page {
    fn title(&mut self, title: &str) {
        self.line(&format!("\n{}{title}{}", TITLE.render(), TITLE.render_reset()));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Keeps a line for [`bring_late`](Page::bring_late).
    fn late(&mut self, line: &str) {
        self.late.push(line.to_owned());
    }

    fn bring_late(&mut self) {
        if !self.late.is_empty() {
            self.title("Not compared");
            std::mem::take(&mut self.late).iter().for_each(|line| self.line(&format!("  {line}")));
        }
    }

    /// Words behind a beginning, in lines of modest width.
    fn wrapped(&mut self, start: &str, words: &[String]) {
        const WIDTH: usize = 110;
        let indent = " ".repeat(start.len());
        let mut line = start.to_owned();
        for (at, word) in words.iter().enumerate() {
            if line.len() + word.len() > WIDTH && line.len() > indent.len() {
                self.line(&line);
                line.clone_from(&indent);
            }
            line.push_str(word);
            line.push_str(if at + 1 < words.len() { ", " } else { "" });
        }
        self.line(&line);
    }
}
