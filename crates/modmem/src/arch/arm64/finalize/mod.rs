//! What an arm64 kernel does to a module's code and tables after relocation.
//!
//! The order is the kernel's (kernel/module/main.c:post_relocation, arch/arm64/kernel/module.c:module_finalize, then
//! ftrace and jump labels), as one rule finds what another has left. Kernels that clang built with kCFI or with
//! `nop`s elsewhere than gcc puts them have not been looked at.

mod alternatives;
mod branches;
mod kernel;
mod marks;
mod scs;
mod tracing;

pub(super) use kernel::Kernel;

use crate::finalize::Rules;
use crate::finalize::{OutOfMemory, subject, tables};

/// A module that these rules are applied to.
type Subject<'s, 'g> = subject::Subject<'s, 'g, Kernel>;

/// `nop`
const NOP: u32 = 0xd503_201f;

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
        self.has_capabilities
    }
}

/// Applies all rules to a module.
fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let entry = if subject.profile.patching.exception_handlers { 8 } else { 12 };
    tables::exceptions(subject, entry, false)?;
    alternatives::apply(subject)?;
    scs::apply(subject)?;
    tracing::fill_trampolines(subject);
    let functions = tables::function_entries(subject, tracing::entries_section(subject))?;
    tracing::trace(subject, &functions);
    let labels = tables::jump_labels(subject)?;
    branches::jump_labels(subject, &labels);
    branches::kprobes(subject);
    Ok(())
}
