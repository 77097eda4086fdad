//! The report as CSV (RFC 4180, lines end with `\n`): a line a module, layout and page size, then the totals.

use std::borrow::Cow;

use crate::output::harmless;

use super::measure::Footprint;
use super::report::Report;

pub(crate) fn lines(report: &Report) -> String {
    let mut text = header(&report.total.0);
    for module in &report.modules {
        push(&mut text, &module.name, &module.path, &module.footprint.0);
    }
    // No module has an empty path, so these lines cannot be mistaken for a module called "total".
    push(&mut text, "total", "", &report.total.0);
    text
}

fn header(any: &Footprint) -> String {
    let mut names = vec!["module", "path", "layout", "page_size"];
    names.extend(any.content.fields().map(|(name, _)| name));
    // The names are the same in every case.
    if let Some((case, cost)) = any.costs().next() {
        names.extend(cost.fields(case.page_size).map(|(name, _)| name));
    }
    names.join(",") + "\n"
}

fn push(text: &mut String, name: &str, path: &str, footprint: &Footprint) {
    for (case, cost) in footprint.costs() {
        let mut cells = vec![quoted(name).into(), quoted(path).into(), case.cut.name().into()];
        cells.push(case.page_size.to_string().into());
        let numbers = footprint.content.fields().into_iter().chain(cost.fields(case.page_size));
        cells.extend(numbers.map(|(_, number)| Cow::from(number.to_string())));
        text.push_str(&cells.join(","));
        text.push('\n');
    }
}

/// A cell that programs for tables take for text and nothing else: what they would compute begins with an apostrophe.
fn quoted(text: &str) -> String {
    let text = harmless(text);
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_break_a_line_is_quoted() {
        assert_eq!(quoted("kernel/fs/ext4/ext4.ko"), "kernel/fs/ext4/ext4.ko");
        assert_eq!(quoted("a,b \"c\""), "\"a,b \"\"c\"\"\"");
    }

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(quoted("=1+1"), "'=1+1");
        assert_eq!(quoted("@SUM(A1,A2)"), "\"'@SUM(A1,A2)\"");
        for start in ["+", "-", "\t", "\r", "\u{200b}="] {
            assert!(
                !quoted(&format!("{start}cmd")).starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{start:?}"
            );
        }
    }
}
