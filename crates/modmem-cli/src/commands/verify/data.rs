//! Changed data: a dump of both sides, and where pointers led and lead.

use modmem::RunAddr;

use super::atlas::{Atlas, with_offset};
use super::file_map::FileMap;
use super::finding::{Line, Mark, Shown};
use super::window::Window;
use crate::output::json::Address;

/// Bytes of a line.
const LINE: u64 = 16;
/// Pointers told of one place.
const MOST_POINTERS: usize = 16;

/// Sections of entries with offsets from themselves: bytes of an entry, and where in it the 32-bit offsets are. Those of
/// 64-bit machines; powerpc's exception table has no third word, and 32-bit jump tables have smaller keys.
const TABLES: &[(&str, u64, &[u64])] = &[
    ("__ksymtab", 12, &[0, 4, 8]),
    ("__ksymtab_gpl", 12, &[0, 4, 8]),
    ("__ex_table", 12, &[0, 4]),
    ("__bug_table", 12, &[0, 4]),
    ("__jump_table", 16, &[0, 4]),
    (".static_call_sites", 8, &[0, 4]),
    (".orc_unwind_ip", 4, &[0]),
    (".smp_locks", 4, &[0]),
    (".retpoline_sites", 4, &[0]),
    (".return_sites", 4, &[0]),
    (".call_sites", 4, &[0]),
    (".ibt_endbr_seal", 4, &[0]),
];

/// The lines that differ, one side above the other.
pub(super) fn compare(atlas: &Atlas<'_>, map: &FileMap, window: &Window) -> Shown {
    let mut lines = Vec::new();
    let mut at = window.span.start - window.span.start % LINE;
    while at < window.span.end {
        let (from, to) = (at.max(window.start), at.saturating_add(LINE));
        let (expected, found) = window.both(from, to);
        if expected == found {
            lines.push(line(Mark::Same, from, expected));
        } else {
            lines.push(line(Mark::Expected, from, expected));
            lines.push(line(Mark::Found, from, found));
        }
        at = to;
    }
    let looks_like = match offsets(atlas, map, window) {
        Some(told) => told,
        None => pointers(atlas, map, window),
    };
    Shown { lines, looks_like }
}

fn line(mark: Mark, address: u64, bytes: &[u8]) -> Line {
    let printable = |byte: &u8| if matches!(byte, 0x20..=0x7e) { char::from(*byte) } else { '.' };
    Line {
        mark,
        address: Address(RunAddr(address)),
        bytes: bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
        text: bytes.iter().map(printable).collect(),
        target: None,
    }
}

/// Offsets that changed, if the section is a table of such.
fn offsets(atlas: &Atlas<'_>, map: &FileMap, window: &Window) -> Option<Vec<String>> {
    let format = atlas.format;
    let section = map.section(window.span.start)?;
    let (_, size, fields) = TABLES.iter().find(|(name, ..)| *name == section.name)?;
    let size = match (format.word(), &*section.name) {
        (4, "__ex_table") => &8,
        (4, "__jump_table") => &12,
        _ => size,
    };
    let mut told = Vec::new();
    let first = (window.span.start - section.range.start) / size;
    for entry in first.. {
        let start = section.range.start + entry * size;
        if start >= window.span.end || told.len() >= MOST_POINTERS {
            break;
        }
        for field in *fields {
            let at = start + field;
            let (expected, found) = window.both(at, at + 4);
            let (Some(expected), Some(found)) = (expected.first_chunk(), found.first_chunk()) else {
                continue;
            };
            if expected == found {
                continue;
            }
            let target = |bytes: &[u8; 4]| {
                let distance = i64::from(format.order.u32(*bytes) as i32);
                atlas.look(format.wrap(at.wrapping_add(distance as u64)), map)
            };
            told.push(format!(
                "entry {entry} of {} leads to {} instead of {}",
                section.name,
                target(found),
                target(expected)
            ));
        }
    }
    Some(told)
}

/// Words that changed where one of both can be an address.
fn pointers(atlas: &Atlas<'_>, map: &FileMap, window: &Window) -> Vec<String> {
    let format = atlas.format;
    let width = format.word() as u64;
    let mut told = Vec::new();
    let mut at = window.span.start - window.span.start % width;
    while at < window.span.end && told.len() < MOST_POINTERS {
        let (expected, found) = window.both(at, at.saturating_add(width));
        if let (Some(from), Some(to)) = (format.read_word(expected), format.read_word(found))
            && at >= window.start
            && from != to
        {
            if atlas.is_kernel_address(from) {
                let place = map.symbol(at).map(|symbol| with_offset(&symbol.name, at - symbol.range.start));
                let place = place.unwrap_or_else(|| format!("{at:#x}"));
                let now = match atlas.is_kernel_address(to) {
                    true => atlas.look(to, map).to_string(),
                    false => format!("{to:#x}, which is no address of the kernel's"),
                };
                told.push(format!(
                    "the pointer {place} leads to {now}, instead of {}",
                    atlas.look(from, map)
                ));
            } else if atlas.is_kernel_address(to) && atlas.look(to, map).symbol.is_some() {
                told.push(format!("a pointer to {} where {from:#x} should be", atlas.look(to, map)));
            }
        }
        at = at.saturating_add(width);
    }
    told
}
