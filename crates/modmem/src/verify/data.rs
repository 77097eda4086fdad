//! Writable memory: which parts of it nobody writes, and what is known of the rest.

use alloc::vec::Vec;

use super::compare::Skipped;
use super::{Rule, VerifyError};
use crate::finalize::Standing;
use crate::finalize::subject::Subject;
use crate::image::elf::ByteOrder;
use crate::image::{Image, has_prefix};
use crate::layout::{Layout, MemoryKind};
use crate::name::Name;

/// Writable sections that are as the loader left them.
const UNWRITTEN: &[&str] = &[
    "__bug_table",
    "__jump_table",
    ".static_call_sites",
    "__bpf_raw_tp_map",
    "_ftrace_eval_map",
    "_ftrace_events",
    "__patchable_function_entries",
    // Constants with addresses in them, where the compiler makes them writable for the loader's sake (s390x).
    "__param",
    "__tracepoints_ptrs",
];
/// The same: all sections whose names begin like this.
const CONSTANTS: &str = ".data.rel.ro";

/// Flags of `struct bug_entry` for a warning that is printed once (BUGFLAG_WARNING, BUGFLAG_ONCE).
const BUG_ONCE: u8 = 3;
/// The one that the kernel sets when it has printed that (BUGFLAG_DONE).
const BUG_DONE: u8 = 4;

fn is_unwritten(name: Name<'_>) -> bool {
    has_prefix(name, CONSTANTS) || UNWRITTEN.iter().any(|unwritten| name == *unwritten)
}

/// The parts of a memory that are written while the module runs, in order.
pub(super) fn skipped(image: &Image<'_>, layout: &Layout, kind: MemoryKind) -> Result<Skipped, VerifyError> {
    let mut ranges: Skipped = Vec::new();
    if !matches!(kind, MemoryKind::Data | MemoryKind::RoAfterInit | MemoryKind::InitData) {
        return Ok(ranges);
    }
    for section in image.sections().iter().filter(|section| section.size() > 0) {
        let Some(place) = layout.place(section.index()).filter(|place| place.kind == kind) else { continue };
        let is_table = [image.known().symtab, image.symbols().strings_section()].contains(&section.index());
        if is_table || is_unwritten(section.name()) {
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
    let entry = subject.profile.patching.bug_entry;
    for index in 0..size / entry {
        // Flags are the last two bytes; those that matter here are in the lower one.
        let low = match subject.module.format().order {
            ByteOrder::Little => 2,
            ByteOrder::Big => 1,
        };
        let at = table + (index * entry + entry - low);
        let (Some(&[ours]), Some(&[found])) = (subject.module.ours(at, 1), subject.module.found(at, 1))
        else {
            continue;
        };
        if ours & BUG_ONCE == BUG_ONCE && found != ours && found == ours | BUG_DONE {
            subject.module.write(at, &[found], Rule::BugFlag, Standing::Certain);
        }
    }
    Ok(())
}
