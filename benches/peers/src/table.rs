//! The result, for people.

use crate::files::File;
use crate::verify::Verdict;
use std::fs;
use std::time::Duration;

/// A contender's line.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    note: String,
    /// Modules loaded.
    pub(crate) modules: usize,
    /// The first failure.
    pub(crate) failure: Option<String>,
    /// One a round.
    pub(crate) times: Vec<Duration>,
    /// If it was checked.
    pub(crate) verdict: Option<Verdict>,
}

impl Row {
    /// Without results.
    pub(crate) fn new(name: &str, note: &str) -> Self {
        let (name, note) = (name.to_owned(), note.to_owned());
        Self { name, note, modules: 0, failure: None, times: Vec::new(), verdict: None }
    }

    /// Least, middle and greatest milliseconds.
    fn spread(&self) -> [f64; 3] {
        let mut ms: Vec<f64> = self.times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let middle = (ms[(ms.len() - 1) / 2] + ms[ms.len() / 2]) / 2.0;
        [ms[0], middle, ms[ms.len() - 1]]
    }
}

/// Prints the table, what was verified and where it was measured.
pub(crate) fn print(rows: &[Row], files: &[File], names: usize, rounds: usize, markdown: bool) {
    let floor = rows.iter().find(|row| row.name == "floor").map(|row| row.spread()[1]);
    let mut lines =
        vec![["contender", "modules", "ms min", "median", "max", "x floor", "note"].map(str::to_owned)];
    for row in rows {
        let [min, median, max] = row.spread().map(|ms| format!("{ms:.1}"));
        let ratio = floor.map_or_else(String::new, |floor| format!("{:.2}", row.spread()[1] / floor));
        lines.push([row.name.clone(), row.modules.to_string(), min, median, max, ratio, row.note.clone()]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = (0..7)
            .map(|column| match column {
                0 | 6 => format!("{:<1$}", line[column], widths[column]),
                _ => format!("{:>1$}", line[column], widths[column]),
            })
            .collect();
        if markdown {
            println!("| {} |", cells.join(" | "));
            if index == 0 {
                println!("|---|--:|--:|--:|--:|--:|---|");
            }
        } else {
            println!("{}", cells.join("  ").trim_end());
        }
    }

    let bullet = if markdown { "- " } else { "" };
    println!();
    for row in rows {
        if let Some(verdict) = &row.verdict {
            println!("{bullet}{}: verified {} modules: {}", row.name, verdict.modules, verdict.text());
        }
        if let Some(failure) = &row.failure {
            println!("{bullet}{}: first failure: {failure}", row.name);
        }
    }
    let megabytes = files.iter().map(|file| file.bytes().len()).sum::<usize>() as f64 / 1e6;
    println!();
    println!(
        "{} modules, {megabytes:.0} MB, {names} names they refer to; one thread, {rounds} rounds, interleaved",
        files.len()
    );
    println!("{}", machine());
}

/// CPU, kernel, cores.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown CPU", |(_, model)| model);
    let release = read("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    format!("{}, Linux {}, {cores} cores", model.trim(), release.trim())
}
