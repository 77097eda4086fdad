//! Probes that the caller declared (arch/s390/kernel/kprobes.c).

use super::Subject;
use crate::finalize::Rule;
use crate::finalize::Standing;

/// An illegal instruction that the kernel takes for its own (BREAKPOINT_INSTRUCTION).
const BREAKPOINT: [u8; 2] = [0x00, 0x02];

/// At a function's entry a probe is ftrace's business; elsewhere it is a breakpoint.
pub(super) fn apply(subject: &mut Subject<'_, '_>) {
    for &address in subject.kprobes {
        if subject.module.found(address, 2) == Some(&BREAKPOINT) {
            subject.probed(address, None);
            subject.module.write(address, &BREAKPOINT, Rule::Kprobe, Standing::Certain);
        }
    }
}
