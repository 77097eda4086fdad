//! Address space: ranges that module memory comes from, blocks cut from them, and the protections of their parts.
//!
//! What an embedder provides is the [`Memory`] trait. [`AddressSpace`] implements it for a modelled kernel: it hands
//! out addresses as Linux's vmalloc does and keeps the bytes wherever a [`Backing`] puts them.

mod address_space;
mod backing;
mod chunked;
mod free_list;
mod held;
mod packs;
mod percpu;

use alloc::boxed::Box;
use core::fmt;
use core::ops::Range;

pub use address_space::{AddressSpace, Guard, SpaceBlock};
pub use backing::{Backing, Fresh, HeapBacking};
pub use percpu::{PerCpuPlace, PerCpuSpace};

use crate::address::RunAddr;
use crate::layout::MemoryKind;

/// What may be done with bytes at their run address. Writable and executable at once cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Read only.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

impl Protection {
    /// Whether bytes may be written.
    pub const fn is_writable(self) -> bool {
        matches!(self, Protection::ReadWrite)
    }

    /// The protection that a memory gets when loading is complete, before init runs
    /// (kernel/module/strict_rwx.c, called from main.c:complete_formation).
    pub const fn formed(kind: MemoryKind) -> Protection {
        match kind {
            MemoryKind::Text | MemoryKind::InitText => Protection::ReadExecute,
            MemoryKind::RoData | MemoryKind::InitRoData => Protection::Read,
            MemoryKind::Data | MemoryKind::RoAfterInit | MemoryKind::InitData => Protection::ReadWrite,
        }
    }

    /// The protection that a memory keeps once init has returned.
    pub const fn settled(kind: MemoryKind) -> Protection {
        match kind {
            MemoryKind::RoAfterInit => Protection::Read,
            other => Protection::formed(other),
        }
    }

    /// Whether bytes may be executed.
    pub const fn is_executable(self) -> bool {
        matches!(self, Protection::ReadExecute)
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protection::Read => "r--",
            Protection::ReadWrite => "rw-",
            Protection::ReadExecute => "r-x",
        })
    }
}

/// What a block is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The memory type, which decides the range; the first of those that share the block.
    pub kind: MemoryKind,
    /// Bytes, a multiple of the page size.
    pub size: u64,
    /// Alignment of the run address in bytes: the page size.
    pub alignment: u64,
}

/// Where memory for modules comes from: what a kernel, monitor or process must lend modmem.
pub trait Memory {
    /// A block that it hands out.
    type Block: Block;

    /// Allocates a block of exactly the size that is asked for, which is never 0. It is writable and not executable,
    /// its contents are unspecified, and it is freed when dropped.
    ///
    /// Where it may lie is the implementation's business: a profile's ranges are for [`AddressSpace`] alone.
    ///
    /// # Errors
    /// There is no room; nothing has been taken.
    fn allocate(&mut self, request: Request) -> Result<Self::Block, SpaceError>;
}

/// A block of module memory: an address to run at and a view to write through.
pub trait Block {
    /// Where the block runs.
    fn address(&self) -> RunAddr;

    /// The block's bytes.
    fn bytes(&self) -> &[u8];

    /// The block's bytes for writing, at whatever address this process has them.
    ///
    /// The loader writes only to parts that are [`Protection::ReadWrite`].
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Whether the block was all zero when it was allocated. If it was, the loader leaves what no section covers as it
    /// is; otherwise it zeroes that, as every byte of a module that is not from its file is zero.
    fn was_zeroed(&self) -> bool {
        false
    }

    /// The protection of the byte at `offset`, if the block keeps track of it: what
    /// [`Modules::protection_violation`](crate::Modules::protection_violation) compares with what ought to be.
    fn protection(&self, _offset: u64) -> Option<Protection> {
        None
    }

    /// Changes the protection of the bytes `part`, whose ends are multiples of the page size, at their run address,
    /// and makes what was written there visible to instruction fetches if it is now executable.
    ///
    /// A module's readers may look at [`Block::bytes`] meanwhile, and only there.
    ///
    /// # Errors
    /// The protection could not be changed; it is what it was.
    fn protect(&self, part: Range<u64>, protection: Protection) -> Result<(), SpaceError>;
}

/// Why there is no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpaceError {
    /// No hole in the range is large enough.
    NoRoom {
        /// For which memory.
        kind: MemoryKind,
        /// Bytes that were asked for.
        size: u64,
        /// Where they had to lie.
        range: Range<RunAddr>,
    },
    /// The backing has no bytes left.
    NoBytes {
        /// Bytes that were asked for.
        size: u64,
    },
    /// A range to reserve is taken, empty or outside the space.
    NotFree {
        /// The range.
        range: Range<RunAddr>,
    },
    /// A protection could not be changed.
    Protect {
        /// The range.
        range: Range<RunAddr>,
        /// What the system said.
        reason: Box<str>,
    },
    /// The percpu chunk for modules has no room left.
    NoPerCpu {
        /// Bytes that were asked for.
        size: u64,
        /// Bytes of the chunk.
        reserve: u64,
    },
    /// No memory for our own bookkeeping.
    OutOfMemory,
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpaceError::NoRoom { kind, size, range } => write!(
                f,
                "no room for {size:#x} bytes of {kind} in the module range {}-{}",
                range.start, range.end
            ),
            SpaceError::NoBytes { size } => write!(f, "no memory left to hold a block of {size:#x} bytes"),
            SpaceError::NotFree { range } => {
                write!(f, "{}-{} is not free or not in the address space", range.start, range.end)
            }
            SpaceError::Protect { range, reason } => {
                write!(f, "cannot change the protection of {}-{}: {reason}", range.start, range.end)
            }
            SpaceError::NoPerCpu { size, reserve } => write!(
                f,
                "could not allocate {size} bytes of percpu data: the {reserve} bytes reserved for modules are taken"
            ),
            SpaceError::OutOfMemory => f.write_str("out of memory while keeping track of the address space"),
        }
    }
}

impl core::error::Error for SpaceError {}
