//! How things are shown.

pub(crate) mod json;
mod progress;
mod text;

use std::io::{self, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};

pub(crate) use progress::Bars;
pub(crate) use text::{Column, Harmless, address, bytes, grouped, harmless, harmless_page, table};

/// Style of the program's name in front of errors.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Style of what is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// Style of what is right.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Style of names that start a paragraph.
pub(crate) const TITLE: Style = Style::new().bold();
/// Style of remarks.
pub(crate) const DIM: Style = Style::new().dimmed();

/// Columns below which a table is not readable.
const WIDE: u16 = 76;

/// Prints a page of text on standard output.
pub(crate) fn print(page: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(harmless_page(page).as_bytes())?;
    out.flush()
}

/// Says something on standard error. Where nobody listens there is nobody to tell, and the exit status says the rest.
pub(crate) fn tell(message: &str) {
    let _ = writeln!(anstream::stderr(), "{}", harmless_page(message));
}

/// Whether standard output is a terminal that is wide enough for tables.
pub(crate) fn is_wide_terminal() -> bool {
    std::io::stdout().is_terminal() && terminal_width() >= WIDE
}

/// Columns of the terminal; 80 where there is none.
pub(crate) fn terminal_width() -> u16 {
    terminal_size::terminal_size().map_or(80, |(width, _)| width.0)
}
