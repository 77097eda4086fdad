//! Branches on static keys, and declared probes.

use super::{NOP, Subject};
use crate::arch::arm64::insn::{B, branch};
use crate::finalize::Rule;
use crate::finalize::Standing;
use crate::finalize::live::{Site, Steps};
use crate::finalize::tables::{JumpEntry, is_taken};

/// The breakpoint of a probe: `brk #4` (BRK64_OPCODE_KPROBES).
const KPROBE: u32 = 0xd420_0080;

/// `__jump_table`: a NOP or a branch (arch/arm64/kernel/jump_label.c).
pub(super) fn jump_labels(subject: &mut Subject<'_, '_>, entries: &[JumpEntry]) {
    for entry in entries {
        if !subject.module.has_text(entry.code) {
            continue;
        }
        let jump = branch(B, entry.code.0, entry.target.0).to_le_bytes();
        let nop = NOP.to_le_bytes();
        let shown = match subject.module.found(entry.code, 4) {
            Some(found) if found == jump => Some(true),
            Some(found) if found == nop => Some(false),
            _ => None,
        };
        let (off, on) = if entry.inverted { (jump, nop) } else { (nop, jump) };
        subject.module.may_change(Site::switch(entry.code, Steps::Whole, entry.key, &off, &on));
        let (taken, standing) = is_taken(subject, entry, shown);
        let code = if taken { jump } else { nop };
        subject.module.write(entry.code, &code, Rule::JumpLabel, standing);
    }
}

/// Probes that the caller declared.
pub(super) fn kprobes(subject: &mut Subject<'_, '_>) {
    for &address in subject.kprobes {
        if subject.module.found(address, 4) == Some(&KPROBE.to_le_bytes()) {
            subject.probed(address, None);
            subject.module.write(address, &KPROBE.to_le_bytes(), Rule::Kprobe, Standing::Certain);
        }
    }
}
