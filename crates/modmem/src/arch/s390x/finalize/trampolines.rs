//! The trampolines of a module's function entries (arch/s390/kernel/ftrace.c:ftrace_init_nop): code that the kernel
//! makes for the module, in pages of their own.

use alloc::vec::Vec;

use super::Subject;
use super::insn::{BRANCH, BRASL_R1, branch, decode};
use super::tracing::{Entry, is_tracer};
use crate::address::{RunAddr, align_up};
use crate::finalize::{OutOfMemory, Rule, Standing};

/// Bytes of a trampoline (`struct ftrace_hotpatch_trampoline`): a call of code that all share, two bytes that nobody
/// writes, where the function goes on, and what is called.
pub(super) const TRAMPOLINE: u64 = 24;
const UNWRITTEN: usize = 6;
const REST: usize = 8;
pub(super) const INTERCEPTOR: usize = 16;

/// What trampolines share (arch/s390/kernel/mcount.S:ftrace_shared_hotpatch_trampoline_br and _exrl): load where the
/// function goes on and who intercepts it, and go there, by a branch or by one that is executed from elsewhere.
const SHARED: [&[u8]; 2] =
    [&[0xeb, 0x01, 0x10, 0x02, 0x00, 0x04, 0x07, 0xf1], &[0xeb, 0x01, 0x10, 0x02, 0x00, 0x04, 0xc6, 0x00]];

/// Compares the trampolines at `area`, one an entry, as far as the guest's memory has them. `count` is how many there is
/// room for.
pub(super) fn check(
    subject: &mut Subject<'_, '_>,
    area: RunAddr,
    count: u64,
    entries: &[Entry],
) -> Result<(), OutOfMemory> {
    let length = count * TRAMPOLINE;
    let end = align_up(length, subject.profile.page_size).and_then(|size| area.0.checked_add(size));
    let Some(end) = end else { return Ok(()) };
    subject.areas.try_reserve(1).map_err(|_| OutOfMemory)?;
    subject.areas.push(area..RunAddr(end));
    subject.made(area);
    let guest = subject.guest;
    let Some(bytes) = guest.bytes(area, length as usize) else { return Ok(()) };
    let mut shared = subject.kernel.shared_trampoline;
    for ((found, entry), index) in bytes.chunks_exact(TRAMPOLINE as usize).zip(entries).zip(0..) {
        let at = area + index * TRAMPOLINE;
        if !entry.is_sound || found.len() < TRAMPOLINE as usize {
            continue;
        }
        // Where nothing tells what they share, the first one does, if it leads to such code.
        let first = || decode(found, at).map(|(_, target)| target).filter(|to| is_shared_part(subject, *to));
        let to = shared.or_else(|| first().map(|to| to.0)).unwrap_or(0);
        shared = Some(to);
        let (expected, standing) = expect(subject, at, entry.address, RunAddr(to), found);
        if expected != *found {
            let mut copy = Vec::new();
            copy.try_reserve_exact(found.len()).map_err(|_| OutOfMemory)?;
            copy.extend_from_slice(found);
            subject.outside(at, &expected, &copy, Rule::Ftrace, standing);
        }
    }
    Ok(())
}

/// Whether an address can be that of what trampolines share. Where it is a copy of the kernel's code, memory must hold it.
fn is_shared_part(subject: &Subject<'_, '_>, address: RunAddr) -> bool {
    let found = subject.guest.bytes(address, SHARED[0].len());
    let is_one = |found: &[u8]| SHARED.iter().any(|code| found.starts_with(code));
    !subject.kernel.copies_trampoline || found.is_none_or(|found| is_one(&found))
}

/// A trampoline as it must be, and what to say where it is not.
fn expect(
    subject: &Subject<'_, '_>,
    at: RunAddr,
    entry: RunAddr,
    shared: RunAddr,
    found: &[u8],
) -> ([u8; TRAMPOLINE as usize], Standing) {
    let mut code = [0; TRAMPOLINE as usize];
    code[..BRANCH].copy_from_slice(&branch(BRASL_R1, at, shared));
    if !subject.kernel.clears_stack {
        code[UNWRITTEN..REST].copy_from_slice(&found[UNWRITTEN..REST]);
    }
    let rest = entry.0.wrapping_add(BRANCH as u64);
    code[REST..INTERCEPTOR].copy_from_slice(&rest.to_be_bytes());
    let word =
        |at: usize| found.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_be_bytes(*word));
    let called = word(INTERCEPTOR);
    let allowed = is_tracer(subject, RunAddr(called));
    let interceptor = if allowed { called } else { subject.kernel.tracer().unwrap_or(called) };
    code[INTERCEPTOR..].copy_from_slice(&interceptor.to_be_bytes());
    let standing = match decode(found, at) {
        _ if interceptor != called => Standing::WrongTarget(RunAddr(called)),
        Some((BRASL_R1, target)) if target != shared => Standing::WrongTarget(target),
        _ if word(REST) != rest => Standing::WrongTarget(RunAddr(word(REST))),
        _ => Standing::Certain,
    };
    (code, standing)
}
