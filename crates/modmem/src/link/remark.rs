//! What Linux lets pass that whoever loads a module should know of.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::error::LinkError;

/// Something about a module that is odd and does not keep Linux from loading it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remark {
    /// The module has versions, but none for some of its symbols. Linux says so once and goes on.
    NoVersions {
        /// The first of these symbols.
        first: Box<str>,
        /// How many there are.
        count: usize,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::NoVersions { first, count } => {
                write!(f, "no symbol version for {first}")?;
                if *count > 1 {
                    write!(f, " and {} more", count - 1)?;
                }
                f.write_str("; Linux warns once and does not compare")
            }
        }
    }
}

/// Adds a remark.
pub(super) fn note(remarks: &mut Vec<Remark>, remark: Remark) -> Result<(), LinkError> {
    remarks.try_reserve(1).map_err(|_| LinkError::OutOfMemory)?;
    remarks.push(remark);
    Ok(())
}
