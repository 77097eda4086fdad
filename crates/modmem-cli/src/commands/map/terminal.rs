//! The picture for terminals: a character for each page, or for as many pages as make the picture fit.

use std::fmt::Write as _;
use std::ops::Range;

use anstyle::{Ansi256Color, Style};
use modmem::layout::MemoryKind;

use super::model::{Map, Span, What, Window};
use super::rows::{Row, Rows};
use super::svg::LETTERS;
use super::text::{count, share, size};
use crate::output::{Column, DIM, TITLE, grouped, table};

/// Rows that still make a picture and not a scroll.
const MOST_ROWS: usize = 60;
/// Columns that the names at the right need at least.
const NAMES: usize = 24;

const GUARD: char = '|';
const FREE: char = '.';
const RESERVED: char = '#';

/// Draws the map for a terminal of `width` columns.
pub(super) fn picture(map: &Map, width: usize) -> String {
    let mut text = String::new();
    let room = width.saturating_sub(address_columns(map) + NAMES).clamp(16, 128);
    // The largest power of two that fits, so that addresses stay round.
    let columns = 1_u64 << room.ilog2();
    let page = map.facts.page_size.max(1).next_power_of_two();
    let all = Rows::fit(&map.windows, page * columns, |_, count| count <= MOST_ROWS);
    head(&mut text, map);
    for (index, (window, rows)) in map.windows.iter().zip(&all).enumerate() {
        line(&mut text, format_args!(""));
        between(&mut text, map, index);
        let (start, end) = (map.address(window.range.start), map.address(window.range.end));
        let title = format!("range for {}: {start}-{end}", window.title);
        let (taken, bytes) = (window.taken(), window.bytes());
        line(
            &mut text,
            format_args!(
                "{}, {} of {} taken ({})",
                bold(&title),
                size(taken),
                size(bytes),
                share(taken, bytes)
            ),
        );
        draw(&mut text, map, window, rows, columns, width);
    }
    line(&mut text, format_args!(""));
    let cell = all.first().map_or(page, |rows| rows.length / columns);
    legend(&mut text, map, cell, cell / page);
    text
}

/// What lies between a window and the one before it.
fn between(text: &mut String, map: &Map, index: usize) {
    let Some(before) = index.checked_sub(1).and_then(|before| map.windows.get(before)) else { return };
    let distance = size(map.windows[index].range.start - before.range.end);
    match map.kernel_before(index) {
        Some(kernel) => {
            let (start, end) = (map.address(kernel.range.start), map.address(kernel.range.end));
            let code = kernel.text_end.map(|end| format!(", its code to {}", map.address(end)));
            line(
                text,
                format_args!(
                    "{}, {}{}; {distance} between the ranges",
                    bold(&format!("the kernel: {start}-{end}")),
                    size(kernel.range.end - kernel.range.start),
                    code.unwrap_or_default()
                ),
            );
        }
        None => line(text, format_args!("{}", styled(DIM, &format!("{distance} between the ranges")))),
    }
    line(text, format_args!(""));
}

/// Columns of an address and the space behind it.
fn address_columns(map: &Map) -> usize {
    map.address_width() + 2
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(line);
    text.push('\n');
}

fn bold(text: &str) -> String {
    styled(TITLE, text)
}

fn styled(style: Style, text: &str) -> String {
    format!("{}{text}{}", style.render(), style.render_reset())
}

fn head(text: &mut String, map: &Map) {
    let facts = &map.facts;
    let total = map.total();
    let (guards, guard_bytes) = map.guards();
    let init = match facts.before_init {
        true => format!("{} of init memory still there", size(map.init_bytes())),
        false => format!("{} given back after init", size(facts.given_back)),
    };
    line(
        text,
        format_args!(
            "{}: {}",
            bold(&format!("Linux {}", facts.release)),
            count(facts.modules.len() as u64, "module"),
        ),
    );
    line(
        text,
        format_args!(
            "{} used of {} allocated, {} padding; {} in {}; {init}",
            size(total.used),
            size(total.allocated),
            share(total.padding(), total.allocated),
            size(guard_bytes),
            count(guards, "guard page"),
        ),
    );
    if facts.failed > 0 {
        line(text, format_args!("{} could not be loaded", count(facts.failed as u64, "module")));
    }
}

fn draw(text: &mut String, map: &Map, window: &Window, rows: &Rows, columns: u64, width: usize) {
    let runs = map.runs(window);
    let cell = rows.length / columns;
    for row in &rows.rows {
        if let Some(what) = row.folded {
            let what = if what == What::Free { "free" } else { "reserved" };
            let bytes = row.end - row.start;
            let folded = format!(
                "{:>width$}  {} {what}: {} left out",
                "...",
                size(bytes),
                count(bytes / rows.length, "row"),
                width = map.address_width()
            );
            line(text, format_args!("{}", styled(DIM, &folded)));
            continue;
        }
        let _ = write!(text, "{}  ", styled(DIM, &map.address(row.start)));
        cells(text, map, window, row, cell);
        let starting = runs.iter().filter(|run| row.start <= run.range.start && run.range.start < row.end);
        let names: Vec<&str> = starting.map(|run| map.name_of(run.module)).collect();
        let missing = (columns - ((row.end - row.start) / cell).min(columns)) as usize;
        let room = width.saturating_sub(address_columns(map) + columns as usize + 2).max(NAMES - 4);
        let names = fitting(&names, room);
        if !names.is_empty() {
            let _ = write!(text, "{:missing$}  {names}", "");
        }
        text.push('\n');
    }
}

/// As many names as fit, and how many more there are.
fn fitting(names: &[&str], room: usize) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        let separator = if index == 0 { "" } else { " " };
        let rest = names.len() - index - 1;
        let more = if rest == 0 { 0 } else { 2 + rest.to_string().len() };
        let length = text.chars().count() + separator.len() + name.chars().count();
        if length + more > room && index > 0 {
            let _ = write!(text, " +{}", rest + 1);
            break;
        }
        let _ = write!(text, "{separator}{name}");
    }
    text
}

/// One row's characters; what is alike shares its colour codes.
fn cells(text: &mut String, map: &Map, window: &Window, row: &Row, cell: u64) {
    let mut start = row.start;
    let mut last = None;
    while start < row.end {
        let end = row.end.min(start.saturating_add(cell));
        let (letter, style) = character(map, window, &(start..end));
        if last != Some(style) {
            if let Some(last) = last {
                let _ = write!(text, "{}", Style::render_reset(last));
            }
            let _ = write!(text, "{}", style.render());
            last = Some(style);
        }
        text.push(letter);
        start = end;
    }
    if let Some(last) = last {
        let _ = write!(text, "{}", last.render_reset());
    }
}

/// What takes most of these addresses; of equals, the first. Modules' memory comes before what is not memory, so that
/// no module is lost between its guards.
fn character(map: &Map, window: &Window, range: &Range<u64>) -> (char, Style) {
    let first = window.spans.partition_point(|span| span.range.end <= range.start);
    let touched = window.spans[first..].iter().take_while(|span| span.range.start < range.end);
    let mut kinds = [0_u64; 7];
    let mut other: Option<(u64, What)> = None;
    for Span { range: span, what } in touched {
        let bytes = span.end.min(range.end) - span.start.max(range.start);
        match what {
            What::Memory(index) => kinds[map.memory(*index).kind as usize] += bytes,
            what if other.is_none_or(|(most, _)| most < bytes) => other = Some((bytes, *what)),
            _ => {}
        }
    }
    let most = MemoryKind::ALL.into_iter().rev().max_by_key(|&kind| kinds[kind as usize]);
    match (most.filter(|&kind| kinds[kind as usize] > 0), other) {
        (Some(kind), _) => (LETTERS[kind as usize], style(kind)),
        (None, Some((_, What::Guard(_)))) => (GUARD, DIM),
        (None, Some((_, What::Reserved))) => (RESERVED, DIM),
        (None, Some(_)) => (FREE, DIM),
        // Before the window or behind it.
        (None, None) => (' ', Style::new()),
    }
}

/// The colours of the SVG, as near as 256 colours come.
fn style(kind: MemoryKind) -> Style {
    let (ground, letter) = match kind {
        MemoryKind::Text => (25, 231),
        MemoryKind::Data => (214, 16),
        MemoryKind::RoData => (29, 231),
        MemoryKind::RoAfterInit => (175, 16),
        MemoryKind::InitText => (117, 16),
        MemoryKind::InitData => (222, 16),
        MemoryKind::InitRoData => (115, 16),
    };
    Style::new().fg_color(Some(Ansi256Color(letter).into())).bg_color(Some(Ansi256Color(ground).into()))
}

fn legend(text: &mut String, map: &Map, cell: u64, pages: u64) {
    let columns = [
        Column::Left("type"),
        Column::Left("access"),
        Column::Right("modules"),
        Column::Right("used"),
        Column::Right("allocated"),
        Column::Right("padding"),
    ];
    let kinds: Vec<MemoryKind> =
        MemoryKind::ALL.into_iter().filter(|&kind| map.totals[kind].memories > 0).collect();
    let rows = kinds.iter().map(|&kind| {
        let total = map.totals[kind];
        vec![
            kind.name().to_owned(),
            map.access(kind),
            grouped(total.memories),
            grouped(total.used),
            grouped(total.allocated),
            share(total.padding(), total.allocated),
        ]
    });
    let table = table(&columns, rows);
    let letters = std::iter::once(" ".to_owned())
        .chain(kinds.iter().map(|&kind| styled(style(kind), &LETTERS[kind as usize].to_string())));
    for (letter, row) in letters.zip(table.lines()) {
        // In the two columns that the table is indented by.
        line(text, format_args!("{letter} {}", row.get(2..).unwrap_or_default()));
    }
    let scale = format!("a character is {} ({})", size(cell), count(pages, "page"));
    let most = if pages > 1 { ", shown as the type that takes most of it" } else { "" };
    line(text, format_args!("{GUARD} guard page   {FREE} free   {RESERVED} reserved   {scale}{most}"));
    for remark in &map.facts.remarks {
        line(text, format_args!("note: {remark}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests;
    use super::*;

    fn plain(map: &Map, width: usize) -> String {
        anstream::adapter::strip_str(&picture(map, width)).to_string()
    }

    #[test]
    fn one_module_shows_each_page_with_its_type_and_guard() {
        let text = plain(&tests::map(1), 80);
        // One page of text, four of data, seven and ten of the others, each with its guard.
        assert!(text.contains("0xffffffffc0000000  T|DDDD|RRRRRRR|AAAAAAAAAA|......  module_0\n"), "{text}");
        assert!(text.contains("a character is 4 KiB (1 page)\n"), "{text}");
    }

    #[test]
    fn three_hundred_modules_fit_on_sixty_rows_and_every_row_fits_the_terminal() {
        for width in [80, 100, 200] {
            let text = plain(&tests::map(300), width);
            let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("0x")).collect();
            assert!(rows.len() <= MOST_ROWS && rows.len() > 20, "{}", rows.len());
            assert!(rows.iter().all(|row| row.chars().count() <= width), "{text}");
            assert!(text.contains("shown as the type that takes most of it"));
        }
    }

    #[test]
    fn both_windows_are_drawn() {
        let text = plain(&tests::two_windows(), 80);
        assert!(text.contains("\n0xb0000000  TTT|TTT|...."), "{text}");
        assert!(text.contains("\n0xf1000000  DDDDDDDD|RR|DDDDDD|"), "{text}");
        let between = "\nthe kernel: 0xc0000000-0xc0b19000, 11.1 MiB, its code to 0xc061c000; 784 MiB between the ranges\n";
        assert!(text.contains(between), "{text}");
    }

    #[test]
    fn names_that_find_no_room_are_counted() {
        assert_eq!(fitting(&["ext4", "jbd2", "mbcache"], 13), "ext4 jbd2 +1");
        assert_eq!(fitting(&["ext4", "jbd2"], 9), "ext4 jbd2");
        assert_eq!(fitting(&[], 9), "");
    }

    #[test]
    fn a_narrow_terminal_and_an_empty_space_are_no_trouble() {
        plain(&tests::map(0), 0);
        plain(&tests::map(2), 1);
    }
}
