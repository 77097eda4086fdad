//! The picture of lookups in vain: policies down, families of addresses across, at both moments.

use super::svg::{Anchor, Svg};
use super::thread_tables::{percent, policies};
use crate::thread_case::{Cell, Family, Moment, ThreadCase};

const LEFT: f64 = 214.0;
const TOP: f64 = 150.0;
const ROW: f64 = 26.0;
const COLUMN: f64 = 90.0;
const BAR: f64 = 72.0;
/// Between the two moments.
const BETWEEN: f64 = 24.0;

pub(super) fn draw(case: &ThreadCase) -> String {
    let families: Vec<Family> = Family::ALL.into_iter().filter(|family| !family.always_hits()).collect();
    // What `Scan` and `Augmented` let through is the same.
    let names: Vec<&str> = policies(case).into_iter().filter(|name| !name.contains("Augmented")).collect();
    let half = families.len() as f64 * COLUMN;
    let height = TOP + names.len() as f64 * ROW + 24.0;
    let mut svg = Svg::new(LEFT + 2.0 * half + BETWEEN + 16.0, height);
    svg.text(24.0, 40.0, "h", Anchor::Start, "Lookups that enter the structure in vain");
    let subtitle =
        "Share of all lookups of a family of addresses; the loads and unloads of a 32-bit PowerPC kernel";
    svg.text(24.0, 62.0, "dim", Anchor::Start, subtitle);
    for (row, name) in names.iter().enumerate() {
        let label = name.replace('`', "").replace("Scan", "Scan or Augmented");
        svg.text(LEFT - 14.0, y(row) + 15.0, "", Anchor::End, &label);
    }
    for (moment, left) in Moment::ALL.into_iter().zip([LEFT, LEFT + half + BETWEEN]) {
        let count = case.ranges.iter().find(|entry| entry.0 == moment).map_or(0, |entry| entry.1);
        let title = match moment {
            Moment::Loaded => format!("all loaded: {count} ranges"),
            Moment::Unloaded => format!("nearly all unloaded: {count} ranges"),
        };
        svg.text(left, TOP - 44.0, "b", Anchor::Start, &title);
        for (column, family) in families.iter().enumerate() {
            let x = left + column as f64 * COLUMN;
            svg.text(x, TOP - 14.0, "s dim", Anchor::Start, family.name());
            for (row, name) in names.iter().enumerate() {
                let is_it =
                    |cell: &&Cell| cell.policy == *name && cell.family == *family && cell.moment == moment;
                let Some(cell) = case.cells.iter().find(is_it) else { continue };
                svg.bar((x, y(row)), (BAR, ROW - 6.0), "track");
                svg.bar((x, y(row)), (BAR * cell.in_vain, ROW - 6.0), "vain");
                // On the bar or behind it, whichever has room.
                let (place, class) =
                    if cell.in_vain > 0.7 { (x, "s on") } else { (x + BAR * cell.in_vain, "s dim") };
                svg.text(place + 4.0, y(row) + 14.5, class, Anchor::Start, &percent(cell.in_vain));
            }
        }
    }
    svg.finish()
}

fn y(row: usize) -> f64 {
    TOP + row as f64 * ROW
}
