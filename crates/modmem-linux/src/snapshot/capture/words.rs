//! The kernel's own words that decide how the code of modules was patched.
//!
//! Taken beside module memory, because neither the module's file nor the kernel's symbols tell them:
//!
//! | what | why |
//! |---|---|
//! | every `__SCK__*` symbol of the kernel | where calls through static calls go |
//! | keys in the kernel that a module's `__jump_table` names | whether each branch is a jump or a nop |
//! | the symbols of [`WORDS`] | see there |

use std::ops::Range;

use super::kcore::Kcore;
use crate::snapshot::{MemoryRecords, ModuleRecord, Snapshot};

/// Symbols whose contents are taken, the most bytes of each, and what they decide. Up to the next symbol, if that is
/// nearer; those that a kernel does not have are passed over.
pub(super) const WORDS: [(&str, u64, &str); 9] = [
    ("boot_cpu_data", 4096, "the CPU's features, by which alternatives are chosen"),
    ("pv_ops", 1024, "where paravirtual calls go"),
    ("x86_return_thunk", 8, "what returns become"),
    ("skl_call_thunk_template", 64, "what counts calls"),
    ("ftrace_trace_function", 8, "whether functions are traced"),
    ("ftrace_graph_entry", 8, "whether their returns are traced"),
    ("uniproc_patched", 1, "whether lock prefixes were taken out"),
    ("cfi_mode", 8, "how indirect calls are checked"),
    ("cfi_seed", 8, "what the hashes before functions were changed with"),
];

/// Bytes of a static call's key, and of a jump label's.
const KEY: u64 = 16;
/// Bytes of an entry of `__jump_table` where it is relative: two offsets of 32 bits, one of 64.
const ENTRY: u64 = 16;
/// Bytes that no kernel has.
const LARGEST: u64 = 1 << 30;
/// Bits of the key's offset that are flags.
const FLAGS: u64 = 3;
/// The flag of code that lies in init memory, and may be gone.
const INIT: u64 = 2;

/// The ranges to be read, by address, none of which overlap each other or what was read.
pub(super) fn ranges(snapshot: &Snapshot, memory: &MemoryRecords, kcore: &Kcore) -> Vec<Range<u64>> {
    let symbols = &snapshot.symbols;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut take = |address: u64, length: u64| {
        if let Some(end) = address.checked_add(length).filter(|_| address != 0) {
            ranges.push(address..end);
        }
    };
    for (name, most, _) in WORDS {
        if let Some(address) = symbols.kernel(name) {
            let size = symbols.nearest(address, None).and_then(|nearest| nearest.size).unwrap_or(most);
            take(address, size.min(most));
        }
    }
    if kcore.is_64 {
        let own = symbols.iter().filter(|symbol| symbol.module.is_none());
        let static_calls = own.filter(|symbol| symbol.name.starts_with("__SCK__"));
        static_calls.for_each(|symbol| take(symbol.address, KEY));
        if let Some(image) = image(snapshot, kcore) {
            for module in &snapshot.modules {
                let keys = jump_label_keys(snapshot, module, memory, kcore.is_little);
                keys.into_iter().filter(|key| image.contains(key)).for_each(|key| take(key, KEY));
            }
        }
    }
    merge(ranges, memory)
}

/// The addresses of the kernel itself. Kernels that keep no symbols of data have none for the end: there the segment
/// of the core file tells, which is the kernel and nothing else.
fn image(snapshot: &Snapshot, kcore: &Kcore) -> Option<Range<u64>> {
    let first = |names: &[&str]| names.iter().find_map(|name| snapshot.symbols.kernel(name));
    let start = first(&["_text", "_stext"])?;
    let segment =
        || kcore.segment(start).filter(|segment| segment.start == start && segment.end - start < LARGEST);
    let end = first(&["_end", "__bss_stop", "_edata"]).or_else(|| segment().map(|segment| segment.end))?;
    (start < end).then_some(start..end)
}

/// The keys that a module's jump table names. Nothing tells how long the table is: it ends where the next section
/// begins, or where an entry no longer points into the module's memory.
fn jump_label_keys(
    snapshot: &Snapshot,
    module: &ModuleRecord,
    memory: &MemoryRecords,
    is_little: bool,
) -> Vec<u64> {
    let mut keys = Vec::new();
    let Some(table) = module.section("__jump_table") else { return keys };
    let end = present(snapshot, module).filter(|address| *address > table).min().unwrap_or(u64::MAX);
    let areas: Vec<Range<u64>> = own_areas(snapshot, module, memory);
    let is_own = |address: u64| areas.iter().any(|area| area.contains(&address));
    let mut entry = table;
    while entry.checked_add(ENTRY).is_some_and(|next| next <= end) {
        let Some(bytes) = memory.bytes(entry, ENTRY as usize) else { break };
        let Some((code, target, key)) = fields(bytes, is_little) else { break };
        if (code, target, key) == (0, 0, 0) {
            break;
        }
        let offset = |field: u64, by: u64| entry.wrapping_add(field).wrapping_add(by);
        let is_present = is_own(offset(0, code)) && is_own(offset(4, target));
        if !is_present && key & INIT == 0 {
            break;
        }
        keys.push(offset(8, key & !FLAGS));
        entry += ENTRY;
    }
    keys
}

fn present<'s>(snapshot: &'s Snapshot, module: &'s ModuleRecord) -> impl Iterator<Item = u64> + 's {
    module.present_sections(&snapshot.machine).map(|section| section.address)
}

/// Code, target and key of an entry, each relative to its own place.
fn fields(bytes: &[u8], is_little: bool) -> Option<(u64, u64, u64)> {
    let (code, rest) = bytes.split_first_chunk::<4>()?;
    let (target, rest) = rest.split_first_chunk::<4>()?;
    let key = *rest.first_chunk::<8>()?;
    let short = |bytes: [u8; 4]| {
        let number = if is_little { i32::from_le_bytes(bytes) } else { i32::from_be_bytes(bytes) };
        i64::from(number) as u64
    };
    let key = if is_little { u64::from_le_bytes(key) } else { u64::from_be_bytes(key) };
    Some((short(*code), short(*target), key))
}

/// The areas that hold the module's sections; where areas are unknown, the records that do.
fn own_areas(snapshot: &Snapshot, module: &ModuleRecord, memory: &MemoryRecords) -> Vec<Range<u64>> {
    let area = |address: u64| match snapshot.area(address) {
        Some(area) => Some(area.range.clone()),
        None => memory.record(address).map(|record| record.address..record.end()),
    };
    let mut areas: Vec<Range<u64>> = present(snapshot, module).filter_map(area).collect();
    areas.sort_unstable_by_key(|area| area.start);
    areas.dedup();
    areas
}

/// Puts ranges in order, joins those that touch, and takes out those that were read already.
fn merge(mut ranges: Vec<Range<u64>>, memory: &MemoryRecords) -> Vec<Range<u64>> {
    ranges.retain(|range| !memory.touches(range));
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_joined_and_module_memory_is_not_read_twice() {
        let record = crate::snapshot::MemoryRecord { address: 0x1000, bytes: vec![0; 16] };
        let memory = MemoryRecords::new(vec![record]).unwrap();
        let ranges = vec![0x30..0x40, 0x20..0x30, 0x100f..0x1011, 0x38..0x39, 0xff0..0x1000, 0x1010..0x1011];
        assert_eq!(merge(ranges, &memory), [0x20..0x40, 0xff0..0x1000, 0x1010..0x1011]);
    }
}
