//! What boots came to, kept: a line for each in a file of the repository, and a table of it in docs/verify.md.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use super::run::Report;
use crate::marked::{Marked, path};

/// Below the repository's root.
const DATA: &str = "xtask/conformance/results.tsv";
const PLACE: Marked = Marked {
    document: "docs/verify.md",
    begin: "<!-- boots: written by `cargo xtask conformance --table` -->\n",
    end: "<!-- /boots -->\n",
};

/// In a line: nothing differs.
const CLEAN: &str = "clean";

/// One boot's result: a line of the file, fields apart by tabs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    date: String,
    release: String,
    machine: String,
    modules: usize,
    bytes: u64,
    unexplained: u64,
    /// Whether all that was compared was right: bytes, memory without owner, layout, views.
    clean: bool,
    /// Its name, or the line of its state.
    boot: String,
}

impl Row {
    fn line(&self) -> String {
        let Row { date, release, machine, modules, bytes, unexplained, clean, boot } = self;
        let clean = if *clean { CLEAN } else { "alarm" };
        format!("{date}\t{release}\t{machine}\t{modules}\t{bytes}\t{unexplained}\t{clean}\t{boot}\n")
    }

    fn of(line: &str) -> Result<Row> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [date, release, machine, modules, bytes, unexplained, clean, boot] = fields[..] else {
            bail!("{line:?} has not eight fields")
        };
        Ok(Row {
            date: date.to_owned(),
            release: release.to_owned(),
            machine: machine.to_owned(),
            modules: modules.parse().with_context(|| format!("{line:?}: modules"))?,
            bytes: bytes.parse().with_context(|| format!("{line:?}: bytes"))?,
            unexplained: unexplained.parse().with_context(|| format!("{line:?}: unexplained"))?,
            clean: clean == CLEAN,
            boot: boot.to_owned(),
        })
    }
}

/// Keeps a boot's result; `what` says which boot. One of the same boot and kernel is forgotten.
pub(super) fn keep(report: &Report, machine: &str, what: &str) -> Result<()> {
    let measured = report.measured();
    let row = Row {
        date: date(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
        release: report.release.clone(),
        machine: machine.to_owned(),
        modules: measured.modules,
        bytes: measured.bytes,
        unexplained: measured.unexplained,
        clean: report.is_clean(),
        boot: what.to_owned(),
    };
    let mut rows = read()?;
    rows.retain(|known| (&known.boot, &known.release) != (&row.boot, &row.release));
    rows.push(row);
    rows.sort_by(|a, b| (&a.release, &a.machine, &a.boot).cmp(&(&b.release, &b.machine, &b.boot)));
    let text: String = rows.iter().map(Row::line).collect();
    std::fs::write(path(DATA), text).context(DATA)
}

/// Writes the table into the document.
pub(super) fn write_table() -> Result<()> {
    PLACE.write(&table(&read()?))
}

fn read() -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(path(DATA)).context(DATA)?;
    text.lines().map(Row::of).collect()
}

/// One line for each kernel, flavour and machine.
fn table(rows: &[Row]) -> String {
    #[derive(Default)]
    struct Sum<'r> {
        boots: usize,
        alarms: usize,
        modules: usize,
        bytes: u64,
        unexplained: u64,
        date: &'r str,
    }
    let mut sums: BTreeMap<(Vec<Part>, &str, &str, &str), Sum<'_>> = BTreeMap::new();
    for row in rows {
        let (version, flavour) = parted(&row.release);
        let sum = sums.entry((numbers(version), version, &row.machine, flavour)).or_default();
        sum.boots += 1;
        sum.alarms += usize::from(!row.clean);
        sum.modules = sum.modules.max(row.modules);
        sum.bytes += row.bytes;
        sum.unexplained += row.unexplained;
        sum.date = sum.date.max(&row.date);
    }
    let mut text = "| kernel | flavour | machine | boots | modules | bytes | unexplained | date |\n\
                    |---|---|---|---:|---:|---:|---:|---|\n"
        .to_owned();
    for ((_, version, machine, flavour), sum) in sums {
        let [bytes, unexplained] = [sum.bytes, sum.unexplained].map(grouped);
        let Sum { boots, alarms, modules, date, .. } = sum;
        let boots = if alarms == 0 { boots.to_string() } else { format!("{boots}, {alarms} with alarms") };
        text += &format!(
            "| {version} | {flavour} | {machine} | {boots} | {modules} | {bytes} | {unexplained} | {date} |\n"
        );
    }
    text
}

/// Version and flavour: the flavour begins with the first letter behind a dash.
fn parted(release: &str) -> (&str, &str) {
    let dash = release
        .match_indices('-')
        .find(|(at, _)| release[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic()));
    dash.map_or((release, ""), |(at, _)| (&release[..at], &release[at + 1..]))
}

/// What a version is ordered by.
type Part = u64;

fn numbers(version: &str) -> Vec<Part> {
    let digits = version.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The day, in UTC, of a time in seconds since 1970.
fn date(seconds: u64) -> String {
    let mut days = seconds / 86400;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_table_is_what_the_data_give() {
        assert!(PLACE.has(&table(&read().unwrap())).unwrap(), "run cargo xtask conformance --table");
    }

    #[test]
    fn boots_of_one_kernel_are_one_line_and_kernels_are_in_order() {
        let row = |date: &str, release: &str, unexplained| Row {
            date: date.into(),
            release: release.into(),
            machine: "amd64".into(),
            modules: 40,
            bytes: 1_234_567,
            unexplained,
            clean: unexplained == 0,
            boot: format!("{date}{unexplained}"),
        };
        let rows = [
            row("2026-12-01", "6.12.1+deb13-cloud-amd64", 0),
            row("2026-11-30", "6.1.0-50-amd64", 0),
            row("2026-12-02", "6.1.0-50-amd64", 7),
        ];
        assert_eq!(Row::of(rows[0].line().trim_end()).unwrap(), rows[0]);
        let lines: Vec<String> = table(&rows).lines().skip(2).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "| 6.1.0-50 | amd64 | amd64 | 2, 1 with alarms | 40 | 2,469,134 | 7 | 2026-12-02 |",
                "| 6.12.1+deb13 | cloud-amd64 | amd64 | 1 | 40 | 1,234,567 | 0 | 2026-12-01 |",
            ]
        );
        assert!(Row::of("2026-12-01\tx").is_err());
    }

    #[test]
    fn days_are_counted_as_calendars_do() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_796_083_199), "2026-11-30");
        assert_eq!(date(1_796_083_200), "2026-12-01");
    }
}
