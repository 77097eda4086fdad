//! The kernel's memory through `/proc/kcore`: an ELF core file whose segments are ranges of addresses.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::Path,
};

use object::{
    Endianness,
    elf::{FileHeader32, FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader as _},
};

use super::scan::{Scan, Source};
use crate::{
    Error,
    snapshot::memory::{MemoryRecord, merged},
};

/// Bytes of headers: no kernel has so many segments.
const HEADERS: u64 = 1 << 20;
/// Where a read fails, smaller ones are tried down to this; the kernel itself copies page by page.
const PAGE: usize = 4096;
/// Holes that are told one by one.
const MOST_HOLES: usize = 8;

pub(super) struct Kcore {
    file: File,
    segments: Vec<Segment>,
    /// Whether addresses have 64 bits.
    pub(super) is_64: bool,
    /// Whether numbers are little-endian.
    pub(super) is_little: bool,
    read: u64,
    holes: Vec<String>,
    more_holes: usize,
}

struct Segment {
    range: Range<u64>,
    offset: u64,
    /// Where it is in physical memory; all ones where it is in no one place there.
    physical: u64,
}

impl Kcore {
    /// Reads the headers of an open core file.
    pub(super) fn of(mut file: File, path: &Path) -> Result<Kcore, Error> {
        let mut head = Vec::new();
        let shown = path.display().to_string();
        // How much of it is headers the first of them says; more would be memory.
        file.by_ref().take(64).read_to_end(&mut head).map_err(Error::read(path))?;
        let wrong = |problem: &str| Error::malformed(shown.clone(), format!("no core file ({problem})"));
        let is_64 = match head.get(4) {
            Some(1) => false,
            Some(2) => true,
            _ => return Err(wrong("truncated or of another class")),
        };
        let end = match is_64 {
            true => end_of_headers::<FileHeader64<Endianness>>(&head),
            false => end_of_headers::<FileHeader32<Endianness>>(&head),
        };
        let end = end.map_err(&wrong)?.min(HEADERS);
        file.by_ref().take(end.saturating_sub(64)).read_to_end(&mut head).map_err(Error::read(path))?;
        let (segments, is_little) = match is_64 {
            true => segments::<FileHeader64<Endianness>>(&head),
            false => segments::<FileHeader32<Endianness>>(&head),
        }
        .map_err(&wrong)?;
        Ok(Kcore { file, segments, is_64, is_little, read: 0, holes: Vec::new(), more_holes: 0 })
    }

    /// Reads ranges of addresses; what cannot be read is left out and told by [`take_holes`](Kcore::take_holes).
    pub(super) fn read_all(&mut self, ranges: &[Range<u64>]) -> Vec<MemoryRecord> {
        let mut records = Vec::new();
        for range in ranges {
            self.read(range.clone(), &mut records);
        }
        records
    }

    /// Reads ranges of which little is mapped: records of the pages that hold anything, and the ranges that were read
    /// throughout, by address. What is in no segment is in neither. `canary` is an address of the kernel's text.
    pub(super) fn scan(
        &mut self,
        ranges: &[Range<u64>],
        canary: Option<u64>,
    ) -> (Vec<MemoryRecord>, Vec<Range<u64>>) {
        let mut segments: Vec<Range<u64>> =
            self.segments.iter().map(|segment| segment.range.clone()).collect();
        segments.sort_unstable_by_key(|segment| segment.start);
        let inside = |range: &Range<u64>| {
            let part = |segment: &Range<u64>| range.start.max(segment.start)..range.end.min(segment.end);
            segments.iter().map(part).filter(|part| part.start < part.end).collect::<Vec<_>>()
        };
        let ranges: Vec<Range<u64>> = ranges.iter().flat_map(inside).collect();
        let mut scan = Scan::new(self, canary, crate::memory::of_memory());
        ranges.iter().for_each(|range| scan.range(range));
        let Scan { records, scanned, holes, .. } = scan;
        self.read += records.iter().map(|record| record.bytes.len() as u64).sum::<u64>();
        holes.iter().for_each(|(range, why)| self.hole(range, why));
        (records, merged(scanned))
    }

    /// The pages of records that hold something else by now, or cannot be read any more.
    pub(super) fn changed(&mut self, records: &[MemoryRecord]) -> Vec<Range<u64>> {
        let mut changed = Vec::new();
        let mut again = [0; PAGE];
        for record in records {
            for (at, page) in (record.address..).step_by(PAGE).zip(record.bytes.chunks(PAGE)) {
                let range = at..at + page.len() as u64;
                let again = &mut again[..page.len()];
                if self.offset(&range).is_none_or(|offset| self.read_at(offset, again).is_err())
                    || again != page
                {
                    changed.push(range);
                }
            }
        }
        merged(changed)
    }

    /// One page, for those who look whether there is anything.
    pub(super) fn page(&mut self, address: u64, page: &mut [u8]) -> bool {
        let offset = self.offset(&(address..address.saturating_add(page.len() as u64)));
        offset.is_some_and(|offset| self.read_at(offset, page).is_ok())
    }

    /// The segment that an address lies in.
    pub(super) fn segment(&self, address: u64) -> Option<Range<u64>> {
        let segment = self.segments.iter().find(|segment| segment.range.contains(&address))?;
        Some(segment.range.clone())
    }

    /// Where an address is in physical memory, if all of its segment is in one place there.
    pub(super) fn physical(&self, address: u64) -> Option<u64> {
        let holds = |segment: &&Segment| segment.is_in_one_place() && segment.range.contains(&address);
        let segment = self.segments.iter().find(holds)?;
        segment.physical.checked_add(address - segment.range.start)
    }

    /// An address at which a place of physical memory can be read.
    pub(super) fn mapped_at(&self, physical: u64) -> Option<u64> {
        let mut segments = self.segments.iter().filter(|segment| segment.is_in_one_place());
        segments.find_map(|segment| {
            let offset = physical.checked_sub(segment.physical)?;
            (offset < segment.range.end - segment.range.start).then(|| segment.range.start + offset)
        })
    }

    pub(super) fn take_holes(&mut self) -> Vec<String> {
        let mut holes = std::mem::take(&mut self.holes);
        if self.more_holes > 0 {
            holes.push(format!("{} more ranges could not be read", self.more_holes));
            self.more_holes = 0;
        }
        holes
    }

    fn read(&mut self, range: Range<u64>, records: &mut Vec<MemoryRecord>) {
        let Some(length) = range.end.checked_sub(range.start).filter(|length| *length > 0) else { return };
        self.read += length;
        let limit = crate::memory::of_memory();
        if self.read > limit {
            return self.hole(&range, &format!("more than {} MiB of modules (--memory)", limit >> 20));
        }
        let Some(offset) = self.offset(&range) else {
            return self.hole(&range, "in no segment of /proc/kcore");
        };
        let mut bytes = vec![0; length as usize];
        if self.read_at(offset, &mut bytes).is_ok() {
            records.push(MemoryRecord { address: range.start, bytes });
            return;
        }
        // Page by page: what is there is taken.
        let mut readable: Vec<Range<usize>> = Vec::new();
        for start in (0..bytes.len()).step_by(PAGE) {
            let end = (start + PAGE).min(bytes.len());
            match self.read_at(offset + start as u64, &mut bytes[start..end]) {
                Ok(()) => match readable.last_mut().filter(|last| last.end == start) {
                    Some(last) => last.end = end,
                    None => readable.push(start..end),
                },
                Err(error) => {
                    let hole = range.start + start as u64..range.start + end as u64;
                    self.hole(&hole, &error.to_string());
                }
            }
        }
        let record = |part: Range<usize>| MemoryRecord {
            address: range.start + part.start as u64,
            bytes: bytes[part].to_vec(),
        };
        records.extend(readable.into_iter().map(record));
    }

    fn hole(&mut self, range: &Range<u64>, why: &str) {
        match self.holes.len() < MOST_HOLES {
            true => self.holes.push(format!("{:#x}-{:#x}: {why}", range.start, range.end)),
            false => self.more_holes += 1,
        }
    }

    /// Where a range lies in the file.
    fn offset(&self, range: &Range<u64>) -> Option<u64> {
        let holds = |segment: &&Segment| segment.range.start <= range.start && range.end <= segment.range.end;
        let segment = self.segments.iter().find(holds)?;
        segment.offset.checked_add(range.start - segment.range.start)
    }

    fn read_at(&mut self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(to)
    }
}

impl Segment {
    /// Memory itself, and the kernel's image, have one (fs/proc/kcore.c:kcore_read: others have -1, and 0 before 4.16).
    fn is_in_one_place(&self) -> bool {
        self.physical != u64::MAX && self.physical != 0
    }
}

impl Source for Kcore {
    fn read(&mut self, address: u64, to: &mut [u8]) -> io::Result<()> {
        let offset = self.offset(&(address..address.saturating_add(to.len() as u64)));
        let offset = offset.ok_or_else(|| io::Error::other("in no segment of /proc/kcore"))?;
        self.read_at(offset, to)
    }
}

type Problem = &'static str;

fn end_of_headers<H: FileHeader<Endian = Endianness>>(head: &[u8]) -> Result<u64, Problem> {
    let header = H::parse(head).map_err(|_| "its header is damaged")?;
    let endian = header.endian().map_err(|_| "its header is damaged")?;
    let size = u64::from(header.e_phnum(endian)) * u64::from(header.e_phentsize(endian));
    header.e_phoff(endian).into().checked_add(size).ok_or("its header is damaged")
}

fn segments<H: FileHeader<Endian = Endianness>>(head: &[u8]) -> Result<(Vec<Segment>, bool), Problem> {
    let header = H::parse(head).map_err(|_| "its header is damaged")?;
    let endian = header.endian().map_err(|_| "its header is damaged")?;
    let segments = header.program_headers(endian, head).map_err(|_| "its segments are cut off")?;
    let loads = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD);
    let segment = |segment: &H::ProgramHeader| {
        let start: u64 = segment.p_vaddr(endian).into();
        let size: u64 = segment.p_memsz(endian).into();
        Segment {
            range: start..start.saturating_add(size),
            offset: segment.p_offset(endian).into(),
            physical: segment.p_paddr(endian).into(),
        }
    };
    Ok((loads.map(segment).collect(), endian == Endianness::Little))
}
