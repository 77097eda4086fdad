//! Memory, changes, and readers beside a writer.

use super::table::Table;
use super::{Section, bytes, number, thousands};
use crate::beside_writer::BesideWriter;
use crate::contenders::Structure;
use crate::results::{LARGE, LARGEST, Results};
use crate::timing::Times;
use crate::workload::Layout;

pub(super) fn sections(results: &Results) -> Vec<Section> {
    vec![
        Section::new("memory", memory(results)),
        Section::new("insert", updates(results, "insert", |updates| &updates.insert)),
        Section::new("remove", updates(results, "remove", |updates| &updates.remove)),
        Section::new("writer", beside_writer(results)),
        Section::new("protection", protection(results)),
    ]
}

fn memory(results: &Results) -> String {
    let mut header = vec![format!("{} ranges", thousands(LARGEST as u64))];
    for layout in Layout::ALL {
        header.push(format!("{}: requested", layout.name()));
        header.push("resident".to_owned());
    }
    let mut table = Table::new(header);
    for structure in Structure::ALL {
        let mine = results.memory.iter().filter(|entry| entry.1 == structure);
        let cells = mine.flat_map(|entry| [bytes(entry.2.requested), bytes(entry.2.resident)]);
        let row: Vec<String> = [structure.name().to_owned()].into_iter().chain(cells).collect();
        if row.len() > 1 {
            table.row(row);
        }
    }
    table.to_markdown()
}

fn updates(results: &Results, what: &str, times: impl Fn(&crate::updates::Updates) -> &Times) -> String {
    let sizes = results.updates.iter().flat_map(|(count, _)| {
        [format!("{} ranges: median", thousands(*count as u64)), "90 % below".to_owned()]
    });
    let mut table = Table::new([format!("{what}, ns")].into_iter().chain(sizes));
    for structure in Structure::ALL {
        let mut row = vec![structure.name().to_owned()];
        for (_, updates) in &results.updates {
            match updates.iter().find(|updates| updates.structure == structure) {
                Some(updates) => {
                    row.extend(
                        [0.5, 0.9].map(|share| thousands(times(updates).quantile(share).round() as u64)),
                    );
                }
                None => row.extend(["-", "-"].map(str::to_owned)),
            }
        }
        if row[1..].iter().any(|cell| cell != "-") {
            table.row(row);
        }
    }
    table.to_markdown()
}

fn beside_writer(results: &Results) -> String {
    let mut table = Table::new([
        format!("{} ranges", thousands(LARGE as u64)),
        "layout".into(),
        "throughput, ns: alone".into(),
        "beside writer".into(),
        "times".into(),
        "latency, ns: alone".into(),
        "beside writer".into(),
        "times".into(),
        "verified".into(),
        "wrong".into(),
        "changes a second".into(),
        "two readers".into(),
    ]);
    for entry in &results.beside_writer {
        let mut row = vec![entry.structure.name().to_owned(), entry.layout.name().to_owned()];
        for times in [&entry.verified, &entry.latency] {
            row.extend(times.iter().map(|times| number(times.summary().median)));
            row.push(number(BesideWriter::slowdown(times)));
        }
        row.push(format!("{} M", thousands(entry.lookups / 1_000_000)));
        row.push(thousands(entry.wrong));
        row.push(thousands((entry.changes as f64 / entry.seconds) as u64));
        let scaling = results.two_readers.iter().find(|&&(structure, _)| structure == entry.structure);
        let scaling = scaling.filter(|_| entry.layout == Layout::X86_64);
        row.push(scaling.map_or_else(|| "-".to_owned(), |(_, ratio)| format!("{ratio:.2}")));
        table.row(row);
    }
    table.to_markdown()
}

fn protection(results: &Results) -> String {
    let mut table = Table::new([
        "hit in a flat PageMap, ns".to_owned(),
        "latency".into(),
        "throughput".into(),
        "throughput beside another reader".into(),
        "waiting when nobody reads".into(),
    ]);
    for cost in &results.protection {
        let times = [&cost.latency, &cost.throughput, &cost.beside_another]
            .map(|times| number(times.summary().median));
        let wait =
            cost.synchronize.as_ref().map_or_else(|| "-".to_owned(), |times| number(times.summary().median));
        table.row([cost.name.to_owned()].into_iter().chain(times).chain([wait]));
    }
    table.to_markdown()
}
