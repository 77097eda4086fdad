//! What s390x kernels do to a module's code and tables after relocation.
//!
//! Alternatives, expolines and loads of the stack protector's canary (arch/s390/kernel/module.c:module_finalize), then ftrace and jump labels. An entry of a
//! function that can be traced branches to a trampoline of its own, in pages that belong to the module and are none of
//! its memories; they are compared as well.

mod alternatives;
mod expolines;
mod insn;
mod kernel;
mod labels;
mod probes;
mod stack_protector;
mod tracing;
mod trampolines;

pub(crate) use kernel::Kernel;

use crate::finalize::Rules;
use crate::finalize::{OutOfMemory, subject, tables};

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
        self.facilities.is_some()
    }
}

/// Applies all rules to a module.
fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    tables::exceptions(subject, 12, false)?;
    alternatives::apply(subject)?;
    expolines::apply(subject);
    stack_protector::apply(subject)?;
    let functions = tables::function_entries(subject, "__mcount_loc")?;
    tracing::apply(subject, &functions)?;
    let labels = tables::jump_labels(subject)?;
    labels::apply(subject, &labels);
    probes::apply(subject);
    Ok(())
}
