//! What we aim for, and whether this run reached it.

use super::table::Table;
use super::thousands;
use crate::beside_writer::BesideWriter;
use crate::contenders::Structure;
use crate::results::{LARGE, LARGEST, Results};
use crate::speed::{Case, Measure};
use crate::thread_case::{Family as ThreadFamily, Moment};
use crate::workload::{Family, Layout};

/// The default map in both of its forms.
const PAGE_MAPS: [Structure; 2] = [Structure::PageMapFlat, Structure::PageMapTwoLevel];
/// modmem's own structures that are meant to be used.
const MAPS: [Structure; 3] = [Structure::PageMapFlat, Structure::PageMapTwoLevel, Structure::PackedMap];
/// "No slower" leaves room for what two runs of the same code differ by.
const NO_SLOWER: f64 = 1.05;
const NEARLY_FLAT: f64 = 2.0;

struct Aim {
    what: String,
    wanted: String,
    reached: String,
    /// Nothing if the run cannot tell.
    met: Option<bool>,
}

impl Aim {
    fn at_least(what: String, limit: f64, value: f64) -> Aim {
        let met = (!value.is_nan()).then_some(value >= limit);
        Aim { what, wanted: format!("at least {limit}"), reached: format!("{value:.1}"), met }
    }

    fn at_most(what: String, limit: f64, value: f64) -> Aim {
        let met = (!value.is_nan()).then_some(value <= limit);
        Aim { what, wanted: format!("at most {limit}"), reached: format!("{value:.2}"), met }
    }
}

pub(super) fn table(results: &Results) -> String {
    let mut aims = Vec::new();
    aims.extend(faster_than_the_tree(results));
    aims.extend(packed(results));
    aims.extend(nearly_flat(results));
    aims.extend(outside(results));
    aims.extend(between_the_windows(results));
    aims.extend(changes(results));
    aims.extend(beside_writer(results));
    aims.extend(two_readers(results));
    let mut table = Table::new(["aim (a / b: how many times as long a takes)", "wanted", "this run", ""]);
    for aim in aims {
        let verdict = match aim.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        table.row([aim.what, aim.wanted, aim.reached, verdict.to_owned()]);
    }
    table.to_markdown()
}

/// How many times as long one takes as the other.
fn ratio(results: &Results, case: Case, slow: Structure, fast: Structure) -> Option<f64> {
    let median = |structure| results.speed.get(case, structure).map(|summary| summary.median);
    Some(median(slow)? / median(fast)?)
}

fn faster_than_the_tree(results: &Results) -> impl Iterator<Item = Aim> {
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
    limits.into_iter().filter_map(|(layout, count, measure, limit)| {
        let case = Case { layout, count, family: Family::Hit, measure };
        let reached = ratio(results, case, Structure::LatchTree, Structure::PageMapFlat)?;
        let (layout, measure, count) = (layout.name(), measure.name(), thousands(count as u64));
        let what = format!("hit, LatchTree / flat PageMap: {layout}, {count} ranges, {measure}");
        Some(Aim::at_least(what, limit, reached))
    })
}

fn cases(family: Family) -> impl Iterator<Item = Case> {
    let layouts = Layout::ALL.into_iter();
    layouts.flat_map(move |layout| Measure::ALL.map(|measure| Case { layout, count: LARGE, family, measure }))
}

fn packed(results: &Results) -> impl Iterator<Item = Aim> {
    cases(Family::Hit).filter_map(|case| {
        let reached = ratio(results, case, Structure::PackedMap, Structure::PageMapFlat)?;
        let (layout, measure, count) = (case.layout.name(), case.measure.name(), thousands(LARGE as u64));
        let what = format!("hit, PackedMap / flat PageMap: {layout}, {count} ranges, {measure}");
        Some(Aim::at_most(what, 1.6, reached))
    })
}

fn nearly_flat(results: &Results) -> impl Iterator<Item = Aim> {
    Layout::ALL.into_iter().filter_map(|layout| {
        let time = |count| {
            let case = Case { layout, count, family: Family::Hit, measure: Measure::Latency };
            results.speed.get(case, Structure::PageMapFlat).map(|summary| summary.median)
        };
        let (layout, count) = (layout.name(), thousands(LARGE as u64));
        let what = format!("hit, flat PageMap, {count} ranges / 200 ranges: {layout}, latency");
        Some(Aim::at_most(what, NEARLY_FLAT, time(LARGE)? / time(200)?))
    })
}

fn outside(results: &Results) -> impl Iterator<Item = Aim> {
    cases(Family::Outside).filter_map(|case| {
        let reached = ratio(results, case, Structure::PageMapFlat, Structure::ModuleAddress)?;
        let (layout, measure) = (case.layout.name(), case.measure.name());
        let what = format!("outside, flat PageMap / Linux's comparisons: {layout}, {measure}");
        Some(Aim::at_most(what, NO_SLOWER, reached))
    })
}

/// The addresses that the thread was about.
fn between_the_windows(results: &Results) -> impl Iterator<Item = Aim> {
    let time = |policy| results.thread_case.latency(policy, ThreadFamily::Lowmem, Moment::Loaded);
    let what = |policy| format!("lowmem in the case of the thread, flat PageMap / {policy}: latency");
    ["`Linux`", "`TextData`, `Never`"].into_iter().filter_map(move |policy| {
        let reached = time("PageMap, its windows")? / time(policy)?;
        Some(Aim::at_most(what(policy), NO_SLOWER, reached))
    })
}

fn changes(results: &Results) -> Vec<Aim> {
    let Some((_, updates)) = results.updates.iter().find(|(count, _)| *count == LARGEST) else {
        return Vec::new();
    };
    let updates = updates.iter().filter(|updates| MAPS.contains(&updates.structure));
    let aims = updates.flat_map(|updates| {
        [("insert", &updates.insert), ("remove", &updates.remove)].map(|(verb, times)| {
            let time = times.summary().median;
            let (structure, count) = (updates.structure.name(), thousands(LARGEST as u64));
            Aim {
                what: format!("{verb} a memory, {structure}: {count} ranges, median"),
                wanted: "below 1,000 ns".to_owned(),
                reached: format!("{time:.0} ns"),
                met: Some(time < 1000.0),
            }
        })
    });
    aims.collect()
}

fn beside_writer(results: &Results) -> Vec<Aim> {
    let mut aims = Vec::new();
    for structure in PAGE_MAPS {
        let runs = || results.beside_writer.iter().filter(move |run| run.structure == structure);
        let name = structure.name();
        for run in runs() {
            for (measure, times) in [("throughput", &run.verified), ("latency", &run.latency)] {
                let what = format!("{name}, beside a writer / alone: {}, {measure}", run.layout.name());
                aims.push(Aim::at_most(what, 2.5, BesideWriter::slowdown(times)));
            }
        }
        let lookups: u64 = runs().map(|run| run.lookups).sum();
        let wrong: u64 = runs().map(|run| run.wrong).sum();
        if lookups > 0 {
            aims.push(Aim {
                what: format!("{name}, wrong answers beside a writer"),
                wanted: "0 of 100 M".to_owned(),
                reached: format!("{} of {} M", thousands(wrong), thousands(lookups / 1_000_000)),
                met: (wrong > 0 || lookups >= 100_000_000).then_some(wrong == 0),
            });
        }
    }
    aims
}

fn two_readers(results: &Results) -> impl Iterator<Item = Aim> {
    let maps = results.two_readers.iter().filter(|(structure, _)| PAGE_MAPS.contains(structure));
    maps.map(|&(structure, ratio)| {
        Aim::at_least(format!("{}, lookups of two readers / of one", structure.name()), 1.8, ratio)
    })
}
