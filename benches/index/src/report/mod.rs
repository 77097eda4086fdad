//! What was measured, as text: tables of Markdown, each with a name under which it stands in docs/index.md, and
//! pictures.

mod aims;
mod bars;
mod document;
mod line_chart;
mod machine;
mod other_tables;
mod speed_tables;
mod svg;
mod table;
mod thread_tables;

use std::error::Error;
use std::path::Path;

use crate::results::Results;
use crate::workload::Layout;

/// A part of docs/index.md that a run writes anew.
struct Section {
    name: String,
    text: String,
}

impl Section {
    fn new(name: impl Into<String>, text: String) -> Section {
        Section { name: name.into(), text }
    }
}

/// All that a run has to say.
pub(crate) struct Report<'r> {
    results: &'r Results,
    sections: Vec<Section>,
}

impl Report<'_> {
    pub(crate) fn new(results: &Results) -> Report<'_> {
        let mut sections = vec![Section::new("run", machine::describe(results))];
        sections.push(Section::new("aims", aims::table(results)));
        for layout in Layout::ALL {
            sections.extend(speed_tables::sections(&results.speed, layout));
        }
        sections.extend(thread_tables::sections(&results.thread_case));
        sections.extend(other_tables::sections(results));
        sections.retain(|section| !section.text.is_empty());
        Report { results, sections }
    }

    pub(crate) fn to_text(&self) -> String {
        let sections =
            self.sections.iter().map(|section| format!("== {} ==\n\n{}", section.name, section.text));
        sections.collect::<Vec<_>>().join("\n")
    }

    /// Puts the sections into the page, and draws the pictures.
    pub(crate) fn write(&self, docs: &Path) -> Result<(), Box<dyn Error>> {
        let page = docs.join("index.md");
        let text = std::fs::read_to_string(&page)?;
        std::fs::write(&page, document::replace(&text, &self.sections)?)?;
        let pictures = docs.join("pictures");
        std::fs::write(pictures.join("index-latency.svg"), line_chart::draw(&self.results.speed))?;
        std::fs::write(pictures.join("index-in-vain.svg"), bars::draw(&self.results.thread_case))?;
        Ok(())
    }
}

/// A number with as many digits as one wants to read, and separators.
fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "-".to_owned(),
        value if value.abs() < 99.95 => format!("{value:.1}"),
        value => thousands(value.round() as u64),
    }
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in KiB or MiB.
fn bytes(value: usize) -> String {
    match value {
        ..0x40_0000 => format!("{} KiB", thousands((value as u64 + 512) >> 10)),
        _ => format!("{:.1} MiB", value as f64 / f64::from(1 << 20)),
    }
}
