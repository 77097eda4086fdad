//! Recomputes, with a parser of its own, what every contender should have written.

use crate::arena::Arena;
use crate::contender::{Place, Placements};
use crate::files::File;
use crate::names::Names;
use object::LittleEndian;
use object::elf::{self, FileHeader64, RelocationType};
use object::read::elf::{FileHeader, Rela, SectionHeader, Sym};
use std::collections::BTreeMap;

/// What was found in all modules.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Modules that were loaded.
    pub(crate) modules: usize,
    /// Relocated fields that hold what they should.
    pub(crate) right: u64,
    /// Relocated fields that do not, by relocation type.
    pub(crate) wrong: BTreeMap<u32, u64>,
    /// Relocations that cannot be judged: in a section that the contender did not place, or against a symbol in
    /// such a section.
    pub(crate) unplaced: u64,
    /// Bytes outside of relocated fields that differ from the file.
    pub(crate) stray: u64,
}

impl Verdict {
    /// One line.
    pub(crate) fn text(&self) -> String {
        let wrong: u64 = self.wrong.values().sum();
        let mut text = format!("{} fields right, {wrong} wrong", self.right);
        if wrong != 0 {
            let types: Vec<_> = self.wrong.iter().map(|(kind, n)| format!("type {kind}: {n}")).collect();
            text += &format!(" ({})", types.join(", "));
        }
        if self.unplaced != 0 {
            text += &format!(", {} in or against sections that it does not place", self.unplaced);
        }
        text + &format!(", {} other bytes changed", self.stray)
    }
}

/// Checks every module that was placed.
pub(crate) fn verify(
    files: &[File],
    arena: &Arena,
    placements: &Placements,
) -> object::read::Result<Verdict> {
    let mut verdict = Verdict::default();
    let memory = &arena.bytes()[..arena.used()];
    for (file, places) in files.iter().zip(&placements.modules) {
        if let Some(places) = places {
            verdict.modules += 1;
            verify_module(file.bytes(), places, memory, &placements.names, &mut verdict)?;
        }
    }
    Ok(verdict)
}

fn verify_module(
    data: &[u8],
    places: &[Option<Place>],
    memory: &[u8],
    names: &Names,
    verdict: &mut Verdict,
) -> object::read::Result<()> {
    let header = FileHeader64::<LittleEndian>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let symbols = sections.symbols(endian, data, elf::SHT_SYMTAB)?;
    let place = |index: usize| places.get(index).copied().flatten();

    // What each placed section should hold, and which of its bytes belong to relocated fields.
    let mut images = BTreeMap::new();
    for (index, section) in sections.iter().enumerate() {
        let size = section.sh_size(endian);
        let Some(Place { address, start: Some(start) }) = place(index) else {
            continue;
        };
        let Some(actual) = start.checked_add(size as usize).and_then(|end| memory.get(start..end)) else {
            continue;
        };
        let bytes = match section.sh_type(endian) {
            elf::SHT_NOBITS => vec![0; size as usize],
            _ => section.data(endian, data)?.to_vec(),
        };
        images.insert(index, (address, bytes, actual));
    }

    for section in sections.iter() {
        let Some((relocations, _)) = section.rela(endian, data)? else {
            continue;
        };
        let target = section.sh_info(endian) as usize;
        if !sections.section(object::SectionIndex(target))?.sh_flags(endian).contains(elf::SHF_ALLOC) {
            continue;
        }
        let Some((address, expected, actual)) = images.get_mut(&target) else {
            verdict.unplaced += relocations.len() as u64;
            continue;
        };
        for relocation in relocations {
            let kind = relocation.r_type(endian, false);
            let symbol = symbols.symbol(object::SymbolIndex(relocation.r_sym(endian, false) as usize))?;
            let value = match symbol.st_shndx(endian) {
                elf::SHN_UNDEF => Some(names.get(symbol.name(endian, symbols.strings())?).unwrap_or(0)),
                elf::SHN_ABS => Some(symbol.st_value(endian)),
                index => {
                    place(usize::from(index.0)).map(|at| at.address.wrapping_add(symbol.st_value(endian)))
                }
            };
            let offset = relocation.r_offset(endian);
            let start = offset as usize;
            let Some(value) = value else {
                verdict.unplaced += 1;
                // Whatever is there is no stray byte.
                let end = start + width(kind);
                expected[start..end].copy_from_slice(&actual[start..end]);
                continue;
            };
            let value = value.wrapping_add(relocation.r_addend(endian) as u64);
            let distance = value.wrapping_sub(address.wrapping_add(offset));
            let (value, fits) = match kind {
                elf::R_X86_64_NONE => continue,
                elf::R_X86_64_64 => (value, true),
                elf::R_X86_64_PC64 => (distance, true),
                elf::R_X86_64_32 => (value, u64::from(value as u32) == value),
                elf::R_X86_64_32S => (value, value as i32 as u64 == value),
                elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => (distance, distance as i32 as u64 == distance),
                // No module has another; if one does, whatever was written is wrong.
                _ => (0, false),
            };
            let end = start + width(kind);
            let bytes = &value.to_le_bytes()[..width(kind)];
            if fits && actual[start..end] == *bytes {
                verdict.right += 1;
            } else {
                *verdict.wrong.entry(kind.0).or_default() += 1;
            }
            expected[start..end].copy_from_slice(&actual[start..end]);
        }
    }
    for (_, expected, actual) in images.values() {
        if expected != actual {
            verdict.stray += expected.iter().zip(*actual).filter(|(a, b)| a != b).count() as u64;
        }
    }
    Ok(())
}

fn width(kind: RelocationType) -> usize {
    if matches!(kind, elf::R_X86_64_64 | elf::R_X86_64_PC64) { 8 } else { 4 }
}
