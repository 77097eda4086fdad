//! Text: numbers that can be read, and tables.

use std::fmt::Write as _;
use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};

use modmem::{RunAddr, Visible, is_hidden};

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    /// Words, to the left.
    Left(&'static str),
    /// Numbers, to the right.
    Right(&'static str),
}

/// Digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes, exact below 1 MiB.
pub(crate) fn bytes(number: u64) -> String {
    if number < 1 << 20 {
        return format!("{} B", grouped(number));
    }
    format!("{:.1} MiB", number as f64 / f64::from(1 << 20))
}

/// An address as everywhere in modmem.
pub(crate) fn address(address: RunAddr) -> String {
    address.to_string()
}

/// A table without lines, indented by two spaces.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| match column {
        Column::Left(title) | Column::Right(title) => *title,
    }));
    for (index, column) in columns.iter().enumerate() {
        if let Some(cells) = table.column_mut(index) {
            cells.set_padding((if index == 0 { 2 } else { 1 }, 1));
            cells.set_constraint(ColumnConstraint::ContentWidth);
            if matches!(column, Column::Right(_)) {
                cells.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    for row in rows {
        table.add_row(row);
    }
    let text = table.trim_fmt();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Text from a file, in one line, with what nobody would see made visible.
pub(crate) fn harmless(text: &str) -> String {
    Visible(text).to_string()
}

/// A page that was made here, before it is printed: its lines and styles stay, all else that nobody would see is made
/// visible, wherever it came from.
pub(crate) fn harmless_page(page: &str) -> String {
    let mut safe = String::with_capacity(page.len());
    let mut rest = page;
    while let Some(at) = rest.find(is_hidden) {
        let (before, hidden) = rest.split_at(at);
        safe.push_str(before);
        let length = style(hidden).unwrap_or_else(|| hidden.chars().next().map_or(0, char::len_utf8));
        let (hidden, after) = hidden.split_at(length);
        if length > 1 && hidden.is_ascii() || matches!(hidden, "\n" | "\t") {
            safe.push_str(hidden);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(safe, "{}", Visible(hidden));
        }
        rest = after;
    }
    safe.push_str(rest);
    safe
}

/// Bytes of the change of style that a text begins with.
fn style(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let length = parameters.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    parameters[length..].starts_with('m').then_some(length + 3)
}

/// Passes on what is written with what nobody would see made visible. Each write must be of whole characters.
#[derive(Debug)]
pub(crate) struct Harmless<W>(pub(crate) W);

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.write_all(harmless_page(&String::from_utf8_lossy(text)).as_bytes())?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_reordering_marks_become_visible() {
        assert_eq!(harmless("a\u{1b}[31m\u{202e}b"), "a\\u{1b}[31m\\u{202e}b");
    }

    #[test]
    fn of_a_page_lines_and_styles_stay() {
        let page = "\u{1b}[1;31mbad\u{1b}[0m\n\tx\u{1b}[2J\u{9b}m\u{202e}\u{1b}[31";
        let expected = "\u{1b}[1;31mbad\u{1b}[0m\n\tx\\u{1b}[2J\\u{9b}m\\u{202e}\\u{1b}[31";
        assert_eq!(harmless_page(page), expected);
        let mut written = Vec::new();
        Harmless(&mut written).write_all("a\u{200b}\n".as_bytes()).unwrap();
        assert_eq!(written, b"a\\u{200b}\n");
    }
}
