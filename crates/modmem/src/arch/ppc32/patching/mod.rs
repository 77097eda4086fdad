//! What 32-bit PowerPC kernels do to a module's code and tables after relocation.

use crate::verify::rules::Rules;
use crate::verify::{Guest, VerifyError, subject, tables};

/// A module that these rules are applied to.
type Subject<'s, 'g> = subject::Subject<'s, 'g, Kernel>;

/// Landmarks of the guest's kernel.
#[derive(Debug)]
pub(super) struct Kernel {}

impl Kernel {
    pub(super) fn read(_: &dyn Guest) -> Kernel {
        Kernel {}
    }
}

impl Rules for Kernel {
    fn apply<'s, 'g>(
        &'s self,
        subject: subject::Subject<'s, 'g>,
    ) -> Result<subject::Subject<'s, 'g>, VerifyError> {
        let mut subject = subject.knowing(self);
        apply(&mut subject)?;
        Ok(subject.knowing(&()))
    }

    fn has_cpu_words(&self) -> bool {
        false
    }
}

/// Applies all rules to a module.
fn apply(subject: &mut Subject<'_, '_>) -> Result<(), VerifyError> {
    tables::exceptions(subject, 8)?;
    let _functions = tables::function_entries(subject, "__mcount_loc")?;
    let _labels = tables::jump_labels(subject)?;
    Ok(())
}
