//! The strip above the map: all addresses that modules can have, and how little of them is taken.

use super::canvas::{Canvas, Rect, width};
use super::{BAND, LEFT, MARGIN};
use crate::commands::map::model::{KernelSpan, Map, What, Window};
use crate::commands::map::text::{share, size};

/// Pixels between windows, which are not to scale.
const GAP: f64 = 150.0;
/// The same with the kernel in the gap, and what of it the kernel takes: nothing there is to scale.
const GAP_WITH_KERNEL: f64 = 330.0;
const KERNEL: f64 = 170.0;
/// Pixels of a window that is tiny beside the others.
const LEAST: f64 = 120.0;
const HEIGHT: f64 = 16.0;

/// What was drawn.
#[derive(Debug)]
pub(super) struct Overview {
    pub(super) bottom: f64,
    /// Where the taken part of each window is: its left and right end and the strip's lower edge.
    pub(super) taken: Vec<Option<Zoom>>,
}

/// The foot that the funnel to the rows stands on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zoom {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) y: f64,
}

/// Draws the strip.
pub(super) fn draw(canvas: &mut Canvas, map: &Map, top: f64) -> Overview {
    let strip = top + 22.0;
    canvas.text("b", MARGIN, strip + 12.0, "all addresses");
    let gap = |index: usize| if map.kernel_before(index).is_some() { GAP_WITH_KERNEL } else { GAP };
    let gaps: f64 = (1..map.windows.len()).map(gap).sum();
    let total: f64 = map.windows.iter().map(|window| window.bytes() as f64).sum();
    let room = BAND - gaps - LEAST * map.windows.len() as f64;
    let mut x = LEFT;
    let mut taken = Vec::new();
    for (index, window) in map.windows.iter().enumerate() {
        let length = LEAST + room * window.bytes() as f64 / total.max(1.0);
        if let Some(before) = index.checked_sub(1).and_then(|before| map.windows.get(before)) {
            x += gap(index);
            let mut start = x - gap(index);
            let distance = size(window.range.start - before.range.end);
            breaks(canvas, [start + 6.0, x - 10.0], strip);
            if let Some(kernel) = map.kernel_before(index) {
                draw_kernel(canvas, map, kernel, start + 20.0, strip);
                start += KERNEL + 20.0;
            }
            let middle = (start + x) / 2.0;
            canvas.text("s dim m", middle, strip + 12.0, &format!("{distance} between"));
        }
        taken.push(draw_window(canvas, map, window, x, length, strip));
        x += length;
    }
    Overview { bottom: strip + HEIGHT + 24.0, taken }
}

/// Marks that say that something is not to scale.
fn breaks(canvas: &mut Canvas, places: [f64; 2], strip: f64) {
    for x in places {
        canvas.line("ink", (x, strip + HEIGHT + 3.0), (x + 4.0, strip - 3.0));
    }
}

/// The kernel in the gap of the strip.
fn draw_kernel(canvas: &mut Canvas, map: &Map, kernel: &KernelSpan, x: f64, strip: f64) {
    canvas.text("a", x, strip - 6.0, &map.address(kernel.range.start));
    canvas.text("a e", x + KERNEL, strip - 6.0, &map.address(kernel.range.end));
    let label = format!("the kernel, {}", size(kernel.range.end - kernel.range.start));
    kernel_box(canvas, map, kernel, Rect { x, y: strip, width: KERNEL, height: HEIGHT }, &label);
}

/// The kernel between the rows of two windows; returns where it ends.
pub(super) fn kernel_between(canvas: &mut Canvas, map: &Map, kernel: &KernelSpan, top: f64) -> f64 {
    let (start, end) = (map.address(kernel.range.start), map.address(kernel.range.end));
    let bytes = size(kernel.range.end - kernel.range.start);
    let rect = Rect { x: LEFT, y: top + 16.0, width: BAND, height: HEIGHT + 4.0 };
    canvas.text("a", MARGIN, rect.y + 14.0, &start);
    kernel_box(canvas, map, kernel, rect, &format!("the kernel: {start}-{end}, {bytes}, not to scale"));
    rect.y + rect.height
}

/// A box with the part that is code.
fn kernel_box(canvas: &mut Canvas, map: &Map, kernel: &KernelSpan, whole: Rect, label: &str) {
    let KernelSpan { range, text_end } = kernel;
    let (start, end) = (map.address(range.start), map.address(range.end));
    let bytes = (range.end - range.start) as f64;
    let code = text_end.filter(|end| range.contains(end)).map_or(0.0, |end| (end - range.start) as f64);
    canvas.open("");
    canvas.title(&match text_end {
        Some(text_end) => format!("the kernel, {start}-{end}; its code to {}", map.address(*text_end)),
        None => format!("the kernel, {start}-{end}"),
    });
    canvas.rect("kd", whole);
    canvas.rect("kt", Rect { width: whole.width * code / bytes.max(1.0), ..whole });
    canvas.text("s m kl", whole.x + whole.width / 2.0, whole.y + whole.height / 2.0 + 4.0, label);
    canvas.close();
}

fn draw_window(
    canvas: &mut Canvas,
    map: &Map,
    window: &Window,
    x: f64,
    length: f64,
    strip: f64,
) -> Option<Zoom> {
    let scale = length / (window.bytes() as f64).max(1.0);
    let place = |address: u64| x + (address - window.range.start) as f64 * scale;
    canvas.rect("track", Rect { x, y: strip, width: length, height: HEIGHT });
    let (start, end) = (map.address(window.range.start), map.address(window.range.end));
    let title = format!("{}: {}", window.title, size(window.bytes()));
    // Monospaced digits are 0.61 em wide.
    let addresses = map.address_width() as f64 * 11.0 * 0.61;
    canvas.text("a", x, strip - 6.0, &start);
    if length > 2.0 * addresses + width(&title, 12.0) + 24.0 {
        canvas.text("m", x + length / 2.0, strip - 6.0, &format!("range for {title}"));
    } else {
        canvas.text("", x, strip - 22.0, &format!("range for {title}"));
    }
    if length > 2.0 * addresses + 12.0 {
        canvas.text("a e", x + length, strip - 6.0, &end);
    }
    let mut reserved = Vec::new();
    let mut blocks: Vec<Rect> = Vec::new();
    for span in &window.spans {
        let (left, right) = (place(span.range.start), place(span.range.end));
        let rect = Rect { x: left, y: strip, width: right - left, height: HEIGHT };
        match span.what {
            What::Free => {}
            What::Reserved => reserved.push(Rect { width: rect.width.max(1.5), ..rect }),
            // What is less than a pixel apart is one.
            What::Memory(_) | What::Guard(_) => match blocks.last_mut() {
                Some(last) if left < last.x + last.width + 1.0 => last.width = right - last.x,
                _ => blocks.push(rect),
            },
        }
    }
    for rect in &mut blocks {
        rect.width = rect.width.max(2.0);
    }
    canvas.shape("x", &reserved);
    canvas.shape("taken", &blocks);
    let extent = window.taken_extent()?;
    let (left, right) = (place(extent.start), place(extent.end).max(place(extent.start) + 2.0));
    let note =
        format!("{} taken, {} of the range", size(window.taken()), share(window.taken(), window.bytes()));
    let beside = right + 8.0 + width(&note, 11.0) < x + length;
    let note_x = if beside { right + 8.0 } else { x + 8.0 };
    if beside || blocks.iter().all(|block| block.x > note_x + width(&note, 11.0)) {
        canvas.text("s", note_x, strip + 12.0, &note);
    }
    Some(Zoom { left, right, y: strip + HEIGHT })
}
