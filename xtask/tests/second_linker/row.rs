//! What is known of a relocation number, independently of the table under test.

use crate::range::Range;

/// What a relocation's value is counted from. S is the symbol's value, A the addend, P the address of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// From nothing: the relocation has no value.
    Nothing,
    /// S + A
    FromZero,
    /// S + A - P
    FromPlace,
}

/// A relocation number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) number: u32,
    /// Its name in the psABI.
    pub(crate) name: &'static str,
    pub(crate) counted: Counted,
    /// The values that Linux takes.
    pub(crate) linux: Range,
    /// The values that the second linker takes.
    pub(crate) ld: Range,
    /// Why these differ.
    pub(crate) because: &'static str,
    /// The difference between one value and the next that can be told from it.
    pub(crate) step: i64,
    /// What the field holds before: an instruction, or nothing. Its length is that of the field.
    pub(crate) field: &'static [u8],
    /// Whether the field may lie at any address.
    pub(crate) unaligned: bool,
}

/// A number of which both linkers take the same values, for a field of any alignment.
pub(crate) const fn row(
    number: u32,
    name: &'static str,
    counted: Counted,
    field: &'static [u8],
    fits: Range,
) -> Row {
    Row { number, name, counted, linux: fits, ld: fits, because: "", step: 1, field, unaligned: true }
}

impl Row {
    /// The second linker takes other values than Linux.
    pub(crate) const fn ld_takes(mut self, ld: Range, because: &'static str) -> Row {
        (self.ld, self.because) = (ld, because);
        self
    }

    /// Values to try: the ends of both ranges and one step beyond, and some that are typical.
    pub(crate) fn values(&self, word_bits: u32) -> Vec<i64> {
        const PATTERN: i64 = 0x5a3c_96f0_1234_8765;
        if self.counted == Counted::Nothing {
            return vec![0];
        }
        let step = self.step;
        let mut values = vec![0, step, -step, 7 * step, -7 * step];
        for range in [self.linux, self.ld] {
            let ends = range.ends(step);
            values.extend(ends.iter().flatten().flat_map(|&end| [end - step, end, end + step]));
        }
        // Where each bit is told from its neighbours: of every size that fits, and of some that do not.
        values.extend((0..4).map(|bytes| (PATTERN >> (bytes * 16)) / step * step));
        values.extend((0..4).map(|bytes| (!PATTERN >> (bytes * 16)) / step * step));
        let ends = [i64::from(i32::MIN), i64::from(i32::MAX), i64::from(u32::MAX), i64::MIN, i64::MAX];
        values.extend(ends.map(|end| end / step * step));
        values.retain(|&value| word_bits == 64 || i32::try_from(value).is_ok());
        values.sort_unstable();
        values.dedup();
        values
    }
}
