//! Machines that modules are finalized for.
//!
//! A kernel decides how to patch code by variables of its own: features of the CPU, the thunk of returns, tables of calls
//! ([`Machine::kernel_words`](modmem::arch::Machine::kernel_words)), static keys. Before it runs they hold what its image
//! has ([`KernelImage::memory`](crate::KernelImage::memory)); what they hold on a machine is told by a snapshot of one
//! ([`SnapshotMachine`]), by lines that were taken from one ([`MachineState`]), or by what anybody may see of the one that this
//! program runs on ([`HostMachine`]).

mod described;
mod host;
pub mod named;
mod snapshot;
mod state;

pub use self::described::DescribedKernel;
pub use self::host::HostMachine;
pub use self::snapshot::{MachineOfModule, SnapshotMachine};
pub use self::state::MachineState;
