//! Where the names of a string table end.
//!
//! The length of each symbol's name is needed more than once, and searching for its end each time is what most of
//! the work on symbols came to. Here the whole table is searched once, eight bytes a step, and after that a length
//! is a few instructions and no branch that depends on it.

use alloc::vec::Vec;

use super::error::ImageError;

/// Bytes that a name may have: as many as Linux has room for (include/linux/kallsyms.h:KSYM_NAME_LEN), rounded to what
/// is quickly checked.
pub(super) const LONGEST_NAME: usize = 512;

/// A bit for each byte of a string table: set where the byte is NUL.
#[derive(Clone, Debug)]
pub(crate) struct NameEnds {
    /// One word more than the table has bits, so that two neighbours can always be read.
    words: Vec<u64>,
}

impl NameEnds {
    pub(super) fn of(strings: &[u8]) -> Result<NameEnds, ImageError> {
        let mut words = Vec::new();
        words.try_reserve_exact(strings.len() / 64 + 2).map_err(|_| ImageError::OutOfMemory)?;
        let (pieces, rest) = strings.as_chunks::<64>();
        words.extend(pieces.iter().map(nuls));
        let mut last = [1; 64];
        last[..rest.len()].copy_from_slice(rest);
        // Room for both was reserved; the last one ends what the table itself does not.
        words.push(nuls(&last));
        words.push(u64::MAX);
        Ok(NameEnds { words })
    }

    /// Where a name may begin that has more than [`LONGEST_NAME`] bytes: names may share their ends, so a file could
    /// otherwise have more bytes of names than anybody has memory.
    pub(super) fn long_name(&self) -> Option<u64> {
        let empty =
            self.words.windows(LONGEST_NAME / 64).position(|words| words.iter().all(|&word| word == 0));
        empty.map(|word| word as u64 * 64)
    }

    /// Bytes from `offset` to the next NUL. The table ends with one, so there always is.
    #[inline(always)]
    pub(crate) fn length(&self, offset: u32) -> usize {
        let (word, bit) = (offset as usize / 64, offset % 64);
        match self.words.get(word..word + 2) {
            Some(&[low, high]) => match (low >> bit) | ((high << 1) << (63 - bit)) {
                0 => self.length_of_long(offset),
                ends => ends.trailing_zeros() as usize,
            },
            _ => 0,
        }
    }

    #[cold]
    fn length_of_long(&self, offset: u32) -> usize {
        let skipped = 64 - offset as usize % 64;
        let words = self.words.iter().skip(offset as usize / 64 + 1);
        let empty = words.clone().take_while(|&&word| word == 0).count();
        let last = self.words.get(offset as usize / 64 + 1 + empty).copied().unwrap_or_default();
        skipped + empty * 64 + last.trailing_zeros() as usize
    }
}

/// The bit of each byte that is zero.
fn nuls(piece: &[u8; 64]) -> u64 {
    const LOW_BITS: u64 = u64::from_ne_bytes([0x7f; 8]);
    let mut bits = [0; 8];
    for (word, bits) in piece.as_chunks::<8>().0.iter().zip(&mut bits) {
        let word = u64::from_le_bytes(*word);
        // The high bit of each zero byte, then all eight in a row.
        let zeros = !(((word & LOW_BITS) + LOW_BITS) | word | LOW_BITS);
        *bits = ((zeros >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    }
    u64::from_le_bytes(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::string_at;

    #[test]
    fn lengths_are_those_that_a_search_finds() {
        let mut strings = Vec::new();
        for length in (0..200).chain([1000, 64, 63, 0, 0, 128]) {
            strings.extend((0..length).map(|index| (index as u8) | 1));
            strings.push(0);
            let ends = NameEnds::of(&strings).unwrap();
            for offset in 0..strings.len() as u32 {
                assert_eq!(ends.length(offset), string_at(&strings, offset).len());
            }
        }
    }
}
