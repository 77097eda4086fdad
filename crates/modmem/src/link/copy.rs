//! Moving sections to their places (main.c:move_module).

use super::placement::Placement;
use crate::image::Image;
use crate::layout::{MemoryKind, PerKind};
use crate::space::Block;

/// Copies every loaded section but the symbol tables, and zeroes what no section covers: Linux hands out zeroed
/// blocks, we zero only the gaps.
pub(super) fn sections<B: Block>(image: &Image<'_>, placement: &mut Placement<B>) {
    let known = image.known();
    let strings = image.symbols().strings_section();
    let mut filled = PerKind::<usize>::default();
    for section in image.sections() {
        let Some(place) = placement.layout().place(section.index()) else { continue };
        if section.index() == known.symtab || section.index() == strings {
            continue;
        }
        let start = place.offset as usize;
        let filled = &mut filled[place.kind];
        let bytes = placement.bytes_mut(place.kind);
        // Sections of one memory come in ascending order.
        if let Some(gap) = bytes.get_mut(*filled..start) {
            gap.fill(0);
        }
        // A NOBITS section is zeroed with the gap before the next one.
        let data = section.data();
        if let Some(to) = bytes.get_mut(start..start + data.len()) {
            to.copy_from_slice(data);
        }
        *filled = start + data.len();
    }
    zero_tails(placement, &filled);
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
        let bytes = placement.bytes_mut(kind);
        for gap in [filled[kind]..table.start, table.end..bytes.len()] {
            if let Some(gap) = bytes.get_mut(gap) {
                gap.fill(0);
            }
        }
    }
}
