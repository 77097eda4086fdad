//! Section headers as the loader lays them out: on some machines it makes room for tables of its own first
//! (main.c:layout_and_allocate calls module_frob_arch_sections).

use alloc::vec::Vec;

use super::LayoutError;
use crate::image::Section;

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
    /// Headers of their own that sections have, by index; as far as the last that has one.
    sections: Vec<Option<Shape>>,
    /// Bytes of a table of addresses, and of a table of stubs behind it, that Text begins with.
    pub(crate) got_size: u64,
    pub(crate) plt_size: u64,
    /// Whose entries these tables have, in order.
    pub(crate) got: Vec<Slot>,
    pub(crate) plt: Vec<Slot>,
    /// Bytes that the loader allocates for the module beside its memories, once they are linked.
    pub(crate) beside: u64,
}

impl Shapes {
    /// Gives a section another header.
    pub(crate) fn set(&mut self, section: &Section<'_>, shape: Shape) -> Result<(), LayoutError> {
        if let Some(missing) = (section.index() + 1).checked_sub(self.sections.len()) {
            self.sections.try_reserve(missing).map_err(|_| LayoutError::OutOfMemory)?;
            self.sections.resize(self.sections.len() + missing, None);
        }
        self.sections[section.index()] = Some(shape);
        Ok(())
    }

    /// A section's header.
    #[inline]
    pub(crate) fn of(&self, section: &Section<'_>) -> Shape {
        let known = self.sections.get(section.index()).copied().flatten();
        known.unwrap_or_else(|| Shape::of(section))
    }

    /// Bytes that Text begins with, before its first section.
    pub(crate) fn head(&self) -> u64 {
        self.got_size + self.plt_size
    }
}
