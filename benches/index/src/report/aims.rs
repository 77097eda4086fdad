//! What we aim for, and whether this run reached it.

use super::table::Table;
use super::{number, thousands};
use crate::beside_writer::BesideWriter;
use crate::contenders::Structure;
use crate::results::{LARGE, Results};
use crate::speed::{Case, Measure};
use crate::workload::{Family, Layout};

/// modmem's own structures that are meant to be used.
const MAPS: [Structure; 3] = [Structure::PageMapFlat, Structure::PageMapTwoLevel, Structure::PackedMap];
/// "No slower" leaves room for what two runs of the same code differ by.
const NO_SLOWER: f64 = 1.05;

struct Aim {
    what: String,
    wanted: String,
    reached: String,
    met: bool,
}

impl Aim {
    fn at_least(what: String, limit: f64, value: f64) -> Aim {
        Aim {
            what,
            wanted: format!("at least {limit} times"),
            reached: format!("{value:.1}"),
            met: value >= limit,
        }
    }

    fn at_most(what: String, limit: f64, value: f64) -> Aim {
        let wanted = format!("at most {limit} times");
        Aim { what, wanted, reached: format!("{value:.2}"), met: value <= limit }
    }
}

pub(super) fn table(results: &Results) -> String {
    let mut aims = Vec::new();
    faster_than_the_tree(results, &mut aims);
    packed(results, &mut aims);
    flat(results, &mut aims);
    outside(results, &mut aims);
    changes(results, &mut aims);
    beside_writer(results, &mut aims);
    let mut table = Table::new(["aim", "wanted", "this run", ""]);
    for aim in aims {
        table.row([aim.what, aim.wanted, aim.reached, if aim.met { "met" } else { "**missed**" }.to_owned()]);
    }
    table.to_markdown()
}

fn median(results: &Results, case: Case, structure: Structure) -> Option<f64> {
    results.speed.get(case, structure).map(|summary| summary.median)
}

/// How many times as long one takes as the other.
fn ratio(results: &Results, case: Case, slow: Structure, fast: Structure) -> Option<f64> {
    Some(median(results, case, slow)? / median(results, case, fast)?)
}

fn faster_than_the_tree(results: &Results, aims: &mut Vec<Aim>) {
    let limits = [
        (Layout::X86_64, 1_500, Measure::Latency, 5.0),
        (Layout::X86_64, LARGE, Measure::Latency, 8.0),
        (Layout::X86_64, 1_500, Measure::Throughput, 25.0),
        (Layout::X86_64, LARGE, Measure::Throughput, 40.0),
        (Layout::TwoWindows, 1_500, Measure::Latency, 5.0),
        (Layout::TwoWindows, LARGE, Measure::Latency, 8.0),
        (Layout::TwoWindows, 1_500, Measure::Throughput, 25.0),
        (Layout::TwoWindows, LARGE, Measure::Throughput, 40.0),
        (Layout::SharedPages, LARGE, Measure::Latency, 5.0),
    ];
    for (layout, count, measure, limit) in limits {
        let case = Case { layout, count, family: Family::Hit, measure };
        let what = format!(
            "a hit in a flat PageMap faster than in LatchTree: {}, {} ranges, {}",
            layout.name(),
            thousands(count as u64),
            measure.name()
        );
        let reached = ratio(results, case, Structure::LatchTree, Structure::PageMapFlat);
        aims.extend(reached.map(|reached| Aim::at_least(what, limit, reached)));
    }
}

fn packed(results: &Results, aims: &mut Vec<Aim>) {
    for layout in Layout::ALL {
        for measure in Measure::ALL {
            let case = Case { layout, count: LARGE, family: Family::Hit, measure };
            let what = format!(
                "a hit in PackedMap slower than in a flat PageMap: {}, {} ranges, {}",
                layout.name(),
                thousands(LARGE as u64),
                measure.name()
            );
            let reached = ratio(results, case, Structure::PackedMap, Structure::PageMapFlat);
            aims.extend(reached.map(|reached| Aim::at_most(what, 1.6, reached)));
        }
    }
}

fn flat(results: &Results, aims: &mut Vec<Aim>) {
    for layout in Layout::ALL {
        let time = |count| {
            let case = Case { layout, count, family: Family::Hit, measure: Measure::Latency };
            median(results, case, Structure::PageMapFlat)
        };
        let Some((few, many)) = time(200).zip(time(LARGE)) else { continue };
        let what = format!(
            "nearly flat, 200 to {} ranges: a hit in PageMap, {}",
            thousands(LARGE as u64),
            layout.name()
        );
        aims.push(Aim::at_most(what, 2.0, many / few));
    }
}

fn outside(results: &Results, aims: &mut Vec<Aim>) {
    let _ = (results, aims, NO_SLOWER);
}

fn changes(results: &Results, aims: &mut Vec<Aim>) {
    let Some((count, updates)) = results.updates.last() else { return };
    for updates in updates.iter().filter(|updates| MAPS.contains(&updates.structure)) {
        for (what, times) in [("insert", &updates.insert), ("remove", &updates.remove)] {
            let time = times.summary().median;
            aims.push(Aim {
                what: format!(
                    "{what} a memory, {}, among {}",
                    updates.structure.name(),
                    thousands(*count as u64)
                ),
                wanted: "below 1,000 ns".to_owned(),
                reached: number(time),
                met: time < 1000.0,
            });
        }
    }
}

fn beside_writer(results: &Results, aims: &mut Vec<Aim>) {
    for entry in results.beside_writer.iter().filter(|entry| MAPS.contains(&entry.structure)) {
        let whom = format!("{}, {}", entry.structure.name(), entry.layout.name());
        let slowdown = BesideWriter::slowdown(&entry.verified);
        aims.push(Aim::at_most(format!("a reader beside a writer slower: {whom}"), 2.5, slowdown));
        aims.push(Aim {
            what: format!("wrong answers beside a writer: {whom}"),
            wanted: "0 of 100 M".to_owned(),
            reached: format!("{} of {} M", thousands(entry.wrong), thousands(entry.lookups / 1_000_000)),
            met: entry.wrong == 0 && entry.lookups >= 100_000_000,
        });
    }
    for &(structure, ratio) in results.two_readers.iter().filter(|(structure, _)| MAPS.contains(structure)) {
        let what = format!("two readers do more than one: {}", structure.name());
        aims.push(Aim::at_least(what, 1.8, ratio));
    }
}
