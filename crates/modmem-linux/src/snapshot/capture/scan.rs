//! Reading ranges throughout of which little is mapped, and telling what is mapped from what is not.
//!
//! The kernel shows zeros where nothing is mapped. Until Linux 6.3 it does so only beside an area: a read of addresses
//! between areas gives what the read before it left in the kernel's buffer, a page (fs/proc/kcore.c:read_kcore,
//! mm/vmalloc.c:vread). So a page that is the same as the one before it may be a hole. With another page left in that
//! buffer, the *canary*, it is seen: a hole looks like that one then, and memory does not.

use std::{io, ops::Range};

use crate::snapshot::MemoryRecord;

/// What the kernel copies at once, whatever the machine's pages are.
const PAGE: usize = 4096;
/// Bytes read at once, as most pages are empty.
const CHUNK: usize = 1 << 20;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Memory that is read by address, with what one read leaves in the way of the next.
pub(super) trait Source {
    /// Reads all of the bytes at an address.
    fn read(&mut self, address: u64, to: &mut [u8]) -> io::Result<()>;
}

/// What was found so far.
pub(super) struct Scan<'s, S> {
    source: &'s mut S,
    /// Where a page is that is mapped and lies in no range that is read, and what it holds.
    canary: Option<(u64, Vec<u8>)>,
    /// Bytes that may be kept still.
    room: u64,
    /// Pages that hold anything, those in a row together.
    pub(super) records: Vec<MemoryRecord>,
    /// What was read.
    pub(super) scanned: Vec<Range<u64>>,
    /// What was not, and why.
    pub(super) holes: Vec<(Range<u64>, String)>,
}

impl<'s, S: Source> Scan<'s, S> {
    /// Begins. `canary` is an address in a page that does not change and is not all zeros; no more than `most` bytes are
    /// kept.
    pub(super) fn new(source: &'s mut S, canary: Option<u64>, most: u64) -> Scan<'s, S> {
        let mut page = vec![0; PAGE];
        let address = canary.map(|address| address / PAGE as u64 * PAGE as u64);
        let address = address.filter(|address| source.read(*address, &mut page).is_ok() && page != ZEROS);
        let canary = address.map(|address| (address, page));
        let (records, scanned, holes) = (Vec::new(), Vec::new(), Vec::new());
        Scan { source, canary, room: most, records, scanned, holes }
    }

    /// Reads a range.
    pub(super) fn range(&mut self, range: &Range<u64>) {
        let mut chunk = vec![0; CHUNK];
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(CHUNK as u64);
            self.chunk(at, &mut chunk[..length as usize]);
            at += length;
        }
    }

    fn chunk(&mut self, address: u64, chunk: &mut [u8]) {
        // What a hole would look like: the page before it in the same read, or the canary.
        let mut before: Option<usize> = None;
        self.leave_canary();
        let mut is_whole = self.source.read(address, chunk).is_ok();
        let mut start = 0;
        while start < chunk.len() {
            let end = (start + PAGE).min(chunk.len());
            let range = address + start as u64..address + end as u64;
            if !is_whole {
                self.leave_canary();
                before = None;
                if let Err(error) = self.source.read(range.start, &mut chunk[start..end]) {
                    self.hole(range, error.to_string());
                    start = end;
                    continue;
                }
            }
            let page = &chunk[start..end];
            let is_zero = *page == ZEROS[..page.len()];
            let is_as_before = before.is_some_and(|before| chunk[before..before + page.len()] == *page);
            if !is_zero && is_as_before && self.is_hole(range.start, page) {
                // So may be what follows: it is read anew, behind the canary.
                self.leave_canary();
                is_whole = self.source.read(range.start, &mut chunk[start..]).is_ok();
                before = None;
                continue;
            }
            let is_hole = before.is_none() && self.is_canary(page);
            before = if is_hole { before } else { Some(start) };
            if is_zero || is_hole || self.keep(&range, page) {
                self.has_read(range);
            }
            start = end;
        }
    }

    /// Keeps a page, if there is room.
    fn keep(&mut self, range: &Range<u64>, page: &[u8]) -> bool {
        match self.room.checked_sub(page.len() as u64) {
            Some(room) => self.room = room,
            None => {
                self.hole(range.clone(), "there is more than modules ever take".into());
                return false;
            }
        }
        match self.records.last_mut().filter(|last| last.end() == range.start) {
            Some(last) => last.bytes.extend_from_slice(page),
            None => self.records.push(MemoryRecord { address: range.start, bytes: page.to_vec() }),
        }
        true
    }

    fn has_read(&mut self, range: Range<u64>) {
        match self.scanned.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => self.scanned.push(range),
        }
    }

    fn hole(&mut self, range: Range<u64>, why: String) {
        match self.holes.last_mut().filter(|(last, known)| last.end == range.start && *known == why) {
            Some((last, _)) => last.end = range.end,
            None => self.holes.push((range, why)),
        }
    }

    /// Leaves the canary in the kernel's buffer. One that can no longer be read, or has changed, is none.
    fn leave_canary(&mut self) {
        let Some((address, canary)) = &self.canary else { return };
        let mut page = [0; PAGE];
        if self.source.read(*address, &mut page).is_err() || *canary != page {
            self.canary = None;
        }
    }

    fn is_canary(&self, page: &[u8]) -> bool {
        self.canary.as_ref().is_some_and(|(_, canary)| canary[..page.len()] == *page)
    }

    /// Whether nothing is mapped where `page` was read.
    fn is_hole(&mut self, address: u64, page: &[u8]) -> bool {
        self.leave_canary();
        let mut again = vec![0; page.len()];
        self.source.read(address, &mut again).is_ok() && self.is_canary(&again) && again != page
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const CANARY: u64 = 0x10_0000;

    /// A kernel that shows what its buffer has where nothing is mapped, or zeros.
    struct Kernel {
        pages: BTreeMap<u64, u8>,
        buffer: Vec<u8>,
        leaves_buffer: bool,
        broken: Option<u64>,
        reads: usize,
    }

    impl Source for Kernel {
        fn read(&mut self, address: u64, to: &mut [u8]) -> io::Result<()> {
            self.reads += 1;
            for (at, to) in (address..).step_by(PAGE).zip(to.chunks_mut(PAGE)) {
                match self.pages.get(&at) {
                    _ if self.broken == Some(at) => return Err(io::Error::other("broken")),
                    Some(byte) => {
                        self.buffer.fill(*byte);
                        self.buffer[0] = 7;
                    }
                    None if self.leaves_buffer => {}
                    None => self.buffer.fill(0),
                }
                to.copy_from_slice(&self.buffer[..to.len()]);
            }
            Ok(())
        }
    }

    fn kernel(leaves_buffer: bool) -> Kernel {
        // Two pages that are the same, holes, one more, and zeros of its own.
        let pages = [(0x2000, 0xcc), (0x3000, 0xcc), (0x8000, 0x90), (0x9000, 0x91), (CANARY, 0x55)];
        let (pages, buffer) = (pages.into(), vec![0xee; PAGE]);
        Kernel { pages, buffer, leaves_buffer, broken: None, reads: 0 }
    }

    fn found(scan: &Scan<'_, Kernel>) -> Vec<(u64, usize)> {
        scan.records.iter().map(|record| (record.address, record.bytes.len() / PAGE)).collect()
    }

    #[test]
    fn holes_are_told_from_memory_whatever_the_kernel_shows_there() {
        for leaves_buffer in [false, true] {
            let mut kernel = kernel(leaves_buffer);
            let mut scan = Scan::new(&mut kernel, Some(CANARY + 0x20), 1 << 20);
            scan.range(&(0..0x8_0000));
            assert_eq!(found(&scan), [(0x2000, 2), (0x8000, 2)], "{leaves_buffer}");
            assert_eq!((scan.scanned.as_slice(), scan.holes), (std::slice::from_ref(&(0..0x8_0000)), vec![]));
            assert!(kernel.reads < 20, "{}", kernel.reads);
        }
    }

    #[test]
    fn without_a_canary_what_cannot_be_told_is_kept() {
        let mut kernel = kernel(true);
        let mut scan = Scan::new(&mut kernel, None, 1 << 20);
        scan.range(&(0x1000..0x1_0000));
        assert_eq!(found(&scan), [(0x1000, 15)]);
    }

    #[test]
    fn what_cannot_be_read_or_kept_is_not_said_to_be_read() {
        for leaves_buffer in [false, true] {
            let mut kernel = kernel(leaves_buffer);
            kernel.broken = Some(0x5000);
            let mut scan = Scan::new(&mut kernel, Some(CANARY), 3 * PAGE as u64);
            scan.range(&(0..0x1_0000));
            assert_eq!(found(&scan), [(0x2000, 2), (0x8000, 1)]);
            assert_eq!(scan.scanned, [0..0x5000, 0x6000..0x9000, 0xa000..0x1_0000]);
            let holes: Vec<Range<u64>> = scan.holes.into_iter().map(|(range, _)| range).collect();
            assert_eq!(holes, [0x5000..0x6000, 0x9000..0xa000]);
        }
    }
}
