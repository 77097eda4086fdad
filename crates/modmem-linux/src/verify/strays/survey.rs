//! What there is where modules may lie, and what nobody looked at.

use std::ops::Range;

use modmem::RunAddr;
use modmem::profile::Profile;

use crate::snapshot::{Area, Snapshot, merged, uncovered};

/// Callers of vmalloc that keep code of their own among modules, and what it is.
const KNOWN_CALLERS: &[(&str, &str)] = &[
    ("bpf_prog_pack_alloc", "BPF programs"),
    ("bpf_jit_alloc_exec", "BPF programs"),
    ("bpf_jit_binary_alloc", "BPF programs"),
    ("bpf_trampoline_alloc", "BPF trampolines"),
    ("arch_alloc_bpf_trampoline", "BPF trampolines"),
    ("arch_ftrace_update_trampoline", "ftrace trampolines"),
    ("create_trampoline", "ftrace trampolines"),
    ("ftrace_plt_init", "ftrace trampolines"),
    ("alloc_insn_page", "kprobes"),
    ("__get_insn_slot", "kprobes"),
    ("alloc_optinsn_page", "kprobes"),
    ("its_alloc", "ITS thunks"),
];
/// The loader's own function that asks for a module's memory, by what the compiler inlined, and execmem's.
const LOADER: &[&str] = &[
    "load_module",
    "layout_and_allocate",
    "move_module",
    "module_memory_alloc",
    "module_alloc",
    "execmem_alloc",
    "execmem_alloc_rw",
    "__execmem_alloc",
    "execmem_vmalloc",
];

/// Memory that is there: an area, or pages in a row that are mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its addresses, guard pages left out.
    pub(super) range: Range<u64>,
    /// The function that asked for it, where the kernel says.
    pub(super) caller: String,
}

impl Piece {
    /// Whose code the kernel keeps there, by who asked for it. Whoever wrote the snapshot may have written that.
    pub(super) fn by_caller(&self) -> Option<&'static str> {
        KNOWN_CALLERS.iter().find(|(caller, _)| *caller == self.caller).map(|(_, owner)| *owner)
    }
}

/// What a snapshot has of the memory where modules may lie.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// By address.
    pub(super) pieces: Vec<Piece>,
    /// What was neither read throughout nor is covered by a list of areas.
    pub(super) unseen: Vec<Range<u64>>,
}

impl Survey {
    pub(super) fn of(snapshot: &Snapshot, profile: &Profile) -> Survey {
        let ranges = snapshot.module_ranges(profile);
        let scanned = snapshot.memory.scanned();
        let mut pieces = scanned_pieces(snapshot, profile, &snapshot.exclusive_module_ranges(profile));
        let is_scanned = |address: u64| {
            let behind = scanned.partition_point(|range| range.end <= address);
            scanned.get(behind).is_some_and(|range| range.start <= address)
        };
        // Where the list contradicts itself, each area has to be explained; what is there twice, once.
        let contradictory = snapshot.contradictory_areas.iter();
        let contradictory = contradictory.filter(|area| snapshot.area(area.range.start) != Some(*area));
        let listed = snapshot.areas.iter().chain(contradictory);
        let kernel = snapshot.kernel_range();
        let listed = listed.filter(|area| !kernel.contains(&area.range.start));
        let listed = listed.filter(|area| is_asked_for(profile, &ranges, area));
        let listed = listed.filter(|area| !is_scanned(area.range.start));
        pieces.extend(listed.map(|area| Piece {
            range: area.range.start..end_of_pages(area, profile.page_size),
            caller: area.caller.clone(),
        }));
        pieces.sort_by_key(|piece| piece.range.start);
        let unseen = match snapshot.areas.is_empty() {
            true => uncovered(&ranges, scanned),
            false => Vec::new(),
        };
        Survey { pieces, unseen }
    }
}

/// Whether the machine's list of areas is all that says where modules may lie unseen.
pub(in crate::verify) fn goes_by_list(snapshot: &Snapshot, profile: &Profile) -> bool {
    let ranges = snapshot.exclusive_module_ranges(profile);
    !snapshot.areas.is_empty() && !uncovered(&ranges, snapshot.memory.scanned()).is_empty()
}

/// Pages in a row of what was read throughout, cut where one area ends and another begins; and what else was read and
/// lies in no area.
fn scanned_pieces(snapshot: &Snapshot, profile: &Profile, ranges: &[Range<u64>]) -> Vec<Piece> {
    let scanned = snapshot.memory.scanned();
    let inside = |record: Range<u64>| {
        let first = ranges.partition_point(|range| range.end <= record.start);
        let inside = ranges[first..].iter().take_while(move |range| range.start < record.end);
        inside.map(move |range| record.start.max(range.start)..record.end.min(range.end)).collect::<Vec<_>>()
    };
    let records = snapshot.memory.records().iter().map(|record| record.address..record.end());
    let is_scanned = |part: &Range<u64>| {
        let behind = scanned.partition_point(|range| range.end <= part.start);
        scanned.get(behind).is_some_and(|range| range.start <= part.start)
    };
    let parts = merged(records.flat_map(inside).collect());
    let mut pieces = Vec::new();
    for mut part in parts {
        while part.start < part.end {
            let area = snapshot.area(part.start).filter(|area| !area.is_freed());
            let next = snapshot.areas.partition_point(|area| area.range.start <= part.start);
            let next = snapshot.areas.get(next).map_or(u64::MAX, |area| area.range.start);
            let end = match area {
                // A page behind those that it says to have is its guard page, or nobody's.
                Some(area) if part.start < end_of_pages(area, profile.page_size) => {
                    end_of_pages(area, profile.page_size)
                }
                Some(area) => area.range.end,
                None => next,
            };
            let end = end.min(part.end);
            let here = part.start..end;
            part.start = end;
            // Of an area, the list knows.
            if area.is_some() && !is_scanned(&here) {
                continue;
            }
            let caller = area.map(|area| area.caller.clone()).unwrap_or_default();
            pieces.push(Piece { range: here, caller });
        }
    }
    pieces
}

/// Whether an area is where modules lie, or was asked for by who allocates for them. Elsewhere the loader allocates what
/// it needs for a moment, or for its own lists.
fn is_asked_for(profile: &Profile, ranges: &[Range<u64>], area: &Area) -> bool {
    let start = area.range.start;
    if area.is_freed() {
        return false;
    }
    let asked =
        LOADER.contains(&&*area.caller) || KNOWN_CALLERS.iter().any(|(caller, _)| *caller == area.caller);
    let data = &profile.ranges.data;
    // Where data lies in vmalloc, it lies among everybody's.
    let of_data = (asked || *data == profile.ranges.text) && data.contains(&RunAddr(start));
    let of_modules = ranges.iter().any(|range| range.contains(&start)) || of_data;
    of_modules && (asked || !profile.is_shared(RunAddr(start)))
}

/// An area's end without the guard page.
fn end_of_pages(area: &Area, page: u64) -> u64 {
    match area.pages() {
        Some(pages) => area.range.start.saturating_add(pages.saturating_mul(page)).min(area.range.end),
        None => area.range.end,
    }
}

#[cfg(test)]
mod tests {
    use modmem::profile::Profile;

    use super::*;
    use crate::snapshot::{MemoryRecord, MemoryRecords};

    const START: u64 = 0xffff_ffff_c000_0000;
    const END: u64 = 0xffff_ffff_ff00_0000;

    fn snapshot(areas: Vec<Area>, scanned: &[Range<u64>]) -> Snapshot {
        let record = |start: u64, pages: usize| MemoryRecord { address: start, bytes: vec![1; pages << 12] };
        let records = vec![record(START, 2), record(START + 0x4000, 3), record(0x1000, 1)];
        let memory = MemoryRecords::new(records).unwrap().with_scanned(scanned.to_vec());
        Snapshot { memory, areas, ..Snapshot::default() }
    }

    fn area(start: u64, pages: u64, caller: &str) -> Area {
        let rest = format!("{caller}+0x1/0x2 pages={pages} vmalloc");
        Area { range: start..start + (pages + 1) * 0x1000, caller: caller.into(), rest }
    }

    fn pieces(survey: &Survey) -> Vec<(u64, u64, &str)> {
        let piece = |piece: &Piece| (piece.range.start - START, piece.range.end - START);
        survey.pieces.iter().map(|p| (piece(p).0, piece(p).1, p.caller.as_str())).collect()
    }

    #[test]
    fn without_lists_all_that_is_mapped_is_a_piece_and_what_was_not_read_is_unseen() {
        let profile = Profile::named("6.12").unwrap();
        let survey = Survey::of(&snapshot(Vec::new(), std::slice::from_ref(&(START..END))), &profile);
        assert_eq!(pieces(&survey), [(0, 0x2000, ""), (0x4000, 0x7000, "")]);
        assert_eq!(survey.unseen, []);
        let survey =
            Survey::of(&snapshot(Vec::new(), std::slice::from_ref(&(START..START + 0x5000))), &profile);
        assert_eq!(pieces(&survey), [(0, 0x2000, ""), (0x4000, 0x7000, "")]);
        assert_eq!(survey.unseen, std::slice::from_ref(&(START + 0x5000..END)));
        let survey = Survey::of(&snapshot(Vec::new(), &[]), &profile);
        assert_eq!(pieces(&survey), [(0, 0x2000, ""), (0x4000, 0x7000, "")]);
        assert_eq!(survey.unseen, std::slice::from_ref(&(START..END)));
    }

    #[test]
    fn areas_cut_what_is_mapped_and_name_who_asked_but_hide_nothing() {
        let profile = Profile::named("6.12").unwrap();
        let areas = vec![area(START + 0x5000, 1, "load_module")];
        let survey = Survey::of(&snapshot(areas.clone(), std::slice::from_ref(&(START..END))), &profile);
        let expected = [
            (0, 0x2000, ""),
            (0x4000, 0x5000, ""),
            (0x5000, 0x6000, "load_module"),
            (0x6000, 0x7000, "load_module"),
        ];
        assert_eq!(pieces(&survey), expected);
        // Where nothing was read throughout, there is what the list has, and what was read all the same.
        let survey = Survey::of(&snapshot(areas, &[]), &profile);
        assert_eq!(pieces(&survey), [(0, 0x2000, ""), (0x4000, 0x5000, ""), (0x5000, 0x6000, "load_module")]);
        assert_eq!(survey.unseen, []);
    }
}
