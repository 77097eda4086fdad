//! Why a module cannot be compared at all.

use alloc::boxed::Box;
use core::fmt;

use crate::address::RunAddr;
use crate::arch::NotBuilt;
use crate::layout::{LayoutError, MemoryKind};
use crate::link::LinkError;
use crate::space::SpaceError;

/// Why a module cannot be compared.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum VerifyError {
    /// This build has nothing for the machine.
    Machine(NotBuilt),
    /// The file is of another build than the module that runs.
    OtherBuild {
        /// The running module's build id.
        running: Box<[u8]>,
        /// The file's.
        file: Box<[u8]>,
    },
    /// The file cannot be laid out.
    Layout(LayoutError),
    /// The guest has a section where the layout says that it cannot be.
    Misplaced {
        /// Its name.
        section: Box<str>,
        /// Where the guest has it.
        address: RunAddr,
        /// The memory that it should lie in with others.
        kind: MemoryKind,
    },
    /// The guest names no section of a memory.
    NoAddress {
        /// The memory.
        kind: MemoryKind,
    },
    /// The file would take more memory than the running module has, or than there is to verify with: it is not read any
    /// further.
    TooLarge {
        /// Bytes that it would take.
        needs: u64,
        /// Bytes that it may take.
        most: u64,
    },
    /// Our copy of the module found no place.
    Memory(SpaceError),
    /// The file cannot be linked against the guest's symbols.
    Link(LinkError),
    /// No memory for our own bookkeeping.
    OutOfMemory,
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifyError::Machine(machine) => machine.fmt(f),
            VerifyError::OtherBuild { running, file } => write!(
                f,
                "the file is of another build: the running module has build id {}, the file {}",
                Hex(running),
                Hex(file)
            ),
            VerifyError::Layout(error) => write!(f, "{error}"),
            VerifyError::TooLarge { needs, most } => write!(
                f,
                "the file would take {needs} bytes of memory, and what the machine shows of this module, or the limit, \
                 leaves it {most}: refused"
            ),
            VerifyError::Misplaced { section, address, kind } => write!(
                f,
                "section {section} at {address} does not lie with the other sections of {kind}: the file or the list of sections is of another module"
            ),
            VerifyError::NoAddress { kind } => {
                write!(f, "no section of {kind} has an address: the list of sections is not complete")
            }
            VerifyError::Memory(error) => write!(f, "{error}"),
            VerifyError::Link(error) => write!(f, "{error}"),
            VerifyError::OutOfMemory => f.write_str("out of memory while verifying"),
        }
    }
}

impl core::error::Error for VerifyError {}

impl From<LayoutError> for VerifyError {
    fn from(error: LayoutError) -> VerifyError {
        VerifyError::Layout(error)
    }
}

impl From<NotBuilt> for VerifyError {
    fn from(machine: NotBuilt) -> VerifyError {
        VerifyError::Machine(machine)
    }
}
