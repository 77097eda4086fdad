//! What a machine's kernels do to a module after relocation.

use super::OutOfMemory;
use super::subject::Subject;

/// A machine's rules, with what they must know of the guest's kernel.
pub(crate) trait Rules: core::fmt::Debug {
    /// Does to the module what the kernel does, in the kernel's order.
    fn apply<'s, 'g>(&'s self, subject: Subject<'s, 'g>) -> Result<Subject<'s, 'g>, OutOfMemory>;

    /// Whether the guest's memory has the kernel's own words about the CPU.
    fn has_cpu_words(&self) -> bool;
}
