//! The map itself: a window's taken part in rows, block by block.

use modmem::layout::MemoryKind;

use super::canvas::{Canvas, Escaped, N, Rect, fitted, width};
use super::overview::Zoom;
use super::style::{LETTERS, class};
use super::{BAND, LEFT, MARGIN};
use crate::commands::map::model::{Map, Memory, Run, Span, What, Window};
use crate::commands::map::rows::Rows;
use crate::commands::map::text::{count, size};
use crate::output::grouped;

/// Columns that addresses are marked in.
const COLUMNS: u64 = 8;

/// Heights in a row: the lane that names stand in, the band of blocks below, and the space to the next row.
#[derive(Clone, Copy, Debug)]
struct Pitch {
    lane: f64,
    band: f64,
    space: f64,
    /// Of names.
    font: f64,
}

impl Pitch {
    /// Few rows may be tall; many have to be low.
    fn of(rows: usize) -> Pitch {
        match rows {
            ..=24 => Pitch { lane: 17.0, band: 24.0, space: 6.0, font: 12.0 },
            25..=60 => Pitch { lane: 14.0, band: 18.0, space: 5.0, font: 11.0 },
            _ => Pitch { lane: 12.0, band: 14.0, space: 4.0, font: 10.0 },
        }
    }

    fn height(self) -> f64 {
        self.lane + self.band + self.space
    }
}

/// Draws one window's rows.
struct Panel<'a> {
    canvas: &'a mut Canvas,
    map: &'a Map,
    rows: &'a Rows,
    pitch: Pitch,
    /// Upper edge of each row's band.
    bands: Vec<f64>,
}

/// Draws the taken part of `window`; returns where it ends.
pub(super) fn draw(
    canvas: &mut Canvas,
    map: &Map,
    window: &Window,
    rows: &Rows,
    top: f64,
    zoom: Option<Zoom>,
) -> f64 {
    let pitch = Pitch::of(rows.rows.len());
    let ruler = top + if zoom.is_some() { 32.0 } else { 54.0 };
    let mut bands = Vec::with_capacity(rows.rows.len());
    let mut y = ruler + 12.0;
    for row in &rows.rows {
        bands.push(y + pitch.lane);
        y += if row.folded.is_some() { pitch.lane + 10.0 } else { pitch.height() };
    }
    match zoom {
        Some(zoom) => canvas.markup(format_args!(
            "<path class=\"zoom\" d=\"M{} {}L{} {}L{} {}H{}z\"/>",
            N(zoom.left),
            N(zoom.y),
            N(zoom.right),
            N(zoom.y),
            N(LEFT + BAND),
            N(ruler - 16.0),
            N(LEFT)
        )),
        None => canvas.text("b", MARGIN, ruler - 24.0, &format!("range for {}", window.title)),
    }
    let mut panel = Panel { canvas, map, rows, pitch, bands };
    panel.ruler(ruler, y);
    panel.tracks(window);
    for span in &window.spans {
        panel.span(span);
    }
    panel.names(&map.runs(window));
    // Below the scale.
    y + 24.0
}

impl Panel<'_> {
    fn x(&self, row: usize, address: u64) -> f64 {
        LEFT + (address - self.rows.rows[row].start) as f64 * BAND / self.rows.length as f64
    }

    fn rects(&self, range: &std::ops::Range<u64>) -> Vec<Rect> {
        let pieces = self.rows.pieces(range);
        let rect = |(row, piece): (usize, std::ops::Range<u64>)| {
            let x = self.x(row, piece.start);
            Rect { x, y: self.bands[row], width: self.x(row, piece.end) - x, height: self.pitch.band }
        };
        pieces.map(rect).collect()
    }

    /// Offsets in a row along the top, with lines down through the rows, and the scale.
    fn ruler(&mut self, y: f64, bottom: f64) {
        let page = self.map.facts.page_size.max(1);
        let length = self.rows.length;
        let pages = |bytes: u64| count(bytes / page, "page");
        self.canvas.text("b", MARGIN, y, "address");
        for column in 0..COLUMNS {
            let x = LEFT + BAND * column as f64 / COLUMNS as f64;
            self.canvas.text("a", x, y, &format!("+{:#x}", length / COLUMNS * column));
            self.canvas.line("grid", (x, y + 5.0), (x, bottom));
        }
        self.canvas.line("grid", (LEFT + BAND, y + 5.0), (LEFT + BAND, bottom));
        let unit = length / COLUMNS;
        let (left, right, scale) = (LEFT, LEFT + BAND / COLUMNS as f64, bottom + 14.0);
        self.canvas.line("ink", (left, scale), (right, scale));
        for end in [left, right] {
            self.canvas.line("ink", (end, scale - 5.0), (end, scale + 5.0));
        }
        let text = format!("{} ({}); a row is {} ({})", size(unit), pages(unit), size(length), pages(length));
        self.canvas.text("", right + 10.0, scale + 4.0, &text);
    }

    /// The rows' addresses and the ground that blocks stand on, and rows that were folded.
    fn tracks(&mut self, window: &Window) {
        for (index, row) in self.rows.rows.iter().enumerate() {
            let y = self.bands[index];
            if let Some(what) = row.folded {
                let number = (row.end - row.start) / self.rows.length;
                let what = if what == What::Free { "free" } else { "reserved" };
                let text =
                    format!("⋮   {} {what}: {} left out", size(row.end - row.start), count(number, "row"));
                self.canvas.text("s dim halo", LEFT + 8.0, y + 1.0, &text);
                continue;
            }
            self.canvas.text("a", MARGIN, y + self.pitch.band / 2.0 + 4.0, &self.map.address(row.start));
            let inside = row.start.max(window.range.start)..row.end.min(window.range.end);
            let track = self.rects(&inside);
            self.canvas.shape("track", &track);
        }
    }

    fn span(&mut self, span: &Span) {
        let rects = self.rects(&span.range);
        if rects.is_empty() {
            return;
        }
        match span.what {
            What::Memory(index) => self.memory(self.map.memory(index), &rects),
            What::Guard(index) => {
                let memory = self.map.memory(index);
                let title = format!("guard page behind {} {}", self.map.name_of(memory.module), memory.kind);
                self.titled("g", &rects, &title);
            }
            What::Free => {
                let (start, end) = (span.range.start, span.range.end);
                let mut text = format!("free: {}", size(span.bytes()));
                self.titled(
                    "f",
                    &rects,
                    &format!("{text}, {}-{}", self.map.address(start), self.map.address(end)),
                );
                if self.rows.rows.last().is_some_and(|row| end > row.end) {
                    text = format!("{text}, up to {}", self.map.address(end));
                }
                self.note(&rects, &text);
            }
            What::Reserved => {
                let text = format!("reserved: {}", size(span.bytes()));
                self.titled(
                    "x",
                    &rects,
                    &format!(
                        "{text}, {}-{}",
                        self.map.address(span.range.start),
                        self.map.address(span.range.end)
                    ),
                );
                self.note(&rects, &text);
            }
        }
    }

    /// Says in the widest part what this is, where there is room.
    fn note(&mut self, rects: &[Rect], text: &str) {
        let Some(widest) = rects.iter().copied().reduce(|a, b| if b.width > a.width { b } else { a }) else {
            return;
        };
        if width(text, 11.0) + 12.0 < widest.width {
            let middle = widest.y + self.pitch.band / 2.0 + 4.0;
            self.canvas.text("s dim m halo", widest.x + widest.width / 2.0, middle, text);
        }
    }

    fn titled(&mut self, class: &str, rects: &[Rect], title: &str) {
        self.canvas.open("");
        self.canvas.title(title);
        self.canvas.shape(class, rects);
        self.canvas.close();
    }

    fn memory(&mut self, memory: &Memory, rects: &[Rect]) {
        let Memory { kind, range, .. } = memory;
        let mut title = format!(
            "{} {kind} {}-{}, {} of {} bytes used, {}",
            self.map.name_of(memory.module),
            self.map.address(range.start),
            self.map.address(range.end),
            grouped(memory.used),
            grouped(memory.allocated()),
            memory.protection
        );
        if !memory.sections.is_empty() {
            title.push('\n');
            title.push_str(&memory.sections);
        }
        let used = self.rects(&(range.start..memory.used_end()));
        self.canvas.open("");
        self.canvas.title(&title);
        self.canvas.shape(&class('p', *kind), rects);
        self.canvas.shape(&class('u', *kind), &used);
        if kind.is_init() {
            self.canvas.shape("i", &used);
        }
        self.label(*kind, memory.used, &used, rects);
        self.canvas.close();
    }

    /// The type and size of a block in the first of its parts that has room, or at least the type's letter.
    fn label(&mut self, kind: MemoryKind, bytes: u64, used: &[Rect], whole: &[Rect]) {
        let (font, small) = if self.pitch.band > 20.0 { (12.0, "") } else { (11.0, "s ") };
        let long = format!("{} {}", kind.name(), size(bytes));
        let letter = LETTERS[kind as usize].to_string();
        let on_used = class('l', kind);
        // A letter finds room even where next to nothing is used: then on the padding, which is light.
        let tries = [(&long, used), (&kind.name().to_owned(), used), (&letter, used), (&letter, whole)];
        for (index, (text, rects)) in tries.into_iter().enumerate() {
            let needed = width(text, font) + if text.len() > 1 { 8.0 } else { 3.0 };
            let Some(rect) = rects.iter().find(|rect| rect.width >= needed) else { continue };
            let y = rect.y + self.pitch.band / 2.0 + font * 0.36;
            // Behind the used part, not across its end.
            let taken = if index == 3 { used.last().map_or(0.0, |used| used.width) } else { 0.0 };
            let class = if index == 3 { "dim" } else { &on_used };
            let (x, anchor) = match rect.width > 400.0 {
                true => (rect.x + 10.0, ""),
                false => (rect.x + (rect.width + taken) / 2.0, "m "),
            };
            if rect.width - taken >= needed {
                self.canvas.text(&format!("{small}{anchor}{class}"), x, y, text);
            }
            return;
        }
    }

    /// Bars over what belongs to one module, with its name: blocks have the colour of their type, so that something
    /// else has to say whose they are.
    fn names(&mut self, runs: &[Run]) {
        for (index, run) in runs.iter().enumerate() {
            let parity = index % 2;
            let next = runs.get(index + 1).map(|next| next.range.start);
            let name = self.map.name_of(run.module).to_owned();
            let pieces: Vec<_> = self.rows.pieces(&run.range).collect();
            let bars: Vec<Rect> = self.rects(&run.range);
            let bars: Vec<Rect> =
                bars.into_iter().map(|bar| Rect { y: bar.y - 4.0, height: 2.5, ..bar }).collect();
            self.canvas.shape(&format!("r{parity}"), &bars);
            for (row, piece) in pieces {
                let x = self.x(row, piece.start);
                let end = next.filter(|&next| next < self.rows.rows[row].end);
                let end = end.map_or(LEFT + BAND, |next| self.x(row, next) - 4.0);
                let again = piece.start != run.range.start;
                let text = if again { format!("‹ {name}") } else { name.clone() };
                // Bold letters are wider; what does not fit may be a little smaller before it is cut.
                let (weight, wider) = if again { ("", 1.0) } else { ("b ", 1.07) };
                let room = (end - x) / wider;
                let sizes = [self.pitch.font, self.pitch.font - 1.0, self.pitch.font - 1.5];
                let font = sizes.into_iter().find(|&size| width(&text, size) <= room);
                let font = font.unwrap_or(self.pitch.font - 1.5);
                if let Some(text) = fitted(&text, font, room) {
                    self.canvas.markup(format_args!(
                        "<text class=\"{weight}n{parity}\" style=\"font-size:{font}px\" x=\"{}\" y=\"{}\">{}</text>",
                        N(x),
                        N(self.bands[row] - 6.5),
                        Escaped(&text)
                    ));
                }
            }
        }
    }
}
