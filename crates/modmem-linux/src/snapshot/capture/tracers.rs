//! Who traces functions of modules on arm64: words before functions name descriptions (`struct ftrace_ops`), which lie in
//! the heap where they were made at run time (an instance of tracing, BPF). Whom these call is in their memory.

use std::{collections::BTreeSet, ops::Range};

use crate::snapshot::{MemoryRecords, Snapshot};

/// Bytes of a description at most: locks of any size are among its fields.
const BYTES: u64 = 512;
/// No machine has more of them at a time.
const MOST: usize = 4096;

/// The memory of the descriptions that functions of modules are marked with, but for those of the kernel itself, which
/// have names.
pub(super) fn ranges(snapshot: &Snapshot, memory: &MemoryRecords) -> Vec<Range<u64>> {
    let mut found = BTreeSet::new();
    // Without such a symbol functions are not marked (CONFIG_DYNAMIC_FTRACE_WITH_CALL_OPS).
    let Some(nobody) = snapshot.symbols.kernel("ftrace_nop_ops") else { return Vec::new() };
    if snapshot.machine != "aarch64" {
        return Vec::new();
    }
    let kernel = snapshot.kernel_place().map_or(0..0, |place| place.start.0..place.end.0);
    let word = |address: u64| {
        let bytes = memory.bytes(address, 8)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    };
    for module in &snapshot.modules {
        let Some(table) = module.section("__patchable_function_entries") else { continue };
        let sections = module.present_sections(&snapshot.machine).map(|section| section.address);
        let end = sections.filter(|address| *address > table).min().unwrap_or(u64::MAX);
        // Nothing tells how long the table is; it ends at the latest where an entry names no memory of modules.
        for entry in (table..end).step_by(8) {
            let Some(mark) = word(entry).filter(|place| *place != 0).and_then(word) else { break };
            let is_heap = mark != nobody && mark % 8 == 0 && !kernel.contains(&mark);
            if is_heap && mark.checked_add(BYTES).is_some() && found.len() < MOST {
                found.insert(mark);
            }
        }
    }
    found.into_iter().map(|start| start..start + BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{MemoryRecord, ModuleRecord, SectionAddress, Symbol, SymbolTable};

    #[test]
    fn descriptions_in_the_heap_are_named_by_the_words_before_functions() {
        let (nobody, heap) = (0xffff_8000_8100_0000_u64, 0xffff_0000_082b_8c00_u64);
        let symbol = |name, address| Symbol { name, address, letter: 'D', module: None };
        let section = |name: &str, address| SectionAddress { name: name.into(), address };
        // Three functions: traced by nobody, by somebody, by one of the kernel's own.
        let marks = [nobody, heap, nobody + 0x100].map(u64::to_le_bytes).concat();
        let table = [0x1000_u64, 0x1008, 0x1010, 0].map(u64::to_le_bytes).concat();
        let mut snapshot = Snapshot {
            machine: "aarch64".into(),
            symbols: SymbolTable::new([
                symbol("_text", nobody - 0x100_0000),
                symbol("ftrace_nop_ops", nobody),
                symbol("_end", nobody + 0x1000),
            ])
            .unwrap(),
            modules: vec![ModuleRecord {
                sections: vec![
                    section(".text", 0x1000),
                    section("__patchable_function_entries", 0x2000),
                    section(".data", 0x2020),
                ],
                ..ModuleRecord::default()
            }],
            ..Snapshot::default()
        };
        let record = |address, bytes| MemoryRecord { address, bytes };
        let memory = MemoryRecords::new(vec![record(0x1000, marks), record(0x2000, table)]).unwrap();
        assert_eq!(ranges(&snapshot, &memory), std::iter::once(heap..heap + BYTES).collect::<Vec<_>>());
        snapshot.machine = "x86_64".into();
        assert!(ranges(&snapshot, &memory).is_empty());
    }
}
