//! Bytes around unexplained ones, as they should be and as they are.

use modmem::verify::{ModuleReport, Unexplained};

use super::atlas::Atlas;
use super::file_map::FileMap;
use super::finding::end_of;

/// Bytes of a span that a report keeps: one that long may go on.
const LONGEST_SPAN: usize = 64;
/// Bytes shown behind a span at most.
const BEHIND: u64 = 64;
/// Bytes from a symbol to a span, beyond which instructions are not followed.
const FARTHEST: u64 = 1 << 16;
/// Data is shown from a multiple of this on.
const ALIGNMENT: u64 = 16;

/// A piece of a memory that holds unexplained spans.
#[derive(Debug)]
pub(super) struct Window {
    /// Where it starts: at the symbol, where instructions are known to begin; else at the span itself.
    pub(super) start: u64,
    /// Whether a symbol begins there.
    pub(super) at_symbol: bool,
    pub(super) expected: Vec<u8>,
    pub(super) found: Vec<u8>,
    /// From the first byte of the first span to the last one's end.
    pub(super) span: std::ops::Range<u64>,
    /// What should be behind that end is not known.
    pub(super) cut: bool,
}

impl Window {
    pub(super) fn new(
        atlas: &Atlas<'_>,
        map: &FileMap,
        report: &ModuleReport,
        spans: &[Unexplained],
        is_code: bool,
    ) -> Window {
        let (first, last) = (&spans[0], &spans[spans.len() - 1]);
        let span = first.address.0..end_of(last);
        let cut = last.found.len() >= LONGEST_SPAN;
        let section = map.section(span.start);
        let symbol = map.symbol(span.start).map(|symbol| symbol.range.start);
        let near = |start: &u64| span.start - start <= FARTHEST;
        let known = symbol.or_else(|| section.map(|section| section.range.start)).filter(near);
        let start = match is_code {
            true => known.unwrap_or(span.start),
            false => span.start - span.start % ALIGNMENT,
        };
        let mut end = section.map_or(span.end, |section| section.range.end.max(span.end));
        end = end.min(span.end.saturating_add(BEHIND));
        if cut {
            end = span.end;
        }
        let mut window = Window {
            start,
            at_symbol: known.is_some() && is_code,
            expected: Vec::new(),
            found: vec![0; (end - start) as usize],
            span: span.clone(),
            cut,
        };
        if atlas.snapshot.memory.copy(start, &mut window.found).is_none() {
            // Not in the snapshot in one piece: what the report kept must do.
            (window.start, window.at_symbol) = (span.start, false);
            window.found = vec![0; (span.end - span.start) as usize];
        }
        window.expected = window.found.clone();
        for span in &report.unexplained {
            window.overlay(span);
        }
        window
    }

    fn overlay(&mut self, span: &Unexplained) {
        let end = self.start + self.found.len() as u64;
        for (at, (&expected, &found)) in (span.address.0..).zip(span.expected.iter().zip(&span.found)) {
            if at >= self.start && at < end {
                let index = (at - self.start) as usize;
                self.expected[index] = expected;
                self.found[index] = found;
            }
        }
    }

    /// Both sides of the same bytes.
    pub(super) fn both(&self, from: u64, to: u64) -> (&[u8], &[u8]) {
        let index = |at: u64| (at.saturating_sub(self.start) as usize).min(self.found.len());
        let range = index(from)..index(to).max(index(from));
        (&self.expected[range.clone()], &self.found[range])
    }
}
