//! Module memory outside the range of modules where the kernel does not list its areas, which is what most machines do:
//! `/proc/vmallocinfo` prints hashed addresses unless `kernel.kptr_restrict` is 1. Some machines keep the data of modules
//! in vmalloc, among everybody's, where not all can be read.
//!
//! Pages with a section or a symbol of a module are its own. Behind each run of them pages are added until one holds the
//! same byte throughout, belongs to another module, or the module has all that it says it has. Guard pages read as
//! zeros, and what is free of the huge pages that text is cut from is filled with traps.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::snapshot::Snapshot;

/// The pages of all modules, each a range. `read` reads one, or says that it cannot be read.
pub(super) fn pages(
    snapshot: &Snapshot,
    page: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> bool,
) -> Vec<Range<u64>> {
    let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
    for (number, module) in snapshot.modules.iter().enumerate() {
        let sections = module.present_sections(&snapshot.machine);
        owners.extend(sections.map(|section| (section.address / page * page, number)));
    }
    // Symbols of percpu data and absolute ones are no addresses of memory: only what lies near counts.
    let first = owners.keys().next().copied().unwrap_or(u64::MAX);
    let last = owners.keys().next_back().copied().unwrap_or_default();
    let numbers: BTreeMap<&str, usize> =
        snapshot.modules.iter().enumerate().map(|(number, module)| (module.name.as_str(), number)).collect();
    for symbol in snapshot.symbols.iter() {
        let owner = symbol.module.and_then(|module| numbers.get(module));
        let farthest = owner.map_or(0, |owner| last.saturating_add(snapshot.modules[*owner].size));
        if let Some(owner) = owner.filter(|_| (first..farthest).contains(&symbol.address)) {
            owners.entry(symbol.address / page * page).or_insert(*owner);
        }
    }
    let mut left: Vec<u64> = snapshot.modules.iter().map(|module| module.size / page).collect();
    for owner in owners.values() {
        left[*owner] = left[*owner].saturating_sub(1);
    }
    let mut pages: BTreeSet<u64> = owners.keys().copied().collect();
    let mut bytes = vec![0; page as usize];
    for (start, owner) in &owners {
        let mut next = start.saturating_add(page);
        while left[*owner] > 0 && !pages.contains(&next) {
            if !read(next, &mut bytes) || bytes.iter().all(|byte| *byte == bytes[0]) {
                break;
            }
            pages.insert(next);
            left[*owner] -= 1;
            next = next.saturating_add(page);
        }
    }
    pages.into_iter().map(|start| start..start.saturating_add(page)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{ModuleRecord, SectionAddress, Symbol, SymbolTable};

    #[test]
    fn pages_are_added_up_to_a_guard_page_a_neighbour_or_the_module_s_size() {
        let module = |name: &str, pages: u64, address| ModuleRecord {
            name: name.into(),
            size: pages * 0x1000,
            sections: vec![SectionAddress { name: ".text".into(), address }],
            ..ModuleRecord::default()
        };
        let symbol = |address, module| Symbol { name: "s", address, letter: 't', module: Some(module) };
        let snapshot = Snapshot {
            modules: vec![module("a", 8, 0x10010), module("b", 2, 0x14000), module("c", 9, 0x20000)],
            symbols: SymbolTable::new([symbol(0x12345, "a"), symbol(0x40, "a"), symbol(0x22000, "c")])
                .unwrap(),
            ..Snapshot::default()
        };
        // Everything is code but for a filled page at 0x21000 and one at 0x23000, which cannot be read.
        let found = pages(&snapshot, 0x1000, |address, bytes| {
            bytes.fill(0xcc);
            bytes[0] = if address == 0x21000 { 0xcc } else { 0x90 };
            address != 0x23000
        });
        let expected = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x20, 0x22].map(|page| page << 12);
        assert!(found.iter().map(|range| range.start).eq(expected), "{found:x?}");
    }

    // A library that others build needs no build script for a test: this one is always ignored, and the gate asks for it.
    #[test]
    #[ignore = "needs recorded kernels: MODMEM_ORACLE=DIR cargo test -p modmem-linux --lib -- --ignored"]
    fn the_memory_of_recorded_kernels_is_found_without_their_areas() {
        let root = std::env::var_os("MODMEM_ORACLE").expect("MODMEM_ORACLE");
        for name in ["amd64-6.1", "amd64-6.12", "amd64-7.2"] {
            let snapshot = Snapshot::open(std::path::Path::new(&root).join(name)).unwrap();
            let mut bytes = [0; 4096];
            let found = pages(&snapshot, 4096, |address, page| snapshot.memory.copy(address, page).is_some());
            let areas = super::super::plan::areas(&snapshot, 4096);
            let found: BTreeSet<u64> = found.into_iter().map(|range| range.start).collect();
            let is_ours = |page: &u64| areas.iter().any(|area| area.contains(page));
            assert!(found.iter().all(is_ours), "{name}: what is no module's");
            for address in areas.iter().flat_map(|area| area.clone().step_by(4096)) {
                snapshot.memory.copy(address, &mut bytes).unwrap();
                let is_empty = bytes.iter().all(|byte| *byte == bytes[0]);
                assert!(is_empty || found.contains(&address), "{name}: {address:#x}");
            }
        }
    }
}
