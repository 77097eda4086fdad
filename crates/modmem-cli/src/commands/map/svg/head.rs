//! What stands around the map: title, numbers, and how to read it.

use modmem::layout::MemoryKind;

use super::canvas::{Canvas, Rect, width};
use super::style::{LETTERS, class};
use super::{LEFT, MARGIN, WIDTH};
use crate::commands::map::model::Map;
use crate::commands::map::text::{count, share, size};
use crate::output::grouped;

/// Height of a line of the table of types.
const LINE: f64 = 21.0;
/// Where the explanation starts, right of the table.
const KEY: f64 = 690.0;

/// Draws title, numbers and legend; returns where they end.
pub(super) fn draw(canvas: &mut Canvas, map: &Map, top: f64) -> f64 {
    let facts = &map.facts;
    canvas.text("h", MARGIN, top + 20.0, &format!("Kernel modules in memory: Linux {}", facts.release));
    numbers(canvas, map, top + 36.0);
    let top = top + 116.0;
    let table = table(canvas, map, top);
    let key = key(canvas, map, top);
    table.max(key)
}

/// The numbers that matter, large.
fn numbers(canvas: &mut Canvas, map: &Map, top: f64) {
    let total = map.total();
    let (guards, guard_bytes) = map.guards();
    let modules = map.facts.modules.len() as u64;
    let one = |number, what: &str| if number == 1 { what.to_owned() } else { format!("{what}s") };
    let init = match map.facts.before_init {
        true => (size(map.init_bytes()), "init, not run yet".to_owned()),
        false => (size(map.facts.given_back), "given back after init".to_owned()),
    };
    let cards = [
        (grouped(modules), format!("{} loaded", one(modules, "module"))),
        (grouped(total.memories), if total.memories == 1 { "memory".into() } else { "memories".into() }),
        (size(total.used), "used".into()),
        (size(total.allocated), "allocated".into()),
        (share(total.padding(), total.allocated), format!("padding ({})", size(total.padding()))),
        (size(guard_bytes), format!("in {} guard {}", grouped(guards), one(guards, "page"))),
        init,
    ];
    let gap = 10.0;
    let each = (WIDTH - 2.0 * MARGIN + gap) / cards.len() as f64;
    for (index, (number, caption)) in cards.iter().enumerate() {
        let x = MARGIN + each * index as f64;
        canvas.markup(format_args!(
            "<rect class=\"card\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"54\" rx=\"6\"/>",
            each - gap
        ));
        canvas.text("big", x + 12.0, top + 25.0, number);
        canvas.text("s dim", x + 12.0, top + 43.0, caption);
    }
}

/// The types with their colours, letters and totals.
fn table(canvas: &mut Canvas, map: &Map, top: f64) -> f64 {
    // Right ends of the columns of numbers.
    let columns = [("modules", 300.0), ("used", 400.0), ("allocated", 500.0), ("padding", 585.0)];
    let mut y = top + 12.0;
    canvas.text("s dim", MARGIN, y, "memory type");
    canvas.text("s dim", MARGIN + 185.0, y, "access");
    for (title, x) in columns {
        canvas.text("s dim e", MARGIN + x, y, title);
    }
    let mut absent = Vec::new();
    for kind in MemoryKind::ALL {
        let total = map.totals[kind];
        if total.memories == 0 {
            absent.push(kind.name());
            continue;
        }
        y += LINE;
        swatch(canvas, kind, MARGIN, y - 12.0);
        canvas.text("b", MARGIN + 62.0, y, kind.name());
        canvas.text("a", MARGIN + 185.0, y, &map.access(kind));
        let cells = [
            grouped(total.memories),
            grouped(total.used),
            grouped(total.allocated),
            share(total.padding(), total.allocated),
        ];
        for (cell, (_, x)) in cells.iter().zip(columns) {
            canvas.text("e", MARGIN + x, y, cell);
        }
    }
    if !absent.is_empty() {
        y += LINE;
        let gone = !map.facts.before_init && map.facts.given_back > 0;
        let why = if gone { "(init memory goes when init is done)" } else { "" };
        canvas.text("s dim", MARGIN, y, &format!("none: {} {why}", absent.join(", ")));
    }
    y
}

/// A block with its padding, small, with the letter of its type.
fn swatch(canvas: &mut Canvas, kind: MemoryKind, x: f64, y: f64) {
    let whole = Rect { x, y, width: 50.0, height: 15.0 };
    let used = Rect { width: 36.0, ..whole };
    canvas.rect(&class('p', kind), whole);
    canvas.rect(&class('u', kind), used);
    if kind.is_init() {
        canvas.markup(format_args!("<rect class=\"i\" x=\"{x}\" y=\"{y}\" width=\"36\" height=\"15\"/>"));
    }
    let letter = LETTERS[kind as usize].to_string();
    canvas.text(&format!("s b m {}", class('l', kind)), x + 18.0, y + 11.5, &letter);
}

/// A made-up module with everything that can be seen in the map, named.
fn key(canvas: &mut Canvas, map: &Map, top: f64) -> f64 {
    canvas.text("s dim", KEY, top + 12.0, "how to read the rows");
    let name = "module name";
    canvas.text("s b", KEY, top + 34.0, name);
    let bar = |x: f64, width: f64| Rect { x, y: top + 38.0, width, height: 2.5 };
    let y = top + 43.0;
    let height = 22.0;
    let part = |x: f64, width: f64| Rect { x, y, width, height };
    let mut x = KEY;
    let mut captions: Vec<(f64, &str)> = Vec::new();
    canvas.rect("track", part(x, WIDTH - MARGIN - x));
    for (kind, used, padding) in [(MemoryKind::Text, 104.0, 56.0), (MemoryKind::RoData, 64.0, 22.0)] {
        canvas.rect(&class('p', kind), part(x, used + padding));
        canvas.rect(&class('u', kind), part(x, used));
        let label = format!("s m {}", class('l', kind));
        canvas.text(&label, x + used / 2.0, y + 15.0, kind.name());
        if captions.is_empty() {
            captions.extend([(x + used / 2.0, "used"), (x + used + padding / 2.0, "padding")]);
        }
        x += used + padding;
        canvas.rect("g", part(x, 48.0));
        if captions.len() == 2 {
            captions.push((x + 24.0, "guard"));
        }
        x += 48.0;
    }
    canvas.rect("r0", bar(KEY, x - 48.0 - KEY));
    captions.push((x + 36.0, "free"));
    if map.has_reserved() {
        let reserved = part(x + 72.0, WIDTH - MARGIN - x - 72.0);
        canvas.rect("x", reserved);
        captions.push((reserved.x + reserved.width / 2.0, "reserved"));
    }
    for (x, caption) in captions {
        canvas.text("s dim m", x, y + height + 15.0, caption);
    }
    let lines = [
        "used: bytes of sections   ·   padding: the rest of the last page, allocated as well".to_owned(),
        format!(
            "guard: {} of addresses behind a block, never mapped, costs no memory",
            size(map.facts.guard)
        ),
    ];
    let mut below = y + height + 37.0;
    for line in lines {
        canvas.text("s dim", KEY, below, &line);
        below += 16.0;
    }
    below - 16.0
}

/// Notes below the map.
pub(super) fn foot(canvas: &mut Canvas, map: &Map, top: f64) -> f64 {
    let facts = &map.facts;
    let mut y = top + 12.0;
    let mut notes: Vec<String> = facts.remarks.iter().map(|remark| format!("note: {remark}")).collect();
    if facts.failed > 0 {
        notes.insert(
            0,
            format!("{} could not be loaded and are not shown", count(facts.failed as u64, "module")),
        );
    }
    for note in notes {
        for line in wrapped(&note, WIDTH - MARGIN - LEFT) {
            canvas.text("s dim", LEFT, y, &line);
            y += 16.0;
        }
    }
    // The notes' place is beside the scale; the credit stands at its right.
    let drawn = format!("modmem {}", env!("CARGO_PKG_VERSION"));
    let rules =
        if facts.profile.is_empty() { drawn } else { format!("{drawn}, layout rules of {}", facts.profile) };
    canvas.text("s dim", LEFT, y, &rules);
    y
}

/// Lines of words that fit.
fn wrapped(text: &str, room: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() && width(line, 11.0) + width(word, 11.0) > room {
                lines.push(word.to_owned());
            } else {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
        }
    }
    lines
}
