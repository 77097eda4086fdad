//! Machines that modules are finalized for.
//!
//! A kernel decides how to patch code by variables of its own: features of the CPU, the thunk of returns, tables of calls
//! ([`Machine::kernel_words`](modmem::arch::Machine::kernel_words)), static keys. Before it runs they hold what its image
//! has ([`KernelImage::memory`](crate::KernelImage::memory)); what they hold on a machine is told by a snapshot of one
//! ([`SnapshotMachine`]), or by lines that were taken from one ([`MachineState`]).

mod described;
pub mod named;
mod snapshot;
mod state;

pub use self::described::DescribedKernel;
pub use self::snapshot::{MachineOfModule, SnapshotMachine};
pub use self::state::MachineState;
