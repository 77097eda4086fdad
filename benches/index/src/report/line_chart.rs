//! The picture of latency over the number of ranges, in all layouts, both axes logarithmic.

use super::svg::{Anchor, Svg};
use super::thousands;
use crate::contenders::Structure;
use crate::results::SIZES;
use crate::speed::{Case, Measure, Speed};
use crate::workload::{Family, Layout};

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 560.0;
const TOP: f64 = 110.0;
const BOTTOM: f64 = 500.0;
const PANEL: f64 = 272.0;
const PANEL_LEFTS: [f64; 3] = [60.0, 376.0, 692.0];
/// Nanoseconds at the ends of the vertical axis.
const LOW: f64 = 2.0;
const HIGH: f64 = 400.0;
/// Least distance between labels.
const LABEL: f64 = 17.0;

pub(super) fn draw(speed: &Speed) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.text(24.0, 40.0, "h", Anchor::Start, "How long it takes to find the owner of an address");
    let subtitle = "Nanoseconds a lookup that hits, when each address depends on the last answer; \
                    median of the rounds; both axes logarithmic";
    svg.text(24.0, 62.0, "dim", Anchor::Start, subtitle);
    for (layout, left) in Layout::ALL.into_iter().zip(PANEL_LEFTS) {
        axes(&mut svg, layout, left);
        let mut ends = Vec::new();
        for structure in Structure::ALL {
            let points: Vec<(f64, f64)> = SIZES
                .into_iter()
                .filter_map(|count| {
                    let case = Case { layout, count, family: Family::Hit, measure: Measure::Latency };
                    let time = speed.get(case, structure)?.median;
                    (!left_out(structure)).then(|| (x(left, count), y(time)))
                })
                .collect();
            let Some(&end) = points.last() else { continue };
            let (colour, width, dashes) = pen(structure);
            let style = format!(
                r#"stroke="{colour}" stroke-width="{width}" stroke-linejoin="round" stroke-dasharray="{dashes}""#
            );
            svg.path(&points, &style);
            points.iter().for_each(|&point| svg.dot(point, colour));
            ends.push((end, structure));
        }
        if left == PANEL_LEFTS[2] {
            labels(&mut svg, left + PANEL, ends);
        }
    }
    svg.finish()
}

fn x(left: f64, count: usize) -> f64 {
    let [first, .., last] = SIZES.map(|count| (count as f64).ln());
    left + 14.0 + ((count as f64).ln() - first) / (last - first) * (PANEL - 28.0)
}

fn y(time: f64) -> f64 {
    let share = (time.clamp(LOW, HIGH) / LOW).ln() / (HIGH / LOW).ln();
    BOTTOM - share * (BOTTOM - TOP)
}

fn axes(svg: &mut Svg, layout: Layout, left: f64) {
    svg.text(left, TOP - 16.0, "b", Anchor::Start, layout.name());
    for time in [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0] {
        svg.line((left, y(time)), (left + PANEL, y(time)), "grid");
        svg.text(left - 8.0, y(time) + 4.0, "dim", Anchor::End, &time.to_string());
    }
    for count in SIZES {
        svg.line((x(left, count), BOTTOM), (x(left, count), BOTTOM + 5.0), "axis");
        svg.text(x(left, count), BOTTOM + 20.0, "dim", Anchor::Middle, &thousands(count as u64));
    }
    svg.line((left, BOTTOM), (left + PANEL, BOTTOM), "axis");
    svg.text(left + PANEL / 2.0, BOTTOM + 42.0, "dim", Anchor::Middle, "ranges");
}

/// Names beside the ends of the lines of the last panel, moved apart where they would overlap.
fn labels(svg: &mut Svg, right: f64, mut ends: Vec<((f64, f64), Structure)>) {
    ends.sort_by(|a, b| a.0.1.total_cmp(&b.0.1));
    let mut places: Vec<f64> = ends.iter().map(|((_, y), _)| *y).collect();
    for _ in 0..100 {
        for place in 1..places.len() {
            let missing = LABEL - (places[place] - places[place - 1]);
            if missing > 0.0 {
                places[place - 1] -= missing / 2.0;
                places[place] += missing / 2.0;
            }
        }
    }
    for ((end, structure), place) in ends.into_iter().zip(places) {
        svg.line((end.0 + 5.0, end.1), (right + 18.0, place), "lead");
        let name = structure.name().replace('`', "");
        let (colour, ..) = pen(structure);
        svg.dot((right + 24.0, place), colour);
        svg.text(right + 32.0, place + 4.0, "", Anchor::Start, &name);
    }
}

/// The loop alone, and what differs from another line by two comparisons.
fn left_out(structure: Structure) -> bool {
    matches!(structure, Structure::Harness | Structure::ModuleAddress)
}

/// Colour, width and dashes: modmem's maps blue and green, what Linux does red, what others use grey and brown.
fn pen(structure: Structure) -> (&'static str, f64, &'static str) {
    match structure {
        Structure::PageMapFlat => ("#0072b2", 3.0, "none"),
        Structure::PageMapTwoLevel => ("#56b4e9", 2.0, "none"),
        Structure::PackedMap => ("#009e73", 2.5, "none"),
        Structure::LatchTree | Structure::ModuleAddress => ("#d55e00", 2.5, "none"),
        Structure::KernelLatchTree => ("#d55e00", 1.5, "5 4"),
        Structure::LockedBTree => ("#8c6d31", 1.5, "none"),
        Structure::SortedSnapshot => ("#cc79a7", 1.5, "none"),
        Structure::StaticTree => ("#59636e", 1.5, "none"),
        Structure::DlFindObject | Structure::Harness => ("#8c959f", 1.5, "2 3"),
    }
}
