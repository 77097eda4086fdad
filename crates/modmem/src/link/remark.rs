//! What Linux lets pass that whoever loads a module should know of.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::error::LinkError;
use crate::image::{Image, SectionLabel};
use crate::layout::Layout;

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
    /// The module is a live patch, and nobody told the kernel's symbols that it needs: what needs them is not relocated.
    UnknownInternalSymbols {
        /// The first of these symbols.
        first: Box<str>,
        /// How many relocations need one.
        count: usize,
    },
    /// Bytes stand behind the ELF file that are no signature. Linux takes the module for unsigned.
    BytesBehind {
        /// How many.
        bytes: u64,
    },
    /// A section asks for an alignment that it does not get: more than a page, or no power of two.
    Alignment {
        /// The section.
        section: SectionLabel,
        /// `sh_addralign`
        alignment: u64,
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
            Remark::UnknownInternalSymbols { first, count } => write!(
                f,
                "{count} relocations of livepatch are not applied: nothing tells whether the kernel has a symbol {first}"
            ),
            Remark::BytesBehind { bytes } => {
                let plural = if *bytes == 1 { "" } else { "s" };
                write!(
                    f,
                    "{bytes} byte{plural} behind the ELF file, and no signature (cut off while it was written?); Linux takes the module for unsigned"
                )
            }
            Remark::Alignment { section, alignment } if alignment.is_power_of_two() => write!(
                f,
                "{section}: alignment {alignment:#x} is larger than a page, which holds for its offset and not for its address"
            ),
            Remark::Alignment { section, alignment } => {
                write!(f, "{section}: alignment {alignment:#x} is no power of two; Linux takes it for a mask")
            }
        }
    }
}

/// Notes what the file and its layout are odd in.
pub(super) fn of_layout(
    image: &Image<'_>,
    layout: &Layout,
    remarks: &mut Vec<Remark>,
) -> Result<(), LinkError> {
    if image.bytes_behind() > 0 {
        note(remarks, Remark::BytesBehind { bytes: image.bytes_behind() })?;
    }
    for section in image.sections() {
        let alignment = layout.shape(section).alignment;
        let odd = alignment > layout.page_size() || !alignment.is_power_of_two();
        if odd && layout.place(section.index()).is_some() {
            note(remarks, Remark::Alignment { section: section.label(), alignment })?;
        }
    }
    Ok(())
}

/// Adds a remark.
pub(super) fn note(remarks: &mut Vec<Remark>, remark: Remark) -> Result<(), LinkError> {
    remarks.try_reserve(1).map_err(|_| LinkError::OutOfMemory)?;
    remarks.push(remark);
    Ok(())
}
