//! `.return_sites`: returns (arch/x86/kernel/alternative.c:apply_returns).

use super::Subject;
use super::features::{RETHUNK, leaning};
use super::insn::{Code, INT3, JMP32, RET, branch, branch_target};
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::Variable;
use crate::finalize::{OutOfMemory, Rule};

pub(super) fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let sites = subject.sites(".return_sites")?;
    if sites.is_empty() {
        return Ok(());
    }
    for address in sites {
        if subject.module.has_text(address) {
            patch(subject, address);
        }
    }
    Ok(())
}

fn patch(subject: &mut Subject<'_, '_>, address: RunAddr) {
    if subject.module.ours(address, 1) != Some(&[JMP32]) {
        return;
    }
    let (code, standing) = return_at(subject, address);
    subject.module.write(address, code.bytes(), Rule::Return, standing);
}

/// The thunk that returns jump to, as far as is known, where they jump to one.
pub(super) fn thunk(subject: &mut Subject<'_, '_>) -> Option<u64> {
    if !subject.state.knows(Variable::ReturnThunk) {
        let word = subject.kernel.return_thunk;
        let word = word.filter(|&word| subject.kernel.may_be_return_thunk(subject.guest, word));
        subject.state.pin(Variable::ReturnThunk, word);
    }
    subject.state.leaning(Variable::ReturnThunk)
}

/// A return of five bytes at `address`.
pub(super) fn return_at(subject: &mut Subject<'_, '_>, address: RunAddr) -> (Code, Standing) {
    let feature = Variable::Feature(RETHUNK);
    let mut on = leaning(subject, RETHUNK);
    let thunk = thunk(subject);
    let its = subject.kernel.its_return_thunk;
    let found = subject.module.found(address, 5).map(Code::of).unwrap_or(Code::empty());
    let jump = branch_target(found.bytes(), JMP32, address.0);
    let returns = found.bytes() == [RET, INT3, INT3, INT3, INT3];
    if subject.state.certain(feature).is_none() {
        match jump {
            Some(target) if subject.kernel.is_return_thunk(target) => {
                subject.state.vote(feature, 1);
                on = true;
            }
            None if returns && (address.0 & 0x20 == 0 || its.is_none()) => {
                subject.state.vote(feature, 0);
                on = false;
            }
            _ => subject.state.rely(feature, u64::from(on)),
        }
    }
    if !on {
        let standing = match jump {
            Some(_) => Standing::OutOfStep(feature),
            None => Standing::Certain,
        };
        return (Code::of(&[RET, INT3, INT3, INT3, INT3]), standing);
    }
    let thunk = match (subject.state.certain(Variable::ReturnThunk), jump) {
        (None, Some(target)) if subject.kernel.is_return_thunk(target) => {
            subject.state.vote(Variable::ReturnThunk, target);
            Some(target)
        }
        _ => thunk,
    };
    let Some(thunk) = thunk else {
        // Nothing yet says which thunk; that of returns that need none in the upper half of a cache line would do.
        if let Some(its) = its.filter(|_| returns && address.0 & 0x20 != 0) {
            subject.state.rely(Variable::ReturnThunk, its);
            return (found, Standing::Certain);
        }
        let standing = match jump {
            Some(target) => Standing::WrongTarget(RunAddr(target)),
            None if returns => Standing::OutOfStep(feature),
            None => Standing::Certain,
        };
        let file = subject.module.relocated_at(address, 5).map_or(Code::empty(), Code::of);
        return (file, standing);
    };
    subject.state.rely(Variable::ReturnThunk, thunk);
    if Some(thunk) == its && address.0 & 0x20 != 0 {
        return (Code::of(&[RET, INT3, INT3, INT3, INT3]), Standing::Certain);
    }
    let standing = match jump {
        Some(target) if target != thunk && subject.kernel.is_return_thunk(target) => {
            Standing::OutOfStep(Variable::ReturnThunk)
        }
        Some(target) if target != thunk => Standing::WrongTarget(RunAddr(target)),
        None if returns => Standing::OutOfStep(feature),
        _ => Standing::Certain,
    };
    (Code::of(&branch(JMP32, address.0, thunk)), standing)
}
