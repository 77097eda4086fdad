//! Trampolines of static calls, of which there are none in line (arch/powerpc/kernel/static_call.c:
//! arch_static_call_transform).
//!
//! A trampoline begins with what decides: a return where nothing is called, a branch to the function if that reaches, a
//! NOP otherwise. Behind it stands a jump to the address in the trampoline's last word, and a return of 0.

use super::Subject;
use super::insn::{NOP, RETURN, branch, jump_target};
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::Variable;
use crate::finalize::{OutOfMemory, Rule, tables};

/// Where in a trampoline 0 is returned, and where the address is (arch/powerpc/include/asm/static_call.h).
const RETURN_ZERO: u32 = 20;
const ADDRESS: u64 = 28;

/// What the first word of a trampoline, and the address, say.
pub(super) fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    for (trampoline, key) in tables::trampolines(subject)? {
        let word = |at| {
            let found = subject.module.found(at, 4).and_then(<[u8]>::first_chunk);
            found.map(|&found| u32::from_be_bytes(found))
        };
        // What was never updated is as it was built, and nothing tells of updates but what is found.
        let (Some(first), Some(address)) = (word(trampoline), word(trampoline + ADDRESS)) else { continue };
        let at = trampoline.0 as u32;
        let zero = at.wrapping_add(RETURN_ZERO);
        let shown = match first {
            RETURN => Some(0),
            NOP => Some(u64::from(address)),
            branch => {
                jump_target(branch, at).map(|target| match (target == zero, subject.kernel.return_zero) {
                    (true, Some(function)) => function.into(),
                    _ => target.into(),
                })
            }
        };
        let (function, standing) = decide(subject, key, shown);
        let Some(function) = function.and_then(|function| u32::try_from(function).ok()) else { continue };
        let target = if Some(function) == subject.kernel.return_zero { zero } else { function };
        let (expected, far) = match (function, branch(at, target, false)) {
            (0, _) => (RETURN, false),
            (_, Some(branch)) => (branch, false),
            (_, None) => (NOP, true),
        };
        // One that was never updated may go through a stub instead.
        let as_built = far && subject.module.ours(trampoline, 4) == Some(&first.to_be_bytes());
        if as_built {
            continue;
        }
        subject.module.write(trampoline, &expected.to_be_bytes(), Rule::StaticCall, standing);
        // The address stays when it is needed no more.
        let was_function = address != 0 && subject.is_function(RunAddr(address.into()));
        if far || was_function {
            let address = if far { target } else { address };
            subject.module.write(trampoline + ADDRESS, &address.to_be_bytes(), Rule::StaticCall, standing);
        }
    }
    Ok(())
}

/// The function that the key at `key` has: what its own memory says, or what `shown` speaks for.
fn decide(subject: &mut Subject<'_, '_>, key: RunAddr, shown: Option<u64>) -> (Option<u64>, Standing) {
    let variable = Variable::StaticCall(key);
    if !subject.state.knows(variable) {
        // What is no function is nothing that the kernel calls.
        let word = subject.guest_word(key);
        let word = word.filter(|&word| word == 0 || subject.is_function(RunAddr(word)));
        subject.state.pin(variable, word);
    }
    let known =
        |subject: &Subject<'_, '_>, function: u64| function == 0 || subject.is_function(RunAddr(function));
    match (subject.state.certain(variable), shown) {
        (Some(function), Some(shown)) if shown != function => {
            let standing = match known(subject, shown) {
                true => Standing::OutOfStep(variable),
                false => Standing::WrongTarget(RunAddr(shown)),
            };
            (Some(function), standing)
        }
        (Some(function), _) => (Some(function), Standing::Certain),
        (None, Some(shown)) if known(subject, shown) => {
            subject.state.vote(variable, shown);
            (Some(shown), Standing::Unproven)
        }
        (None, _) => (None, Standing::Certain),
    }
}
