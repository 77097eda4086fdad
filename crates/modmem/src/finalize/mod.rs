//! Finalizing: what a kernel does to code and tables after relocation.
//!
//! Alternatives, retpolines, returns, function entries, static keys and calls, lock prefixes; sorted tables. A module
//! that has been through it is, byte for byte, what a running kernel has. Each machine's rules (`arch/*/finalize`) do it in
//! the kernel's order, on the linked module itself.
//!
//! ```text
//! Linked --rules, under a State--> Finalized
//! ```
//!
//! What the code depends on beside the file is a [`Variable`]: a feature of the CPU, a static key, a mitigation. A
//! `State` says its value. There are two: that of a machine that the caller [states](Stated), and the evidence that
//! verifying gathers from a guest (feature `verify`).

pub(crate) mod choice;
mod finalized;
mod hook;
pub(crate) mod kernel_sort;
pub(crate) mod live;
mod rule;
mod rules;
mod state;
mod stated;
pub(crate) mod subject;
pub(crate) mod tables;
pub(crate) mod target;

use core::fmt;

pub use finalized::{FinalizeError, Finalized, Finalizer, Patched};
pub use hook::{Hook, HookKind};
pub use live::{LiveText, Permit, Refusal, Step};
pub use rule::Rule;
pub(crate) use rules::Rules;
pub(crate) use state::State;
pub use state::{Decided, Tracer, Variable};
pub(crate) use stated::Answers;
pub use stated::Stated;
pub(crate) use target::Standing;

/// No memory for bookkeeping: the module is as far as it was brought, and not to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory while finalizing")
    }
}

impl core::error::Error for OutOfMemory {}
