//! `object`'s typed tables: how long it takes to read everything that a loader must read.

use crate::arena::Arena;
use crate::contender::{Contender, Loaded};
use crate::files::File;
use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, Rela, SectionHeader, Sym};
use std::hint::black_box;

/// Parses only.
#[derive(Debug)]
pub(crate) struct ObjectTables;

impl Contender for ObjectTables {
    fn name(&self) -> &str {
        "object 0.40"
    }

    fn note(&self) -> &str {
        "parses only: reads every section header, symbol and relocation"
    }

    fn load_all(&mut self, files: &[File], _arena: &mut Arena) -> Loaded {
        let mut loaded = Loaded::default();
        for file in files {
            loaded.count(
                file,
                parse(file.bytes()).map(|sum| {
                    black_box(sum);
                }),
            );
        }
        loaded
    }
}

/// A sum over all fields that a loader uses, so that none is left unread.
fn parse(data: &[u8]) -> object::read::Result<u64> {
    let header = FileHeader64::<LittleEndian>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let mut sum = 0_u64;
    for section in sections.iter() {
        sum = sum
            .wrapping_add(section.sh_flags(endian).0)
            .wrapping_add(section.sh_size(endian))
            .wrapping_add(section.sh_addralign(endian));
        let Some((relocations, _)) = section.rela(endian, data)? else {
            continue;
        };
        for relocation in relocations {
            sum = sum
                .wrapping_add(relocation.r_offset(endian))
                .wrapping_add(relocation.r_info.get(endian))
                .wrapping_add(relocation.r_addend(endian) as u64);
        }
    }
    for symbol in sections.symbols(endian, data, elf::SHT_SYMTAB)?.iter() {
        sum = sum
            .wrapping_add(u64::from(symbol.st_shndx(endian).0))
            .wrapping_add(u64::from(symbol.st_name(endian)))
            .wrapping_add(symbol.st_value(endian));
    }
    Ok(sum)
}
