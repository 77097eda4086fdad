//! How much memory files may make this program take. Files may be an enemy's: a small one can unpack to any size, or say
//! that it needs any. Each reader refuses what goes beyond its part of one limit.

use std::{
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::process::{Resource, getrlimit};

/// The limit where there is memory enough: more than any kernel's modules, image and symbols take together.
const DEFAULT: u64 = 1 << 30;
/// The least that anything can be done with.
const LEAST: u64 = 64 << 20;

/// What was set; 0 for nothing.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// Sets how many bytes files may make this process take, about: no reader takes more than its part of it.
pub fn set_memory_limit(bytes: u64) {
    LIMIT.store(bytes.max(LEAST), Ordering::Relaxed);
}

/// How many bytes that are: what was set, or 1 GiB, or half of what this process may have at all, if that is less (by its
/// limits, its control group's, or the machine's memory).
pub fn memory_limit() -> u64 {
    static FOUND: OnceLock<u64> = OnceLock::new();
    match LIMIT.load(Ordering::Relaxed) {
        0 => *FOUND.get_or_init(|| (available() / 2).clamp(LEAST, DEFAULT)),
        limit => limit,
    }
}

/// Bytes of one unpacked file: a kernel's image is the largest.
pub(crate) fn of_file() -> u64 {
    memory_limit() / 3
}

/// Bytes of a module's file, and of its memories: while it is verified there are three copies of these.
pub(crate) fn of_module() -> u64 {
    memory_limit() / 8
}

/// Bytes of the module memory of a machine, and of the files of its modules.
pub(crate) fn of_memory() -> u64 {
    memory_limit() / 2
}

/// Bytes of lists that become values of many times their size.
pub(crate) fn of_lists() -> u64 {
    memory_limit() / 32
}

/// Symbols, about forty bytes each, of which there is a second table for a moment.
pub(crate) fn most_symbols() -> usize {
    usize::try_from(memory_limit() / 64).unwrap_or(usize::MAX)
}

/// Gives modmem's tables of names random numbers for a seed, if nobody did.
pub(crate) fn seed_hashes() {
    let number = || RandomState::new().build_hasher().finish();
    modmem::seed_hashes([number(), number()]);
}

/// What this process may have.
fn available() -> u64 {
    let limits = [Resource::As, Resource::Data].map(|which| getrlimit(which).current);
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    limits.into_iter().chain([control_group(), machine]).flatten().min().unwrap_or(u64::MAX)
}

/// The line `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The lowest limit of this process's control group and those above it.
fn control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut lowest = None;
    loop {
        let path = format!("/sys/fs/cgroup{}/memory.max", group.trim_end_matches('/'));
        let limit = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        lowest = [lowest, limit].into_iter().flatten().min();
        match group.rsplit_once('/') {
            Some((above, last)) if !last.is_empty() => group = above,
            _ => return lowest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_half_of_what_there_is_and_no_more_than_kernels_need() {
        assert!((LEAST..=DEFAULT).contains(&memory_limit()));
        assert_eq!(total("MemTotal:       24640052 kB\nMemFree: 1 kB\n"), Some(24_640_052 << 10));
        assert_eq!(total("nothing"), None);
    }
}
