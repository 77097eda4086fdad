//! Addresses of 32 and 64 bits, and extents of them.

use core::fmt;

#[cfg(target_has_atomic = "64")]
use crate::sync::AtomicU64;
use crate::sync::{AtomicU32, Ordering};

/// An address of the space that is indexed: `u32` or `u64`, whatever the host is.
pub trait Address: Copy + Ord + fmt::Debug + fmt::LowerHex + Send + Sync + sealed::Sealed + 'static {
    /// The first address.
    const ZERO: Self;
    /// The last address.
    const MAX: Self;
    /// Bits of an address.
    const BITS: u32;

    /// `self - other`, modulo the size of the space.
    #[must_use]
    fn wrapping_sub(self, other: Self) -> Self;

    /// `self + other`, unless that lies beyond the top of the space.
    fn checked_add(self, other: Self) -> Option<Self>;

    /// `self >> shift` as an index, saturated where the host's `usize` is too small for it. `shift` is below
    /// [`Address::BITS`].
    fn page(self, shift: u32) -> usize;

    /// The low `shift` bits. `shift` is below 32.
    fn offset_in_page(self, shift: u32) -> u32;

    /// As a number.
    fn to_u64(self) -> u64;

    /// From a number; its high bits are dropped where the space has fewer.
    fn from_u64(value: u64) -> Self;
}

/// An address that can be read while it is written.
///
/// Every target has it for `u32`; for `u64` only those with 64-bit atomics, so that a 32-bit kernel uses its own
/// 32-bit addresses, and `PageMap`, which never stores an address, is free of it.
pub trait AtomicAddress: Address {
    /// The atomic of this width.
    type Atomic: AtomicCell<Self> + Send + Sync + fmt::Debug;
}

/// Loads and stores of one atomic.
pub trait AtomicCell<T> {
    /// An atomic that holds `value`.
    fn new(value: T) -> Self;
    /// Reads with that ordering.
    fn load(&self, ordering: Ordering) -> T;
    /// Writes with that ordering.
    fn store(&self, value: T, ordering: Ordering);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

macro_rules! address {
    ($int:ty) => {
        impl Address for $int {
            const ZERO: Self = 0;
            const MAX: Self = <$int>::MAX;
            const BITS: u32 = <$int>::BITS;

            #[inline]
            fn wrapping_sub(self, other: Self) -> Self {
                <$int>::wrapping_sub(self, other)
            }

            #[inline]
            fn checked_add(self, other: Self) -> Option<Self> {
                <$int>::checked_add(self, other)
            }

            #[inline]
            fn page(self, shift: u32) -> usize {
                usize::try_from(self >> shift).unwrap_or(usize::MAX)
            }

            #[inline]
            fn offset_in_page(self, shift: u32) -> u32 {
                (self as u32) & ((1_u32 << shift) - 1)
            }

            #[inline]
            fn to_u64(self) -> u64 {
                self.into()
            }

            #[inline]
            fn from_u64(value: u64) -> Self {
                value as Self
            }
        }
    };
}

macro_rules! atomic_address {
    ($int:ty, $atomic:ty) => {
        impl AtomicAddress for $int {
            type Atomic = $atomic;
        }

        impl AtomicCell<$int> for $atomic {
            fn new(value: $int) -> Self {
                <$atomic>::new(value)
            }

            #[inline]
            fn load(&self, ordering: Ordering) -> $int {
                <$atomic>::load(self, ordering)
            }

            #[inline]
            fn store(&self, value: $int, ordering: Ordering) {
                <$atomic>::store(self, value, ordering)
            }
        }
    };
}

address!(u32);
address!(u64);
atomic_address!(u32, AtomicU32);
#[cfg(target_has_atomic = "64")]
atomic_address!(u64, AtomicU64);

/// `size` addresses from `start` on. Unlike a `Range` it can reach up to the last address of the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent<A> {
    /// The first address.
    pub start: A,
    /// How many there are.
    pub size: A,
}

impl<A: Address> Extent<A> {
    /// `size` addresses from `start` on; `None` if there are none or they would wrap around the top of the space.
    pub fn new(start: A, size: A) -> Option<Extent<A>> {
        let extent = Extent { start, size };
        extent.last().map(|_| extent)
    }

    /// From the first address to the last one.
    pub(crate) fn between(first: u64, last: u64) -> Extent<A> {
        Extent { start: A::from_u64(first), size: A::from_u64(last - first + 1) }
    }

    /// The last address; `None` if the extent is empty or wraps around the top of the space.
    pub fn last(self) -> Option<A> {
        if self.size == A::ZERO {
            return None;
        }
        self.start.checked_add(A::from_u64(self.size.to_u64() - 1))
    }

    /// Whether `address` is one of them.
    pub fn contains(self, address: A) -> bool {
        address.wrapping_sub(self.start) < self.size
    }
}
