//! A machine whose relocations are compared.

use modmem::Profile;
use modmem::link::Relocations;

use crate::row::Row;
use crate::support::Elf;

/// A machine, its table under test, and what is known of each number.
#[derive(Debug)]
pub(crate) struct Target {
    /// As Linux calls it.
    pub(crate) name: &'static str,
    /// What the names of its binutils begin with.
    pub(crate) prefix: &'static str,
    /// Debian's package that has them.
    pub(crate) package: &'static str,
    /// Where the first memory of a module lies; the others follow.
    pub(crate) base: u64,
    pub(crate) profile: Profile,
    pub(crate) table: &'static Relocations,
    pub(crate) rows: Vec<Row>,
    /// A file of this machine without sections.
    pub(crate) file: fn() -> Elf,
}

impl Target {
    /// Bits of an address.
    pub(crate) fn word_bits(&self) -> u32 {
        if (self.file)().is_64 { 64 } else { 32 }
    }

    /// An address as this machine has it.
    pub(crate) fn cut(&self, address: i64) -> u64 {
        if self.word_bits() == 64 { address as u64 } else { u64::from(address as u32) }
    }
}
