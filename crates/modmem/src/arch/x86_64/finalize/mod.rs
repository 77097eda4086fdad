//! What an x86-64 kernel does to a module's code and tables after relocation.
//!
//! Each rule knows a table of the module and the forms that the kernel may give to the places that it names. The
//! order is the kernel's (arch/x86/kernel/module.c:module_finalize, then ftrace, jump labels, static calls), as one
//! rule finds what another has left.

mod alternatives;
mod branches;
mod call_thunks;
mod features;
mod insn;
mod its;
mod kernel;
mod nops;
mod orc;
mod paravirt;
mod retpolines;
mod returns;
mod small;

use alloc::vec::Vec;

pub(crate) use kernel::Kernel;

use crate::address::RunAddr;
use crate::finalize::Rules;
use crate::finalize::tables;
use crate::finalize::{OutOfMemory, subject};
use crate::profile::CountedCalls;

/// A module that these rules are applied to.
type Subject<'s, 'g> = subject::Subject<'s, 'g, Kernel>;

impl Rules for Kernel {
    fn apply<'s, 'g>(
        &'s self,
        subject: subject::Subject<'s, 'g>,
    ) -> Result<subject::Subject<'s, 'g>, OutOfMemory> {
        let mut subject = subject.knowing(self);
        apply(&mut subject)?;
        Ok(subject.knowing(&()))
    }

    fn has_cpu_words(&self) -> bool {
        self.words.is_some()
    }
}

/// Applies all rules to a module.
fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    paravirt::apply(subject);
    retpolines::apply(subject)?;
    returns::apply(subject)?;
    let mut entries = alternatives::read(subject)?;
    match subject.profile.patching.counted_calls {
        CountedCalls::None => alternatives::apply(subject, &mut entries),
        CountedCalls::AfterAlternatives => {
            alternatives::apply(subject, &mut entries);
            let mut sites: Vec<RunAddr> = Vec::new();
            sites.try_reserve_exact(entries.len()).map_err(|_| OutOfMemory)?;
            sites.extend(entries.iter().map(|entry| entry.site));
            call_thunks::apply(subject, &sites)?;
        }
        CountedCalls::BeforeAlternatives => {
            call_thunks::apply(subject, &[])?;
            alternatives::apply(subject, &mut entries);
        }
    }
    small::seal_endbr(subject)?;
    small::locks(subject)?;
    orc::sort(subject)?;
    tables::exceptions(subject, 12, subject.profile.patching.exception_handlers)?;
    let functions = tables::function_entries(subject, "__mcount_loc")?;
    branches::trace(subject, &functions);
    let labels = tables::jump_labels(subject)?;
    branches::jump_labels(subject, &labels);
    let calls = tables::static_calls(subject)?;
    branches::static_calls(subject, &calls)?;
    small::kprobes(subject);
    Ok(())
}

/// Whether `found` is `expected`, but for what later rules do to it: lock prefixes go where one CPU needs none, a call
/// is counted on its way. Only what is likely is asked here; the comparison in the end is exact.
fn looks_like(expected: &[u8], found: &[u8]) -> bool {
    let same = |expected: &[u8], found: &[u8]| {
        expected.iter().zip(found).all(|(&a, &b)| a == b || (a == insn::LOCK && b == insn::NO_LOCK))
    };
    if expected.len() != found.len() || same(expected, found) {
        return expected.len() == found.len();
    }
    match (insn::branch_target(expected, insn::CALL, 0), insn::branch_target(found, insn::CALL, 0)) {
        (Some(to), Some(through)) => {
            to.wrapping_sub(through) == call_thunks::COUNT_LENGTH && same(&expected[5..], &found[5..])
        }
        _ => false,
    }
}
