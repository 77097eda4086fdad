//! A machine whose relocations are compared.

use modmem::Profile;
use modmem::link::Relocations;

use crate::second_linker::ours::Linked;
use crate::second_linker::probe::Probe;
use crate::second_linker::row::Row;
use crate::support::{Elf, Section};

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
    pub(crate) file: Elf,
    /// Sections that its modules have for the loader to fill.
    pub(crate) sections: Vec<Section>,
    /// Where the tables are that the loader makes before the text, and what each probe has in them.
    pub(crate) tables: fn(base: u64, probes: &[Probe<'_>]) -> Tables,
    /// Addresses of the stubs that a linked module has, and where each leads.
    pub(crate) stubs: fn(&Linked) -> Vec<(u64, u64)>,
}

/// The loader's tables of a module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    /// The start of the table of addresses.
    pub(crate) got: u64,
    /// The entry and the stub of each probe's symbol.
    pub(crate) slots: Vec<Slot>,
}

/// What a symbol has in the loader's tables: addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) entry: u64,
    pub(crate) stub: u64,
}

/// For machines whose loader makes none.
pub(crate) fn no_tables(_: u64, probes: &[Probe<'_>]) -> Tables {
    Tables { got: 0, slots: vec![Slot::default(); probes.len()] }
}

impl Target {
    /// Bits of an address.
    pub(crate) fn word_bits(&self) -> u32 {
        if self.file.is_64 { 64 } else { 32 }
    }

    /// An address as this machine has it.
    pub(crate) fn cut(&self, address: i64) -> u64 {
        if self.file.is_64 { address as u64 } else { u64::from(address as u32) }
    }

    /// A word of its bytes.
    pub(crate) fn word(&self, bytes: &[u8]) -> u64 {
        let shift = |word: u64, byte: &u8| word << 8 | u64::from(*byte);
        if self.file.big { bytes.iter().fold(0, shift) } else { bytes.iter().rev().fold(0, shift) }
    }

    /// The bytes of a word.
    pub(crate) fn bytes(&self, (size, word): (usize, u64)) -> Vec<u8> {
        match self.file.big {
            true => word.to_be_bytes()[8 - size..].to_vec(),
            false => word.to_le_bytes()[..size].to_vec(),
        }
    }
}
