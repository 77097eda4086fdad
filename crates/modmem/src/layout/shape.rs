//! Section headers as the loader lays them out: on some machines it makes room for tables of its own first
//! (main.c:layout_and_allocate calls module_frob_arch_sections).

use alloc::vec::Vec;

use super::LayoutError;
use crate::image::{Image, Section};

/// A section as it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// `sh_flags`
    pub flags: u64,
    /// Bytes in memory.
    pub size: u64,
    /// `sh_addralign`
    pub alignment: u64,
    /// Whether the file has its bytes; otherwise they are zero when the section has been copied.
    pub in_file: bool,
}

impl Shape {
    /// The section as the file has it.
    pub fn of(section: &Section<'_>) -> Shape {
        let (flags, size, alignment) = (section.flags(), section.size(), section.alignment());
        Shape { flags, size, alignment, in_file: true }
    }
}

/// An entry of a table that the loader makes, for one symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The symbol's index.
    pub(crate) symbol: u32,
    /// Whether a relocation that the loader applies needs it. Others are counted, and their entries stay empty.
    pub(crate) used: bool,
}

/// What a machine changes about a module before it is laid out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shapes {
    /// Sections with headers of their own; few.
    sections: Vec<(usize, Shape)>,
    /// Bytes of a table of addresses, and of a table of stubs behind it, that Text begins with.
    pub(crate) got_size: u64,
    pub(crate) plt_size: u64,
    /// Whose entries these tables have, in order.
    pub(crate) got: Vec<Slot>,
    pub(crate) plt: Vec<Slot>,
}

impl Shapes {
    /// Gives a section another header.
    pub(crate) fn set(&mut self, section: &Section<'_>, shape: Shape) -> Result<(), LayoutError> {
        match self.sections.iter_mut().find(|(index, _)| *index == section.index()) {
            Some((_, known)) => *known = shape,
            None => {
                self.sections.try_reserve(1).map_err(|_| LayoutError::OutOfMemory)?;
                self.sections.push((section.index(), shape));
            }
        }
        Ok(())
    }

    /// A section's header.
    #[inline]
    pub(crate) fn of(&self, section: &Section<'_>) -> Shape {
        let known = self.sections.iter().find(|(index, _)| *index == section.index());
        known.map_or_else(|| Shape::of(section), |&(_, shape)| shape)
    }

    /// Bytes that Text begins with, before its first section.
    pub(crate) fn head(&self) -> u64 {
        self.got_size + self.plt_size
    }

    /// The sections with headers of their own.
    pub(crate) fn reshaped<'i, 'a>(
        &self,
        image: &'i Image<'a>,
    ) -> impl Iterator<Item = (&'i Section<'a>, Shape)> {
        self.sections.iter().filter_map(|&(index, shape)| Some((image.sections().get(index)?, shape)))
    }
}
