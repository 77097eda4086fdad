//! Rules of a few lines: sealed ENDBRs, lock prefixes, declared probes.

use super::Subject;
use super::insn::{INT3, JMP32, LOCK, NO_LOCK, branch_target};
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::Variable;
use crate::finalize::live::{Site, Steps};
use crate::finalize::{OutOfMemory, Rule};

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// `.ibt_endbr_seal` (arch/x86/kernel/alternative.c:apply_seal_endbr).
pub(super) fn seal_endbr(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let poison = subject.profile.patching.endbr_poison;
    for address in subject.sites(".ibt_endbr_seal")? {
        if subject.module.ours(address, 4) == Some(&ENDBR64) {
            subject.module.write(address, &poison, Rule::EndbrSeal, Standing::Certain);
        }
    }
    Ok(())
}

/// `.smp_locks` (arch/x86/kernel/alternative.c:alternatives_smp_module_add).
pub(super) fn locks(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let text = if subject.profile.patching.locks_in_text_section_only {
        subject.section(".text")
    } else {
        let kind = crate::layout::MemoryKind::Text;
        let memory = subject.module.layout().memories()[kind];
        subject.module.address(kind).map(|address| (address, memory.allocated))
    };
    let Some((start, size)) = text else { return Ok(()) };
    for address in subject.sites(".smp_locks")? {
        let inside = address.offset_from(start).is_some_and(|offset| offset < size);
        if !inside || subject.module.ours(address, 1) != Some(&[LOCK]) {
            continue;
        }
        if !subject.module.has(address) {
            continue;
        }
        let site = Site::new(address, 1, Rule::LockPrefix, Steps::Whole);
        let site =
            site.text(&[LOCK], Some((Variable::OneCpu, 0))).text(&[NO_LOCK], Some((Variable::OneCpu, 1)));
        subject.module.may_change(site);
        let found = subject.module.found(address, 1).and_then(<[u8]>::first).copied();
        let one_cpu = subject.kernel.one_cpu.map(u64::from);
        let evidence = &mut *subject.state;
        if !evidence.knows(Variable::OneCpu) {
            evidence.pin(Variable::OneCpu, one_cpu);
        }
        let unlocked = match evidence.certain(Variable::OneCpu) {
            Some(one) => one == 1,
            None => {
                match found {
                    Some(NO_LOCK) => evidence.vote(Variable::OneCpu, 1),
                    Some(LOCK) => evidence.vote(Variable::OneCpu, 0),
                    _ => evidence.assume(Variable::OneCpu, 0),
                }
                found == Some(NO_LOCK)
            }
        };
        let expected = if unlocked { NO_LOCK } else { LOCK };
        let standing = match found {
            Some(LOCK | NO_LOCK) if found != Some(expected) => Standing::OutOfStep(Variable::OneCpu),
            _ => Standing::Certain,
        };
        subject.module.write(address, &[expected], Rule::LockPrefix, standing);
    }
    Ok(())
}

/// Probes that the caller declared: a breakpoint, or a jump to the copy of what it replaced.
pub(super) fn kprobes(subject: &mut Subject<'_, '_>) {
    for &address in subject.kprobes {
        let Some(&found) = subject.module.found(address, 5).and_then(|found| found.first_chunk::<5>()) else {
            continue;
        };
        if found[0] == INT3 {
            subject.probed(address, None);
            subject.module.write(address, &[INT3], Rule::Kprobe, Standing::Certain);
        } else if let Some(target) = branch_target(&found, JMP32, address.0)
            && subject
                .guest
                .symbol_at(RunAddr(target))
                .is_some_and(|symbol| symbol.module == Some("__builtin__kprobes"))
        {
            subject.probed(address, Some(RunAddr(target)));
            subject.module.write(address, &found, Rule::Kprobe, Standing::Certain);
        }
    }
}
