//! Addresses written like text: rows of equal length, one under the other.

use std::ops::Range;

use super::model::{What, Window};

/// Rows that are all free, or all one reservation, before they are folded into one.
const FOLD: u64 = 3;

/// The taken part of a window in rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Addresses in a row; a power of two.
    pub(crate) length: u64,
    /// Ascending.
    pub(crate) rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// A multiple of the row length.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// What all of it is, where several rows that are all the same were folded into this one.
    pub(crate) folded: Option<What>,
}

impl Rows {
    /// The rows of `length` addresses that show all that is taken in `window`.
    pub(crate) fn new(window: &Window, length: u64) -> Rows {
        let mut rows = Vec::new();
        let extent = window.taken_extent().unwrap_or(window.range.start..window.range.start);
        let mut cursor = extent.start & !(length - 1);
        let mut spans = window.spans.iter().peekable();
        while cursor < extent.end {
            while spans.next_if(|span| span.range.end <= cursor).is_some() {}
            let same = spans.peek().filter(|span| span.range.start <= cursor);
            let same = same.filter(|span| matches!(span.what, What::Free | What::Reserved));
            let whole = same.map_or(0, |span| (span.range.end.min(extent.end) - cursor) / length);
            let (count, folded) = match same {
                Some(span) if whole >= FOLD => (whole, Some(span.what)),
                _ => (1, None),
            };
            // At the very top of the address space the last row is shorter.
            let end = cursor.checked_add(count * length).unwrap_or(extent.end);
            rows.push(Row { start: cursor, end, folded });
            cursor = end;
        }
        Rows { length, rows }
    }

    /// Rows of all windows, of the shortest length from `shortest` on of which `fits` says that their number is right.
    pub(crate) fn fit(windows: &[Window], shortest: u64, fits: impl Fn(u64, usize) -> bool) -> Vec<Rows> {
        let mut length = shortest;
        loop {
            let all: Vec<Rows> = windows.iter().map(|window| Rows::new(window, length)).collect();
            let count = all.iter().map(|rows| rows.rows.len()).sum();
            if fits(length, count) || length >= 1 << 62 {
                return all;
            }
            length *= 2;
        }
    }

    /// The parts of `range` in each row that it touches, with the row's place; folded rows show no parts.
    pub(crate) fn pieces(&self, range: &Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> {
        let first = self.rows.partition_point(|row| row.end <= range.start);
        let range = range.clone();
        let touched = self.rows[first..].iter().enumerate().take_while({
            let end = range.end;
            move |(_, row)| row.start < end
        });
        touched
            .filter(|(_, row)| row.folded.is_none())
            .map(move |(place, row)| (first + place, range.start.max(row.start)..range.end.min(row.end)))
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one hole is a list of ranges")]
mod tests {
    use super::super::model::{Map, Span, tests};
    use super::*;

    const BASE: u64 = 0xffff_ffff_c000_0000;

    #[test]
    fn pieces_of_all_spans_cover_all_rows() {
        let map = tests::map(40);
        let window = &map.windows[0];
        let rows = Rows::new(window, 0x20000);
        let mut cursor = rows.rows[0].start;
        for span in &window.spans {
            for (row, piece) in rows.pieces(&span.range) {
                assert_eq!(piece.start, cursor);
                assert!(rows.rows[row].start <= piece.start && piece.end <= rows.rows[row].end);
                cursor = piece.end;
            }
        }
        assert_eq!(Some(cursor), rows.rows.last().map(|row| row.end));
        assert!(rows.rows.len() > 5);
    }

    #[test]
    fn long_holes_and_reservations_are_folded() {
        let mut facts = tests::facts(&["one".into()], &modmem::layout::MemoryKind::ALL[..1]);
        let start = facts.memories[0].range.end + 0x1000;
        facts.holes = vec![start..BASE + 0x1000_0000];
        let map = Map::new(facts);
        let rows = Rows::new(&map.windows[0], 0x10000);
        let folded: Vec<Option<What>> = rows.rows.iter().map(|row| row.folded).collect();
        assert_eq!(folded, [None, Some(What::Free), Some(What::Reserved)]);
    }

    #[test]
    fn rows_get_longer_until_they_are_few_enough() {
        let map = tests::map(300);
        let all = Rows::fit(&map.windows, 0x10000, |_, count| count <= 60);
        assert!(all[0].rows.len() <= 60 && all[0].rows.len() > 30, "{}", all[0].rows.len());
    }

    #[test]
    fn a_window_at_the_top_of_the_address_space_ends_where_it_ends() {
        let range = 0xffff_ffff_ffff_0000..u64::MAX;
        let spans = vec![Span { range: range.clone(), what: What::Reserved }];
        let window = Window { title: "text".into(), range, spans };
        let rows = Rows::new(&window, 0x10_0000);
        assert_eq!(rows.rows.len(), 1);
        assert_eq!(rows.rows[0].end, u64::MAX);
    }
}
