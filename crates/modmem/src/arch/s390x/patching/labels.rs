//! `__jump_table`: a branch that is taken or is not, with the same distance (arch/s390/kernel/jump_label.c).

use super::Subject;
use super::insn::{BRANCH, BRCL_ALWAYS, BRCL_NEVER, branch};
use crate::verify::Rule;
use crate::verify::tables::{JumpEntry, is_taken};

pub(super) fn apply(subject: &mut Subject<'_, '_>, entries: &[JumpEntry]) {
    for entry in entries {
        if !subject.twin.has_text(entry.code) {
            continue;
        }
        let jump = branch(BRCL_ALWAYS, entry.code, entry.target);
        let nop = branch(BRCL_NEVER, entry.code, entry.target);
        let shown = match subject.twin.found(entry.code, BRANCH) {
            Some(found) if found == jump => Some(true),
            Some(found) if found == nop => Some(false),
            _ => None,
        };
        let (taken, standing) = is_taken(subject, entry, shown);
        let code = if taken { jump } else { nop };
        subject.twin.write(entry.code, &code, Rule::JumpLabel, standing);
    }
}
