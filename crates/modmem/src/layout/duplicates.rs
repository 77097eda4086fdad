//! Sections of one name: each section that is loaded becomes a file of that name in sysfs, and where two would be one the
//! module is not loaded (kernel/module/sysfs.c:add_sect_attrs).

use alloc::vec::Vec;

use super::{Layout, LayoutError};
use crate::image::{Image, Section};
use crate::name;

/// Bits in which names leave a mark: most modules have so few sections that no two names share one.
const MARKS: usize = 4096;

pub(super) fn check(image: &Image<'_>, layout: &Layout) -> Result<(), LayoutError> {
    let shown =
        |section: &&Section<'_>| layout.place(section.index()).is_some() && layout.shape(section).size > 0;
    let mut marks = [0_u64; MARKS / 64];
    let mut apart = true;
    for section in image.sections().iter().filter(shown) {
        let mark = name::hash(&section.name()) as usize % MARKS;
        let (word, bit) = (&mut marks[mark / 64], 1 << (mark % 64));
        apart &= *word & bit == 0;
        *word |= bit;
    }
    if apart {
        return Ok(());
    }
    let mut sections: Vec<&Section<'_>> = Vec::new();
    sections.try_reserve_exact(image.sections().len()).map_err(|_| LayoutError::OutOfMemory)?;
    sections.extend(image.sections().iter().filter(shown));
    sections.sort_unstable_by_key(|section| (section.name(), section.index()));
    match sections.windows(2).find(|pair| pair[0].name() == pair[1].name()) {
        Some(&[first, second]) => {
            Err(LayoutError::DuplicateSections { first: first.label(), second: second.label() })
        }
        _ => Ok(()),
    }
}
