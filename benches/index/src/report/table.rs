//! A table in Markdown, aligned so that it can be read as text too.

pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The first column is text, the others are numbers.
    pub(super) fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Table {
        Table { rows: vec![header.into_iter().map(Into::into).collect()] }
    }

    pub(super) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Nothing if it has no rows but its header.
    pub(super) fn to_markdown(&self) -> String {
        let [header, rows @ ..] = &self.rows[..] else { return String::new() };
        if rows.is_empty() {
            return String::new();
        }
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        let line = |row: &[String]| {
            let mut text = String::from("|");
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => text.push_str(&format!(" {cell:<width$} |")),
                    _ => text.push_str(&format!(" {cell:>width$} |")),
                }
            }
            text + "\n"
        };
        let mut text = line(header);
        text.push_str("|---|");
        text.push_str(&"--:|".repeat(header.len() - 1));
        text.push('\n');
        rows.iter().for_each(|row| text.push_str(&line(row)));
        text
    }
}
