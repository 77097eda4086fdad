//! What a 32-bit PowerPC kernel does to a module's code and tables after relocation.
//!
//! The order is the kernel's: exception table, stubs to the tracer, feature sections, barriers
//! (arch/powerpc/kernel/module.c:module_finalize), then function entries, jump labels and static calls. Barriers against speculation
//! (`__barrier_nospec_fixup`) stay as they are: the kernel looks for a section of another name.

mod code;
mod features;
mod insn;
mod kernel;
mod static_calls;

pub(super) use kernel::Kernel;

use crate::finalize::Rules;
use crate::finalize::{OutOfMemory, subject, tables};

/// A module that these rules are applied to.
type Subject<'s, 'g> = subject::Subject<'s, 'g, Kernel>;

/// Bytes of an entry of `__ex_table`: it says nothing of what kind it is.
const EXCEPTION: u64 = 8;

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
    tables::exceptions(subject, EXCEPTION, false)?;
    let tracers = code::tracer_stubs(subject);
    features::sections(subject, "__ftr_fixup", features::Word::Cpu);
    features::sections(subject, "__mmu_ftr_fixup", features::Word::Mmu);
    features::barriers(subject)?;
    for (section, form) in code::ENTRY_TABLES {
        let functions = tables::function_entries(subject, section)?;
        code::trace(subject, &functions, form, tracers);
    }
    let labels = tables::jump_labels(subject)?;
    code::jump_labels(subject, &labels);
    static_calls::apply(subject)?;
    code::kprobes(subject);
    Ok(())
}
