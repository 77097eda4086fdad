//! The case of the thread: lookups in vain, and what a lookup takes, by policy and family.

use super::Section;
use super::table::Table;
use crate::thread_case::{Cell, Family, Moment, ThreadCase};

pub(super) fn sections(case: &ThreadCase) -> Vec<Section> {
    let mut sections = Vec::new();
    for (moment, name) in Moment::ALL.into_iter().zip(["loaded", "unloaded"]) {
        let share = |cell: &Cell| percent(cell.in_vain);
        let in_vain = table(case, moment, "in vain", |family| !family.always_hits(), share);
        sections.push(Section::new(format!("thread-in-vain-{name}"), in_vain));
        let latency = |cell: &Cell| format!("{:.1}", cell.latency.summary().median);
        sections
            .push(Section::new(format!("thread-ns-{name}"), table(case, moment, "ns", |_| true, latency)));
        let lines = |cell: &Cell| format!("{:.2}", cell.lines);
        sections.push(Section::new(
            format!("thread-lines-{name}"),
            table(case, moment, "lines", |_| true, lines),
        ));
    }
    sections.push(Section::new("thread-changes", changes(case)));
    sections
}

/// What loading and unloading a memory takes behind each policy.
fn changes(case: &ThreadCase) -> String {
    let mut table = Table::new(["ns a memory", "load", "unload"]);
    for changes in &case.changes {
        let times = [&changes.load, &changes.unload].map(|times| super::number(times.summary().median));
        table.row([changes.policy.to_owned()].into_iter().chain(times));
    }
    table.to_markdown()
}

/// Policies down, families across.
fn table(
    case: &ThreadCase,
    moment: Moment,
    what: &str,
    wanted: impl Fn(Family) -> bool,
    show: impl Fn(&Cell) -> String,
) -> String {
    let families: Vec<Family> = Family::ALL.into_iter().filter(|&family| wanted(family)).collect();
    let names = families.iter().map(|family| family.name().to_owned());
    let mut table = Table::new([what.to_owned()].into_iter().chain(names));
    for policy in policies(case) {
        let of = |family: &Family| {
            let cell = case
                .cells
                .iter()
                .find(|cell| cell.policy == policy && cell.family == *family && cell.moment == moment);
            cell.map_or_else(|| "-".to_owned(), &show)
        };
        table.row([policy.to_owned()].into_iter().chain(families.iter().map(of)));
    }
    table.to_markdown()
}

/// Each once, in their order.
pub(super) fn policies(case: &ThreadCase) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for cell in &case.cells {
        if !names.contains(&cell.policy) {
            names.push(cell.policy);
        }
    }
    names
}

/// Shares that are not quite all or nothing do not look as if they were.
pub(super) fn percent(share: f64) -> String {
    match share {
        0.0 => "0".to_owned(),
        1.0 => "100 %".to_owned(),
        share if share < 0.001 => "< 0.1 %".to_owned(),
        share if share > 0.999 => "> 99.9 %".to_owned(),
        share => format!("{:.1} %", share * 100.0),
    }
}
