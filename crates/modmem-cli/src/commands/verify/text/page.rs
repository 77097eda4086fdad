//! Text that grows line by line.

use crate::output::TITLE;

/// Columns that running text may take.
const WIDTH: usize = 112;

/// A page of lines.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    /// A line that begins a part, behind an empty one.
    pub(super) fn title(&mut self, title: &str) {
        if !self.text.ends_with("\n\n") {
            self.line("");
        }
        self.line(&format!("{}{title}{}", TITLE.render(), TITLE.render_reset()));
    }

    /// A line.
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// A text that may be long, indented.
    pub(super) fn paragraph(&mut self, text: &str) {
        let mut line = String::from("  ");
        for word in text.split(' ') {
            if line.len() + word.len() > WIDTH && !line.trim().is_empty() {
                self.line(&line);
                line = String::from("    ");
            }
            line.push_str(word);
            line.push(' ');
        }
        self.line(&line);
    }

    /// Words behind a beginning, in lines of modest width.
    pub(super) fn wrapped(&mut self, start: &str, words: &[String]) {
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
