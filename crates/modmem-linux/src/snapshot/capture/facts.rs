//! What does not change while the machine runs: release, configuration, CPUs, command line.

use super::{Machine, is_absent};
use crate::{
    Error,
    compress::decompress,
    snapshot::{
        Snapshot,
        lines::text,
        members::{count_cpus, machine_of},
    },
};

/// Bytes of any of these files, unpacked.
const LIMIT: u64 = 16 << 20;
/// Bytes of a page where nothing tells.
const PAGE: u64 = 4096;
/// Key of the page size in the list that the kernel gives to each process.
const AT_PAGESZ: usize = 6;

pub(super) fn read(machine: &mut Machine<'_>) -> Result<Snapshot, Error> {
    let release = line(machine, "proc/sys/kernel/osrelease")?;
    let config = config(machine, &release);
    let none = "it is not in the snapshot";
    let optional = |machine: &mut Machine<'_>, what: &str, path: &str| match line(machine, path) {
        Ok(text) => Some(text),
        Err(error) => machine.missed(what, &error, none),
    };
    let version = optional(machine, "version", "proc/version");
    let command_line = optional(machine, "cmdline", "proc/cmdline");
    let cpuinfo = optional(machine, "cpuinfo", "proc/cpuinfo");
    let online = line(machine, "sys/devices/system/cpu/online").ok().and_then(|list| count_list(&list));
    let cpus = online.or_else(|| cpuinfo.as_deref().map(count_cpus).filter(|count| *count > 0));
    // Kernels before 6.1 do not say.
    let arch = line(machine, "proc/sys/kernel/arch").ok();
    let arch = arch.or_else(|| config.as_deref().and_then(machine_of).map(str::to_owned));
    Ok(Snapshot {
        machine: arch.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        version,
        config,
        command_line,
        cpus,
        cpuinfo: cpuinfo.map(|text| first_cpu(&text)),
        release,
        ..Snapshot::default()
    })
}

/// A text without the ends of its last line.
fn line(machine: &Machine<'_>, path: &str) -> Result<String, Error> {
    let shown = machine.path(path).display().to_string();
    Ok(text(&shown, machine.open(path)?, LIMIT)?.trim_end_matches('\n').to_owned())
}

/// The configuration, from the kernel itself or from where distributions put it.
fn config(machine: &mut Machine<'_>, release: &str) -> Option<String> {
    let places = [
        "proc/config.gz".to_owned(),
        format!("boot/config-{release}"),
        format!("lib/modules/{release}/config"),
        format!("usr/lib/modules/{release}/config"),
    ];
    let mut read = places.iter().map(|place| (place, machine.read(place, LIMIT)));
    let Some((place, read)) = read.find(|(_, read)| !matches!(read, Err(error) if is_absent(error))) else {
        let why = "none of /proc/config.gz, /boot/config-RELEASE and /lib/modules/RELEASE/config is there";
        machine.miss("config", why, "readers need the kernel's package for it");
        return None;
    };
    let shown = machine.path(place).display().to_string();
    match read.and_then(|bytes| decompress(&shown, bytes, LIMIT)) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => machine.missed("config", &error, "readers need the kernel's package for it"),
    }
}

/// How many numbers a list such as `0-3,8` stands for.
fn count_list(list: &str) -> Option<u32> {
    let count = |part: &str| -> Option<u32> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').map(count).try_fold(0u32, |sum, count| sum.checked_add(count?))
}

/// The first CPU's part of `/proc/cpuinfo`: the others say the same.
fn first_cpu(cpuinfo: &str) -> String {
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    format!("{first}\n")
}

/// Bytes of a page, from what the kernel tells each process.
pub(super) fn page_size(machine: &Machine<'_>) -> u64 {
    const WORD: usize = size_of::<usize>();
    let list = machine.read("proc/self/auxv", LIMIT).unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(usize::from_ne_bytes).unwrap_or_default();
    let mut pairs = list.chunks_exact(2 * WORD).map(|pair| (word(&pair[..WORD]), word(&pair[WORD..])));
    let size = pairs.find(|(key, _)| *key == AT_PAGESZ).map(|(_, size)| size as u64);
    size.filter(|size| size.is_power_of_two() && (PAGE..=1 << 20).contains(size)).unwrap_or(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_counted() {
        for (list, count) in
            [("0", Some(1)), ("0-3,8", Some(5)), ("", None), ("3-0", None), ("0-4294967295", None)]
        {
            assert_eq!(count_list(list), count, "{list}");
        }
    }
}
