//! Which areas of vmalloc are module memory.

use std::ops::Range;

use crate::snapshot::{Area, Snapshot};

/// Parts of the names of functions that ask for module memory: the loader before and after 6.10's execmem, into which
/// compilers put the functions that it calls. Areas of BPF, ftrace and kprobes have other callers and are listed only.
const LOADER: [&str; 5] = ["module_alloc", "execmem", "load_module", "move_module", "layout_and_allocate"];
/// Beginnings of the names of functions that make pages of thunks and trampolines for a module, on x86 and s390.
const THUNKS: [&str; 5] = ["its_", "apply_retpolines", "apply_returns", "patch_retpoline", "module_finalize"];

/// The addresses of module memory, guard pages left out, by address.
pub(super) fn areas(snapshot: &Snapshot, page: u64) -> Vec<Range<u64>> {
    // Whatever compilers do to names: where a module's section lies is module memory.
    let mut sections: Vec<u64> = snapshot
        .modules
        .iter()
        .flat_map(|module| module.present_sections(&snapshot.machine))
        .map(|section| section.address)
        .collect();
    sections.sort_unstable();
    let holds_section = |area: &Area| {
        let first = sections.partition_point(|address| *address < area.range.start);
        sections.get(first).is_some_and(|address| *address < area.range.end)
    };
    let is_ours = |area: &&Area| {
        LOADER.iter().any(|name| area.caller.contains(name))
            || THUNKS.iter().any(|name| area.caller.starts_with(name))
            || holds_section(area)
    };
    snapshot.areas.iter().filter(is_ours).map(|area| without_guard(area, page)).collect()
}

fn without_guard(area: &Area, page: u64) -> Range<u64> {
    let size = area.range.end - area.range.start;
    let backed = area.pages().and_then(|pages| pages.checked_mul(page));
    // An area that is being filled does not say how many pages it has yet.
    let length = backed.unwrap_or_else(|| size.saturating_sub(page)).min(size);
    area.range.start..area.range.start + length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{ModuleRecord, SectionAddress};

    #[test]
    fn areas_of_the_loader_and_those_with_sections_are_taken_without_their_guard_page() {
        let area = |start: u64, pages: u64, caller: &str| Area {
            range: start..start + (pages + 1) * 0x1000,
            caller: caller.into(),
            rest: format!("{caller}+0x10/0x20 pages={pages} vmalloc"),
        };
        let section = |name: &str, address| SectionAddress { name: name.into(), address };
        let module = ModuleRecord {
            init_size: Some(0),
            sections: vec![section(".text", 0x9010), section(".init.text", 0x5000)],
            ..ModuleRecord::default()
        };
        let snapshot = Snapshot {
            areas: vec![
                area(0x1000, 2, "execmem_alloc_rw"),
                area(0x5000, 1, "bpf_prog_pack_alloc"),
                area(0x9000, 3, "some_inlining_function"),
                Area {
                    range: 0x20000..0x23000,
                    caller: "load_module".into(),
                    rest: "load_module+0x1/0x2".into(),
                },
            ],
            modules: vec![module],
            ..Snapshot::default()
        };
        assert_eq!(areas(&snapshot, 0x1000), [0x1000..0x3000, 0x9000..0xc000, 0x20000..0x22000]);
    }
}
