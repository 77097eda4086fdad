//! What is known of one file, as a page of text.

use std::fmt::Write as _;

use super::report::{BuiltInReport, Field, FileReport, SectionReport};
use crate::output::{Column, TITLE, grouped, harmless, table, terminal_width};

pub(crate) fn page(report: &FileReport) -> String {
    let mut page = Page::default();
    let FileReport { file, name, machine, class, byte_order, .. } = report;
    page.title(&format!("{}: {name}", harmless(file)));
    page.line(&format!("  {machine}, {class}, {byte_order} endian, {} bytes", grouped(report.size as u64)));
    let proven = if report.proven { "" } else { " (unproven)" };
    page.line(&format!("  laid out for {}{proven}", report.profile));
    if let Some(caveat) = &report.caveat {
        page.line(&format!("  note: {caveat}"));
    }
    if let Some(error) = &report.layout_error {
        page.line(&format!("  cannot be laid out: {error}"));
    }
    match &report.signature {
        Some(signature) => {
            let hash = signature.hash.as_deref().unwrap_or("unknown hash");
            let size = grouped(signature.size as u64);
            page.line(&format!("  signed: {}, {hash}, {size} bytes (not verified)", signature.kind));
        }
        None => page.line("  not signed"),
    }
    page.title("Fields of .modinfo, build id and signature");
    fields(&mut page, &report.modinfo);
    memories(&mut page, report);
    page.title("Sections");
    page.line(&section_table(&report.sections));
    relocations(&mut page, report);
    page.names(
        "Imports",
        report
            .imports
            .iter()
            .map(|import| format!("{}{}", import.name, if import.weak { " (weak)" } else { "" })),
    );
    page.names(
        "Exports",
        report
            .exports
            .iter()
            .map(|export| format!("{}{}", export.name, if export.gpl_only { " (GPL)" } else { "" })),
    );
    parameters(&mut page, report);
    page.text
}

fn memories(page: &mut Page, report: &FileReport) {
    if report.memories.is_empty() {
        return;
    }
    page.title("Memories");
    let columns = [
        Column::Left("memory"),
        Column::Right("sections"),
        Column::Right("used"),
        Column::Right("allocated"),
    ];
    page.line(&table(
        &columns,
        report.memories.iter().map(|memory| {
            vec![
                memory.kind.0.to_string(),
                memory.sections.to_string(),
                grouped(memory.used),
                grouped(memory.allocated),
            ]
        }),
    ));
    let mut line = format!("  {} blocks; {} symbols", report.blocks, grouped(report.symbols as u64));
    if let Some(core) = report.core_symbols {
        // Writing to a string cannot fail.
        let _ = write!(line, ", {} kept after init", grouped(core));
    }
    if report.text_head > 0 {
        let _ = write!(line, "; Text begins with {} bytes of GOT and PLT", grouped(report.text_head));
    }
    if report.percpu_size > 0 {
        let _ = write!(line, "; {} percpu bytes", grouped(report.percpu_size));
    }
    page.line(&line);
}

fn section_table(sections: &[SectionReport]) -> String {
    let columns = [
        Column::Right("index"),
        Column::Left("name"),
        Column::Left("flags"),
        Column::Right("size"),
        Column::Right("align"),
        Column::Left("memory"),
        Column::Right("offset"),
        Column::Left("why"),
    ];
    // Relocation sections have a table of their own.
    let shown = sections.iter().filter(|section| section.kind.is_some() || !section.name.starts_with(".rel"));
    table(
        &columns,
        shown.map(|section| {
            vec![
                section.index.to_string(),
                section.name.clone(),
                section.flags.clone(),
                grouped(section.size),
                section.alignment.to_string(),
                section.kind.map_or_else(|| "-".to_owned(), |kind| kind.0.to_string()),
                section.offset.map_or_else(String::new, |offset| format!("{offset:#x}")),
                section.rule.clone(),
            ]
        }),
    )
}

fn relocations(page: &mut Page, report: &FileReport) {
    let total: usize = report.relocations.iter().map(|relocation| relocation.count).sum();
    page.title(&format!("Relocations: {}", grouped(total as u64)));
    for relocation in &report.relocations {
        let name = relocation.name.map_or_else(|| format!("type {}", relocation.kind), str::to_owned);
        page.line(&format!("  {:>9} {name}", grouped(relocation.count as u64)));
    }
}

fn parameters(page: &mut Page, report: &FileReport) {
    page.title(&format!("Parameters: {}", report.parameters.len()));
    for parameter in &report.parameters {
        let kind = parameter.kind.as_deref().unwrap_or("?");
        let description = parameter.description.as_deref().unwrap_or_default();
        let name = &parameter.name;
        page.line(&format!("  {} ({}) {}", harmless(name), harmless(kind), harmless(description)));
    }
}

/// A module that is part of the kernel.
pub(crate) fn built_in(report: &BuiltInReport) -> String {
    let mut page = Page::default();
    page.title(&format!("{}: built into {}", harmless(&report.name), harmless(&report.release)));
    page.title("Fields of modules.builtin.modinfo");
    fields(&mut page, &report.modinfo);
    page.text
}

fn fields(page: &mut Page, fields: &[Field]) {
    for Field { key, value } in fields {
        if key != "signature" || value.len() <= SIGNATURE_LINE {
            page.line(&format!("  {}: {}", harmless(key), harmless(value)));
            continue;
        }
        // The only value that is long, in hexadecimal.
        page.line("  signature:");
        for line in value.as_bytes().chunks(SIGNATURE_LINE) {
            page.line(&format!("    {}", harmless(&String::from_utf8_lossy(line))));
        }
    }
}

/// Characters of a line of a signature: twenty bytes, as in modinfo.
const SIGNATURE_LINE: usize = 60;

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn title(&mut self, title: &str) {
        self.line(&format!("{}{title}{}", TITLE.render(), TITLE.render_reset()));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Names, as many a line as the terminal has room for.
    fn names(&mut self, what: &str, names: impl ExactSizeIterator<Item = String>) {
        self.title(&format!("{what}: {}", grouped(names.len() as u64)));
        let width = usize::from(terminal_width()).clamp(40, 120);
        let mut line = String::from(" ");
        for name in names {
            if line.len() > 1 && line.len() + name.len() + 1 > width {
                self.line(&line);
                line.truncate(1);
            }
            line.push(' ');
            line.push_str(&name);
        }
        if line.len() > 1 {
            self.line(&line);
        }
    }
}
