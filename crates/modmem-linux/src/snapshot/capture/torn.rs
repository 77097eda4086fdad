//! What changed while it was read, and must not: code, tables and the kernel's own words. Modules write to their data
//! all the time, and nobody compares it.

use std::ops::Range;

use modmem::MemoryKind;

use crate::snapshot::{Snapshot, kinds::kind_of_section};

/// Those of some changed pages that hold anything else than a module's writable data.
pub(super) fn other_than_data(snapshot: &Snapshot, changed: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let modules = snapshot.modules.iter();
    let sections = modules.flat_map(|module| {
        module.present_sections(&snapshot.machine).map(|section| {
            // What some kernels seal and others write to lies with what it is sealed or written with.
            let kind = kind_of_section(&section.name).unwrap_or(MemoryKind::Data);
            let is_data = matches!(kind, MemoryKind::Data | MemoryKind::InitData | MemoryKind::InitRoData);
            (section.address, is_data, module.size)
        })
    });
    let mut sections: Vec<(u64, bool, u64)> = sections.collect();
    sections.sort_unstable();
    let is_data = |range: &Range<u64>| {
        let first = sections.partition_point(|(address, ..)| *address <= range.start);
        let end = sections.partition_point(|(address, ..)| *address < range.end);
        let before = first.checked_sub(1).and_then(|last| sections.get(last));
        let begins_in_data =
            before.is_some_and(|(address, is_data, size)| *is_data && range.start - address < *size);
        let inside = sections.get(first..end).unwrap_or_default();
        (begins_in_data || inside.first().is_some_and(|(_, is_data, _)| *is_data))
            && inside.iter().all(|(_, is_data, _)| *is_data)
    };
    changed.into_iter().filter(|range| !is_data(range)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{ModuleRecord, SectionAddress};

    #[test]
    fn changes_count_but_in_pages_of_data() {
        let section = |name: &str, address| SectionAddress { name: name.into(), address };
        let tables =
            [(".static_call_sites", 0x4f11), (".static_call_sites", 0x8010), ("__jump_table", 0x8800)];
        let mut sections = vec![section(".text", 0x1000), section(".data", 0x4000), section(".bss", 0x5080)];
        sections.extend(tables.map(|(name, address)| section(name, address)));
        let module = ModuleRecord { size: 0x9000, sections, ..ModuleRecord::default() };
        let snapshot = Snapshot { modules: vec![module], ..Snapshot::default() };
        let pages = |starts: &[u64]| starts.iter().map(|start| *start..start + 0x1000).collect::<Vec<_>>();
        let torn = other_than_data(
            &snapshot,
            pages(&[0x0, 0x1000, 0x2000, 0x4000, 0x5000, 0x6000, 0x8000, 0x20000]),
        );
        assert_eq!(torn, pages(&[0x0, 0x1000, 0x2000, 0x8000, 0x20000]));
    }
}
