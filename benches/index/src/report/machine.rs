//! On what was measured, and when.

use std::time::{SystemTime, UNIX_EPOCH};

use super::number;
use crate::results::Results;

pub(super) fn describe(results: &Results) -> String {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let caches = [2, 3].into_iter().filter_map(cache).collect::<Vec<_>>().join(", ");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: Vec<&str> = kernel.split(['.', '-']).take(2).collect();
    let kind = if results.quick { "quick" } else { "full" };
    format!(
        "{processor}, {processors} cores{}{caches}; Linux {}; {}. {} run, {} rounds, {:.0} seconds. Reading the clock \
         takes {} ns, which is part of the times of inserting and removing alone.\n",
        if caches.is_empty() { "" } else { ", " },
        kernel.join("."),
        date(),
        if kind == "quick" { "Quick" } else { "Full" },
        results.rounds,
        results.seconds,
        number(results.clock),
    )
}

/// The first value of that name in a file of `name: value` lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The size of a cache of that level.
fn cache(level: u32) -> Option<String> {
    let folder = |index: u32| format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
    let read = |path: String| Some(std::fs::read_to_string(path).ok()?.trim().to_owned());
    let is_level = |&index: &u32| read(folder(index) + "/level") == Some(level.to_string());
    let index = (0..8).find(is_level)?;
    let size = read(folder(index) + "/size")?;
    let kilobytes: u32 = size.strip_suffix('K')?.parse().ok()?;
    Some(match kilobytes % 1024 {
        0 => format!("L{level} {} MiB", kilobytes / 1024),
        _ => format!("L{level} {kilobytes} KiB"),
    })
}

/// Today, in UTC.
fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut days = seconds / 86_400;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, days + 1)
}
