//! Nanoseconds a lookup: hits by number of ranges, other addresses at one size.

use super::table::Table;
use super::{Section, number, thousands};
use crate::contenders::Structure;
use crate::results::{LARGE, SIZES};
use crate::speed::{Case, Measure, Speed};
use crate::timing::Summary;
use crate::workload::{Family, Layout};

/// Whom all others are compared with.
const REFERENCES: [(&str, Structure); 2] =
    [("LatchTree / this", Structure::LatchTree), ("this / PageMap", Structure::PageMapFlat)];

pub(super) fn sections(speed: &Speed, layout: Layout) -> Vec<Section> {
    let name = layout.name().replace(' ', "-");
    let mut sections = Vec::new();
    for measure in Measure::ALL {
        sections.push(Section::new(format!("hits-{name}-{}", measure.name()), hits(speed, layout, measure)));
    }
    sections.push(Section::new(format!("misses-{name}"), misses(speed, layout)));
    sections
}

fn hits(speed: &Speed, layout: Layout, measure: Measure) -> String {
    let sizes = SIZES.map(|count| format!("{} ranges", thousands(count as u64)));
    let references = REFERENCES.map(|(title, _)| format!("{title}, {}", thousands(LARGE as u64)));
    let mut table =
        Table::new([format!("hit, {}, ns", measure.name())].into_iter().chain(sizes).chain(references));
    for structure in Structure::ALL {
        let case = |count| Case { layout, count, family: Family::Hit, measure };
        let times = SIZES.map(|count| speed.get(case(count), structure));
        if times.iter().all(Option::is_none) {
            continue;
        }
        let is_structure = structure != Structure::Harness;
        let median = |structure| speed.get(case(LARGE), structure).map(|summary| summary.median);
        let ratio = |(title, reference): (&str, Structure)| {
            let (this, reference) = (median(structure)?, median(reference)?);
            Some(if title.starts_with("this") { this / reference } else { reference / this })
        };
        let ratios = REFERENCES
            .map(|reference| ratio(reference).filter(|_| is_structure).map_or_else(missing, number));
        table.row([structure.name().to_owned()].into_iter().chain(times.map(cell)).chain(ratios));
    }
    table.to_markdown()
}

fn misses(speed: &Speed, layout: Layout) -> String {
    let mut table = Table::new([
        format!("{} ranges, ns", thousands(LARGE as u64)),
        "gap, latency".into(),
        "gap, throughput".into(),
        "outside, latency".into(),
        "outside, throughput".into(),
    ]);
    for structure in Structure::ALL {
        let families = [Family::Gap, Family::Outside];
        let cases = families
            .into_iter()
            .flat_map(|family| Measure::ALL.map(|measure| Case { layout, count: LARGE, family, measure }));
        let times: Vec<_> = cases.map(|case| speed.get(case, structure)).collect();
        if times.iter().any(Option::is_some) {
            table.row([structure.name().to_owned()].into_iter().chain(times.into_iter().map(cell)));
        }
    }
    table.to_markdown()
}

/// The median, and half of what lies between the quartiles.
fn cell(summary: Option<Summary>) -> String {
    let with_spread = |summary: Summary| {
        format!("{} ±{}", number(summary.median), number((summary.high - summary.low) / 2.0))
    };
    summary.map_or_else(missing, with_spread)
}

fn missing() -> String {
    "-".to_owned()
}
