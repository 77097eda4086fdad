//! The kernel's own words: variables whose contents decide how the code of modules is patched.
//!
//! Each machine declares its own, once, in its folder. Who takes a snapshot captures all of them
//! ([`Machine::kernel_words`](super::Machine::kernel_words)), and rules read kernel variables through them alone
//! (xtask/tests/suite/house.rs holds the source to both).

#[cfg(feature = "finalize")]
use alloc::borrow::Cow;

#[cfg(feature = "finalize")]
use crate::address::RunAddr;
#[cfg(feature = "finalize")]
use crate::guest::Guest;
#[cfg(feature = "finalize")]
use crate::name::Name;

/// A variable of the kernel that belongs into a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelWord {
    /// Its symbol. Kernels that do not have it decide in another way.
    pub symbol: &'static str,
    /// The most bytes of it that are wanted: up to the next symbol, if that is nearer.
    pub most: u64,
    /// What it decides.
    pub decides: &'static str,
}

pub(super) const fn word(symbol: &'static str, most: u64, decides: &'static str) -> KernelWord {
    KernelWord { symbol, most, decides }
}

#[cfg(feature = "finalize")]
impl KernelWord {
    /// Where the guest has it.
    pub(super) fn address(&self, guest: &dyn Guest) -> Option<RunAddr> {
        guest.kernel_symbol(Name::from(self.symbol)).map(RunAddr)
    }

    /// Its first bytes in the guest; `None` where it has none, or they are not at hand.
    pub(super) fn bytes<'g>(&self, guest: &'g dyn Guest, length: usize) -> Option<Cow<'g, [u8]>> {
        guest.bytes(self.address(guest)?, length.min(self.most as usize))
    }
}
