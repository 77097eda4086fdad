//! Moving sections to their places (main.c:move_module).

use super::placement::Placement;
use crate::image::{Image, Section};
use crate::layout::{MemoryKind, PerKind};
use crate::space::Block;

/// Copies sections, in file order, and zeroes what no section covers, where the block was not zero to begin with.
pub(super) struct Copier<'i, 'a> {
    image: &'i Image<'a>,
    /// Up to where each memory has been filled.
    filled: PerKind<usize>,
}

impl<'i, 'a> Copier<'i, 'a> {
    pub(super) fn new(image: &'i Image<'a>) -> Copier<'i, 'a> {
        Copier { image, filled: PerKind::default() }
    }

    /// Copies a section if it is loaded and no symbol table, which are written elsewhere; tells whether it was.
    pub(super) fn copy<B: Block>(&mut self, section: &Section<'_>, placement: &mut Placement<B>) -> bool {
        let tables = [self.image.known().symtab, self.image.symbols().strings_section()];
        let place = match placement.layout().place(section.index()) {
            Some(place) if !tables.contains(&section.index()) => place,
            _ => return false,
        };
        let shape = placement.layout().shape(section);
        let start = place.offset as usize;
        let filled = &mut self.filled[place.kind];
        let zeroed = placement.was_zeroed(place.kind);
        let bytes = placement.bytes_mut(place.kind);
        // Sections of one memory come in ascending order.
        if let Some(gap) = bytes.get_mut(*filled..start).filter(|_| !zeroed) {
            gap.fill(0);
        }
        // A NOBITS section is zeroed with the gap before the next one.
        let data = if shape.in_file { section.data() } else { &[] };
        if let Some(to) = bytes.get_mut(start..start + data.len()) {
            to.copy_from_slice(data);
        }
        *filled = start + data.len();
        true
    }

    /// Zeroes the rest.
    pub(super) fn finish<B: Block>(self, placement: &mut Placement<B>) {
        zero_tails(placement, &self.filled);
    }
}

/// Zeroes what lies behind the sections, except where the symbol tables will be written.
fn zero_tails<B: Block>(placement: &mut Placement<B>, filled: &PerKind<usize>) {
    let layout = placement.layout();
    let used = |kind| layout.memories()[kind].used as usize;
    let mut tables = PerKind::from_fn(|kind| used(kind)..used(kind));
    if let Some(kallsyms) = layout.kallsyms() {
        tables[MemoryKind::Data].start = kallsyms.core_symbols as usize;
        tables[MemoryKind::InitData].start = kallsyms.init_symbols as usize;
    }
    for (kind, table) in tables.iter() {
        if placement.was_zeroed(kind) {
            continue;
        }
        let bytes = placement.bytes_mut(kind);
        for gap in [filled[kind]..table.start, table.end..bytes.len()] {
            if let Some(gap) = bytes.get_mut(gap) {
                gap.fill(0);
            }
        }
    }
}
