//! The word of a block: where in the block the value changes, and where its run of values begins.
//!
//! It is one word so that one store changes both.

use core::fmt;

use crate::address::AtomicCell;
use crate::memory::Zeroable;
use crate::sync::AtomicU32;
#[cfg(target_has_atomic = "64")]
use crate::sync::AtomicU64;

/// The widest word that the target can store at once.
#[cfg(target_has_atomic = "64")]
pub(super) type Native = u64;
#[cfg(not(target_has_atomic = "64"))]
pub(super) type Native = u32;

/// A block's word. Zero is a block of which nobody owns anything.
pub(super) trait Word: Copy + Eq + fmt::Debug + 'static {
    /// The atomic of this width.
    type Atomic: AtomicCell<Self> + Zeroable + fmt::Debug + Send + Sync;
    /// Pages of a block.
    const PAGES: usize;
    /// Where the last run begins that a word can name.
    const LAST_RUN: u32;
    /// Nobody owns anything.
    const EMPTY: Self;

    /// A word of these change bits (bit 0 clear, none above [`Word::PAGES`]) and the run that begins at that even index.
    fn new(changes: u32, run: u32) -> Self;

    /// Bit `n` is set if page `n` has another value than page `n - 1`, or begins another range.
    fn changes(self) -> u32;

    /// Where the run begins: the value of page 0.
    fn run(self) -> u32;
}

#[cfg(target_has_atomic = "64")]
impl Word for u64 {
    type Atomic = AtomicU64;
    const PAGES: usize = 32;
    const LAST_RUN: u32 = u32::MAX - 1;
    const EMPTY: u64 = 0;

    fn new(changes: u32, run: u32) -> u64 {
        u64::from(run) << 32 | u64::from(changes)
    }

    #[inline]
    fn changes(self) -> u32 {
        self as u32
    }

    #[inline]
    fn run(self) -> u32 {
        (self >> 32) as u32
    }
}

/// Half as many pages, and runs counted in twos, so that 131,072 values can be named.
impl Word for u32 {
    type Atomic = AtomicU32;
    const PAGES: usize = 16;
    const LAST_RUN: u32 = 2 * 0xffff;
    const EMPTY: u32 = 0;

    fn new(changes: u32, run: u32) -> u32 {
        (run / 2) << 16 | changes
    }

    #[inline]
    fn changes(self) -> u32 {
        self & 0xffff
    }

    #[inline]
    fn run(self) -> u32 {
        self >> 16 << 1
    }
}
