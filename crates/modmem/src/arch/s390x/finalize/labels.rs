//! `__jump_table`: a branch that is taken or is not, with the same distance (arch/s390/kernel/jump_label.c).

use super::Subject;
use super::insn::{BRANCH, BRCL_ALWAYS, BRCL_NEVER, branch};
use crate::finalize::Rule;
use crate::finalize::live::{Site, Steps};
use crate::finalize::tables::{JumpEntry, is_taken};

pub(super) fn apply(subject: &mut Subject<'_, '_>, entries: &[JumpEntry]) {
    for entry in entries {
        if !subject.module.has_text(entry.code) {
            continue;
        }
        let jump = branch(BRCL_ALWAYS, entry.code, entry.target);
        let nop = branch(BRCL_NEVER, entry.code, entry.target);
        let shown = match subject.module.found(entry.code, BRANCH) {
            Some(found) if found == jump => Some(true),
            Some(found) if found == nop => Some(false),
            _ => None,
        };
        let (off, on) = if entry.inverted { (&jump, &nop) } else { (&nop, &jump) };
        subject.module.may_change(Site::switch(entry.code, Steps::Whole, entry.key, off, on));
        let (taken, standing) = is_taken(subject, entry, shown);
        let code = if taken { jump } else { nop };
        subject.module.write(entry.code, &code, Rule::JumpLabel, standing);
    }
}
