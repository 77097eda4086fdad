//! The limit of copying: the bytes that stay, moved and nothing else.

use crate::arena::Arena;
use crate::contender::{Contender, Loaded};
use crate::elf::{self, FileHeader, SHF_ALLOC, SHT_NOBITS, Section};
use crate::files::File;
use std::ops::Range;

/// The ranges to copy are found before the clock starts.
#[derive(Debug)]
pub(crate) struct Memcpy {
    /// For each file: its ranges.
    ranges: Vec<Vec<Range<usize>>>,
}

impl Memcpy {
    /// Looks up what to copy.
    pub(crate) fn new(files: &[File]) -> Self {
        Self { ranges: files.iter().map(|file| ranges(file.bytes()).unwrap_or_default()).collect() }
    }
}

fn ranges(file: &[u8]) -> Option<Vec<Range<usize>>> {
    let header = elf::table::<FileHeader>(file, 0, size_of::<FileHeader>() as u64)?.first()?;
    let size = u64::from(header.section_header_count) * size_of::<Section>() as u64;
    let sections = elf::table::<Section>(file, header.section_headers, size)?;
    let kept = sections.iter().filter(|s| s.flags & SHF_ALLOC != 0 && s.kind != SHT_NOBITS);
    Some(kept.map(|s| s.offset as usize..(s.offset + s.size) as usize).collect())
}

impl Contender for Memcpy {
    fn name(&self) -> &str {
        "memcpy"
    }

    fn note(&self) -> &str {
        "copies the SHF_ALLOC bytes; no parsing, no layout"
    }

    fn load_all(&mut self, files: &[File], arena: &mut Arena) -> Loaded {
        let mut loaded = Loaded::default();
        for (file, ranges) in files.iter().zip(&self.ranges) {
            loaded.count(file, copy(file.bytes(), ranges, arena).ok_or("the arena is full"));
        }
        loaded
    }
}

fn copy(file: &[u8], ranges: &[Range<usize>], arena: &mut Arena) -> Option<()> {
    let mut at = arena.take(ranges.iter().map(|range| range.len()).sum())?;
    for range in ranges {
        let end = at + range.len();
        arena.bytes_mut()[at..end].copy_from_slice(&file[range.clone()]);
        at = end;
    }
    Some(())
}
