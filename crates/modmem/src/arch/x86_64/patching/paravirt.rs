//! Calls through `pv_ops`, made direct (6.1: arch/x86/kernel/alternative.c:apply_paravirt; later: alt_replace_call).

use super::Subject;
use super::call_thunks::COUNT_LENGTH;
use super::insn::{CALL, Code, branch, branch_target, signed};
use super::nops;
use crate::address::RunAddr;
use crate::verify::Rule;
use crate::verify::evidence::Variable;
use crate::verify::twin::Standing;

/// Bytes of an entry of `.parainstructions`: address, type, length, padding.
const ENTRY: u64 = 16;

/// What an indirect call through `pv_ops` at `site` calls: `None` inside where the call goes away.
pub(super) fn direct_call(
    subject: &mut Subject<'_, '_>,
    site: RunAddr,
    original: &[u8],
) -> Option<(Option<u64>, Standing)> {
    let [0xff, 0x15, displacement @ ..] = original else { return None };
    let displacement = displacement.get(..4).map(signed)?;
    Some(slot(subject, site, site + 6 + displacement as u64))
}

/// What the slot of `pv_ops` at `slot` calls, as seen from `site`.
fn slot(subject: &mut Subject<'_, '_>, site: RunAddr, slot: RunAddr) -> (Option<u64>, Standing) {
    let variable = Variable::ParavirtCall(slot);
    if !subject.evidence.knows(variable) {
        let word = subject.guest_word(slot);
        subject.evidence.pin(variable, word);
    }
    let nop = subject.kernel.nop_function;
    let found = subject.twin.found(site, 5);
    let called = found.and_then(|found| branch_target(found, CALL, site.0));
    // Perhaps a call that is counted on its way.
    let counted = called.map(|called| called.wrapping_add(COUNT_LENGTH));
    let empty = found.is_some_and(|found| found[0] == 0x66 || found[0] == 0x0f);
    let certain = subject.evidence.certain(variable);
    // What is no function of the kernel itself cannot be what the slot holds.
    let shown = [called, counted].into_iter().flatten().find(|&target| is_own_function(subject, target));
    let shown = shown.or(if empty { nop } else { None });
    let target = certain.or(shown).or(subject.evidence.leaning(variable));
    if let (None, Some(shown)) = (certain, shown) {
        subject.evidence.vote(variable, shown);
    }
    let standing = match called {
        Some(called) if shown.is_none() => Standing::WrongTarget(RunAddr(called)),
        Some(_) if shown != target => Standing::OutOfStep(variable),
        _ if subject.evidence.pinned(variable).is_some() => Standing::Certain,
        _ => Standing::Unproven,
    };
    let Some(target) = target else { return (None, standing) };
    // An empty slot calls the function that stops the machine.
    let target = if target == 0 { subject.kernel.bug_function.unwrap_or(0) } else { target };
    (Some(target).filter(|&target| Some(target) != nop), standing)
}

fn is_own_function(subject: &Subject<'_, '_>, address: u64) -> bool {
    let symbol = subject.guest.symbol_at(RunAddr(address));
    symbol.is_some_and(|symbol| symbol.text && symbol.offset == 0 && symbol.module.is_none())
}

/// `.parainstructions` of 6.1.
pub(super) fn apply(subject: &mut Subject<'_, '_>) {
    let Some((table, size)) = subject.section(".parainstructions") else { return };
    let Some(pv_ops) = subject.kernel.pv_ops else { return };
    for index in 0..size / ENTRY {
        let at = table + index * ENTRY;
        let Some(site) = subject.twin.word(at).map(RunAddr) else { return };
        let Some(&[kind, length]) = subject.twin.ours(at + 8, 2).and_then(|bytes| bytes.first_chunk::<2>())
        else {
            return;
        };
        if !subject.twin.has_text(site) {
            continue;
        }
        let (target, standing) = slot(subject, site, pv_ops + u64::from(kind) * 8);
        let mut code = Code::empty();
        if let Some(target) = target {
            code.push(&branch(CALL, site.0, target));
        }
        let used = code.bytes().len();
        code.fill_to(usize::from(length), 0);
        nops::fill_short(&mut code.bytes_mut()[used..]);
        subject.twin.write(site, code.bytes(), Rule::Paravirt, standing);
    }
}
