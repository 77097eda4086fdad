//! The report for people.

use std::fmt::Write as _;

use super::case::{Case, Cut, PAGE_SIZES};
use super::content::Content;
use super::cost::Cost;
use super::distribution::Distribution;
use super::measure::Footprint;
use super::report::Report;
use crate::output::{Column, DIM, TITLE, bytes, grouped, table};

pub(crate) fn page(report: &Report) -> String {
    let mut text = String::new();
    let many = report.modules.len() != 1;
    // Bytes of one module can be checked with readelf; those of many are too long to compare.
    let size: Size = if many { bytes } else { grouped };
    let subject = match &report.modules[..] {
        [module] => module.name.clone(),
        modules => format!("{} modules", grouped(modules.len() as u64)),
    };
    let (title, plain) = (TITLE.render(), TITLE.render_reset());
    push(&mut text, &format!("{title}{subject}{plain} of {}", report.kernel.release));
    push(&mut text, &content_table(&report.total.0.content, size));
    push(&mut text, &load_only_line(&report.total.0.content, size));
    for page_size in PAGE_SIZES {
        text.push('\n');
        push(&mut text, &cost_table(&report.total.0, page_size, size));
    }
    if many {
        text.push('\n');
        push(&mut text, &distribution(&report.distribution));
    }
    text.push('\n');
    push(&mut text, &footer(report));
    text
}

/// How bytes are written.
type Size = fn(u64) -> String;

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn content_table(content: &Content, size: Size) -> String {
    let columns =
        [Column::Left("what has to be somewhere"), Column::Right("bytes"), Column::Right("of what stays")];
    let core = |title: &str, number| row(title, number, Some(content.core()), size);
    let rows = [
        core("stays after init", content.core()),
        core("  sections", content.core_sections),
        core("    text", content.text),
        core("    ORC tables", content.orc),
        core("    needed only while loading", content.load_only.total()),
        core("  kallsyms", content.core_kallsyms),
        row("goes after init", content.init(), None, size),
        row("  sections", content.init_sections, None, size),
        row("  kallsyms", content.init_kallsyms, None, size),
        row("percpu, for each CPU", content.percpu, None, size),
    ];
    table(&columns, rows)
}

fn row(title: &str, number: u64, whole: Option<u64>, size: Size) -> Vec<String> {
    let share = whole.map_or_else(String::new, |whole| percent(number, whole));
    vec![title.to_owned(), size(number), share]
}

/// Which sections "needed only while loading" are.
fn load_only_line(content: &Content, size: Size) -> String {
    let sections = content.load_only.sections();
    let list: Vec<String> = sections.iter().map(|&(name, bytes)| format!("{name} {}", size(bytes))).collect();
    let lines: Vec<String> = list.chunks(3).map(|three| three.join(", ")).collect();
    match lines.is_empty() {
        true => "  needed only while loading: nothing".into(),
        false => format!("  needed only while loading: {}", lines.join(",\n    ")),
    }
}

/// A column a way to cut memory, all with pages of one size.
fn cost_table(footprint: &Footprint, page_size: u64, size: Size) -> String {
    let title = match page_size {
        4096 => "4 KiB pages",
        16384 => "16 KiB pages",
        _ => "64 KiB pages",
    };
    let [first, second, third] = Cut::ALL.map(|cut| Column::Right(cut.title()));
    let costs = Cut::ALL.map(|cut| footprint.cost(Case { cut, page_size }));
    let row = |title: &str, value: &dyn Fn(&Cost) -> String| {
        let mut cells = vec![title.to_owned()];
        cells.extend(costs.iter().map(|cost| value(cost)));
        cells
    };
    let pages = |bytes: u64| grouped(bytes.div_ceil(page_size));
    let rows = [
        row("allocated while loading", &|cost| size(cost.allocated())),
        row("  stays after init", &|cost| size(cost.core.allocated)),
        row("  given back after init", &|cost| size(cost.init.allocated)),
        row("waste while loading", &|cost| size(cost.waste())),
        row("  of what is allocated", &|cost| percent(cost.waste(), cost.allocated())),
        row("  alignment", &|cost| size(cost.padding())),
        row("  rounding to pages", &|cost| size(cost.rounding())),
        row("waste that stays", &|cost| size(cost.core_waste())),
        row("blocks, and guard pages", &|cost| grouped(cost.blocks())),
        row("  that stay", &|cost| grouped(cost.core.blocks)),
        row("pages that stay", &|cost| pages(cost.core.allocated)),
        row("  with text", &|cost| pages(cost.text)),
        row("without kallsyms: allocated", &|cost| {
            size(cost.core.without_kallsyms + cost.init.without_kallsyms)
        }),
        row("  stays after init", &|cost| size(cost.core.without_kallsyms)),
    ];
    table(&[Column::Left(title), first, second, third], rows)
}

fn distribution(facts: &Distribution) -> String {
    let count = facts.modules as u64;
    let share = |part: usize| format!("{} modules ({})", grouped(part as u64), percent(part as u64, count));
    let mut text = String::from("Module by module, module_memory with 4 KiB pages:\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "  median: {} needed, {} allocated, of which {} stay; {} waste",
        bytes(facts.median_needed),
        bytes(facts.median_allocated),
        bytes(facts.median_resident),
        bytes(facts.median_waste),
    );
    let _ = writeln!(text, "  more than half is waste: {}", share(facts.mostly_waste));
    for below in &facts.text_below_page {
        let _ = writeln!(text, "  less than {} KiB of text: {}", below.page_size >> 10, share(below.modules));
    }
    let columns = [
        Column::Left("most waste"),
        Column::Right("needed"),
        Column::Right("allocated"),
        Column::Right("waste"),
        Column::Right("waste in 6.1"),
    ];
    let rows = facts.most_waste.iter().map(|module| {
        let numbers = [module.needed, module.allocated, module.waste, module.waste_module_layout];
        std::iter::once(module.name.clone()).chain(numbers.map(grouped)).collect()
    });
    text + &table(&columns, rows)
}

fn footer(report: &Report) -> String {
    let (dim, plain) = (DIM.render(), DIM.render_reset());
    let kernel = &report.kernel;
    let mut text = format!("kernel {} from {}, profile {}", kernel.release, kernel.source, kernel.profile);
    for remark in &kernel.remarks {
        let _ = write!(text, "\nnote: {remark}");
    }
    let _ = write!(text, "\n{dim}Assumptions (definitions: docs/footprint.md):");
    for assumption in report.assumptions {
        let _ = write!(text, "\n- {assumption}");
    }
    let _ = write!(text, "{plain}");
    text
}

fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".into(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}
