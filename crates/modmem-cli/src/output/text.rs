//! Text: numbers that can be read, and tables.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};

use modmem::RunAddr;

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

/// Text from a file with what could steer a terminal, or reorder what stands around it, made visible.
pub(crate) fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        let reorders = matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if character.is_control() || reorders {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_reordering_marks_become_visible() {
        assert_eq!(harmless("a\u{1b}[31m\u{202e}b"), "a\\u{1b}[31m\\u{202e}b");
    }
}
