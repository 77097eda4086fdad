//! Writable memory: which parts of it nobody writes, and what is known of the rest.

use alloc::vec::Vec;

use super::compare::Skipped;
use super::subject::Subject;
use super::twin::Standing;
use super::{Rule, VerifyError};
use crate::image::Image;
use crate::layout::{Layout, MemoryKind};

/// Writable sections that are as the loader left them.
const UNWRITTEN: &[&str] = &[
    "__bug_table",
    "__jump_table",
    ".static_call_sites",
    "__bpf_raw_tp_map",
    "_ftrace_eval_map",
    "_ftrace_events",
    "__patchable_function_entries",
];

/// Flag of `struct bug_entry` that the kernel sets when it has warned (BUGFLAG_DONE).
const BUG_DONE: u8 = 4;
/// Bytes of `struct bug_entry` with relative pointers, and where its flags are.
const BUG: u64 = 12;
const BUG_FLAGS: u64 = 10;

/// The parts of a memory that are written while the module runs, in order.
pub(super) fn skipped(image: &Image<'_>, layout: &Layout, kind: MemoryKind) -> Result<Skipped, VerifyError> {
    let mut ranges: Skipped = Vec::new();
    if !matches!(kind, MemoryKind::Data | MemoryKind::RoAfterInit | MemoryKind::InitData) {
        return Ok(ranges);
    }
    for section in image.sections().iter().filter(|section| section.size() > 0) {
        let Some(place) = layout.place(section.index()).filter(|place| place.kind == kind) else { continue };
        let is_table = [image.known().symtab, image.symbols().strings_section()].contains(&section.index());
        if is_table || UNWRITTEN.iter().any(|name| section.name() == *name) {
            continue;
        }
        let start = place.offset as usize;
        ranges.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
        ranges.push(start..start + section.size() as usize);
    }
    ranges.sort_unstable_by_key(|range| range.start);
    Ok(ranges)
}

/// `__bug_table`: a warning that was printed once is marked.
pub(super) fn bug_flags(subject: &mut Subject<'_, '_>) -> Result<(), VerifyError> {
    let Some((table, size)) = subject.section("__bug_table") else { return Ok(()) };
    for index in 0..size / BUG {
        let at = table + index * BUG + BUG_FLAGS;
        let (Some(&[ours]), Some(&[found])) = (subject.twin.ours(at, 1), subject.twin.found(at, 1)) else {
            continue;
        };
        if found == ours | BUG_DONE && found != ours {
            subject.twin.write(at, &[found], Rule::BugFlag, Standing::Certain);
        }
    }
    Ok(())
}
