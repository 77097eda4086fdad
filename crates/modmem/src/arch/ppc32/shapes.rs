//! Sizes of the tables of stubs, `.plt` and `.init.plt`, before a module is laid out
//! (arch/powerpc/kernel/module_32.c:module_frob_arch_sections).

use alloc::vec::Vec;

use super::stubs::{CORE_TABLE, ENTRY, INIT_TABLE, is_counted};
use crate::image::elf::{Big32, section_type};
use crate::image::{Image, Relocation, Section};
use crate::layout::{LayoutError, Shape, Shapes};
use crate::profile::Profile;

/// R_PPC_REL24
const BRANCH: u32 = 10;

/// Makes room for a stub for each target that the branches of a relocation section have, wherever the targets will
/// lie, and for one of the tracer's with each section, whether it has branches or not.
pub(super) fn shapes(image: &Image<'_>, profile: &Profile) -> Result<Shapes, LayoutError> {
    let core = table(image, CORE_TABLE)?;
    let init = table(image, INIT_TABLE)?;
    let (mut core_entries, mut init_entries) = (0, 0);
    let mut targets = Targets::new(image.symbols().len())?;
    let tracer = u64::from(profile.switches.dynamic_ftrace);
    // Those of sections that stay in the file too: nothing but names is looked at.
    for section in image.sections().iter().filter(|section| section.kind() == section_type::RELA) {
        let name = section.name();
        if !is_counted(name) {
            continue;
        }
        let entries = if contains(name.bytes(), b".init") { &mut init_entries } else { &mut core_entries };
        *entries += targets.count(section.data())? + tracer;
    }
    let mut shapes = Shapes::default();
    for (section, entries) in [(core, core_entries), (init, init_entries)] {
        shapes.set(section, Shape { size: entries * ENTRY, in_file: false, ..Shape::of(section) })?;
    }
    Ok(shapes)
}

/// The section that Linux keeps a table in: the last of that name.
pub(super) fn find<'i, 'a>(image: &'i Image<'a>, name: &str) -> Option<&'i Section<'a>> {
    image.sections().iter().rev().find(|section| section.name() == name)
}

fn table<'i, 'a>(image: &'i Image<'a>, name: &'static str) -> Result<&'i Section<'a>, LayoutError> {
    find(image, name).ok_or(LayoutError::NoTable { section: name })
}

pub(super) fn contains(name: &[u8], part: &[u8]) -> bool {
    name.windows(part.len()).any(|window| window == part)
}

/// Counts different targets of branches. Linux sorts all relocations and compares neighbours
/// (module_32.c:count_relocs); here the first target of each symbol is remembered, and only further ones are sorted.
struct Targets {
    /// The section that a symbol was last seen in, and the addend with it.
    first: Vec<(u32, i32)>,
    others: Vec<(u32, i32)>,
    section: u32,
}

impl Targets {
    fn new(symbols: usize) -> Result<Targets, LayoutError> {
        let mut first = Vec::new();
        first.try_reserve_exact(symbols).map_err(|_| LayoutError::OutOfMemory)?;
        first.resize(symbols, (0, 0));
        Ok(Targets { first, others: Vec::new(), section: 0 })
    }

    /// The number of different targets that the branches of one relocation section have.
    fn count(&mut self, records: &[u8]) -> Result<u64, LayoutError> {
        self.section += 1;
        self.others.clear();
        let mut count = 0;
        let (mut nowhere, mut above) = (false, false);
        for record in records.chunks_exact(Relocation::size::<Big32>(true)) {
            let Relocation { kind, symbol, addend, .. } = Relocation::decode::<Big32, true>(record);
            let addend = addend as i32;
            if kind != BRANCH {
                continue;
            }
            nowhere |= (symbol, addend) == (0, 0);
            above |= (symbol, addend) > (0, 0);
            match self.first.get_mut(symbol as usize) {
                Some(first) if first.0 != self.section => {
                    *first = (self.section, addend);
                    count += 1;
                }
                Some(first) if first.1 == addend => {}
                // A symbol that there is none of too: sections that are never applied are counted as well.
                _ if self.others.last() == Some(&(symbol, addend)) => {}
                _ => {
                    self.others.try_reserve(1).map_err(|_| LayoutError::OutOfMemory)?;
                    self.others.push((symbol, addend));
                }
            }
        }
        self.others.sort_unstable();
        self.others.dedup();
        count += self.others.len() as u64;
        // Linux begins with a symbol 0 and an addend 0 in mind, and the largest come first.
        Ok(if nowhere && !above { count - 1 } else { count })
    }
}
