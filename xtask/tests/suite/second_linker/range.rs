//! Which values fit a field.

use std::fmt;

/// Values that a linker takes, in bytes as a relocation computes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// Any; what does not fit is cut off.
    Any,
    /// From the first to the second, both included.
    Between(i64, i64),
    /// The same, even ones only.
    EvenBetween(i64, i64),
}

/// What a signed field of that many bits takes.
pub(crate) const fn signed(bits: u32) -> Range {
    Range::Between(-1 << (bits - 1), (1 << (bits - 1)) - 1)
}

/// What an unsigned field of that many bits takes.
pub(crate) const fn unsigned(bits: u32) -> Range {
    Range::Between(0, (1 << bits) - 1)
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Range::Any => f.write_str("any value"),
            Range::Between(low, high) => write!(f, "{low} to {high}"),
            Range::EvenBetween(low, high) => write!(f, "even values from {low} to {high}"),
        }
    }
}

impl Range {
    pub(crate) fn takes(self, value: i64) -> bool {
        match self {
            Range::Any => true,
            Range::Between(low, high) => (low..=high).contains(&value),
            Range::EvenBetween(low, high) => (low..=high).contains(&value) && value % 2 == 0,
        }
    }

    /// The smallest and the largest multiple of `step` that fits.
    pub(crate) fn ends(self, step: i64) -> Option<[i64; 2]> {
        match self {
            Range::Any => None,
            Range::Between(low, high) | Range::EvenBetween(low, high) => {
                Some([-(-low).div_euclid(step) * step, high.div_euclid(step) * step])
            }
        }
    }

    /// What is left of a value in a field of this range.
    pub(crate) fn wrap(self, value: i64) -> i64 {
        match self {
            Range::Any => value,
            Range::Between(low, high) => value.wrapping_sub(low).rem_euclid(high - low + 1) + low,
            Range::EvenBetween(low, high) => value.wrapping_sub(low).rem_euclid(high - low + 2) + low,
        }
    }
}
