//! Run addresses: where a module's bytes will be when it runs.

use core::fmt;
use core::ops::{Add, Range};

/// An address in the address space that a module runs in.
///
/// It is 64 bits wide whatever the host is, and it is never a pointer: the bytes that stand there are reached
/// through a block's write view, which may be another mapping, another machine or a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RunAddr(pub u64);

impl RunAddr {
    /// The address `bytes` further on, or `None` past the top of a 64-bit space.
    pub fn checked_add(self, bytes: u64) -> Option<RunAddr> {
        self.0.checked_add(bytes).map(RunAddr)
    }

    /// How far this address lies after `base`, or `None` if it lies before it.
    pub fn offset_from(self, base: RunAddr) -> Option<u64> {
        self.0.checked_sub(base.0)
    }

    /// The addresses of `length` bytes that start here.
    pub fn extent(self, length: u64) -> Range<RunAddr> {
        self..RunAddr(self.0.wrapping_add(length))
    }
}

impl Add<u64> for RunAddr {
    type Output = RunAddr;
    /// Wraps as the machine's own arithmetic does.
    fn add(self, bytes: u64) -> RunAddr {
        RunAddr(self.0.wrapping_add(bytes))
    }
}

impl fmt::Debug for RunAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Display for RunAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::LowerHex for RunAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Rounds `value` up to a multiple of `alignment`; `None` if that does not fit in 64 bits.
///
/// It is Linux's `ALIGN()`, which takes what is no power of two for a mask: the result is not less than `value` then, and
/// no multiple.
pub(crate) fn align_up(value: u64, alignment: u64) -> Option<u64> {
    let mask = alignment.saturating_sub(1);
    value.checked_add(mask).map(|sum| sum & !mask)
}
