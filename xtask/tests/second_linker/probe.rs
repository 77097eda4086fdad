//! Probes: one field each, with one relocation that shall have one value.

use crate::row::{Counted, Row};
use crate::target::Target;

/// Bytes of the test section that a probe has for itself; what lies around its field must stay as it is.
pub(crate) const SLOT: usize = 16;

/// What bytes around fields hold.
pub(crate) const FILLER: u8 = 0xa5;

/// A relocation at a place, against a symbol of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe<'t> {
    pub(crate) row: &'t Row,
    /// What the relocation shall compute.
    pub(crate) value: i64,
    pub(crate) addend: i64,
    /// Where its slot starts in the test section.
    pub(crate) slot: usize,
    /// Where its field starts in the test section.
    pub(crate) offset: usize,
}

impl<'t> Probe<'t> {
    /// All probes of a machine. With `Linux` taking the value or not: both are among them.
    pub(crate) fn all(target: &'t Target) -> Vec<Probe<'t>> {
        const ADDENDS: [i64; 7] = [0, -4, 4, 0x7fff_f000, -0x7fff_f000, 0x1238, -0x1238];
        let mut probes: Vec<Probe<'_>> = Vec::new();
        for row in &target.rows {
            for value in row.values(target.word_bits()) {
                let number = probes.len();
                let slot = number * SLOT;
                let within = if row.unaligned { number % 5 } else { 4 };
                let addend = ADDENDS[number % ADDENDS.len()];
                probes.push(Probe { row, value, addend, slot, offset: slot + within });
            }
        }
        probes
    }

    /// Whether Linux takes the value.
    pub(crate) fn is_taken(&self) -> bool {
        self.row.linux.takes(self.value)
    }

    /// The value of the symbol that makes the relocation compute `value`.
    pub(crate) fn symbol_for(&self, value: i64, target: &Target, section: u64) -> u64 {
        let place = section.wrapping_add(self.offset as u64) as i64;
        let sum = match self.row.counted {
            Counted::Nothing | Counted::FromZero => value,
            Counted::FromPlace => value.wrapping_add(place),
        };
        target.cut(sum.wrapping_sub(self.addend))
    }

    /// How failures name it.
    pub(crate) fn label(&self) -> String {
        format!("{} of {:#x} (addend {:#x})", self.row.name, self.value, self.addend)
    }
}
