//! Recorded memory: addresses and bytes.

use std::{
    fmt,
    io::{self, BufRead, Read},
    ops::Range,
};

use super::lines::{broken, hex};
use crate::{Error, memory};

/// More records than anybody makes.
const MOST_RECORDS: usize = 1 << 20;
/// Bytes of the longest line before a record: two numbers of 16 digits.
const LONGEST_LINE: u64 = 34;
/// Bytes that are reserved before any of a record's were seen.
const FIRST_RESERVE: usize = 4 << 20;

/// What pages without a record hold where all addresses were read.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// Memory as it was read: records by address, none of which overlap, and the ranges that were read throughout, whose
/// pages of zeros have no record: that is how a kernel shows what is not mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryRecords {
    records: Vec<MemoryRecord>,
    /// By address, none touching another.
    scanned: Vec<Range<u64>>,
}

/// The bytes from one address on.
#[derive(Clone, PartialEq, Eq)]
pub struct MemoryRecord {
    /// The address of the first byte.
    pub address: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl MemoryRecord {
    /// The address behind the last byte; records that reach to the end of the address space do not exist.
    pub fn end(&self) -> u64 {
        self.address + self.bytes.len() as u64
    }
}

impl fmt::Debug for MemoryRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nobody reads megabytes of numbers.
        write!(f, "{:#x}+{:#x}", self.address, self.bytes.len())
    }
}

impl MemoryRecords {
    /// Puts records in order. Those that are empty or overlap are refused, in words.
    pub fn new(mut records: Vec<MemoryRecord>) -> Result<MemoryRecords, String> {
        records.sort_unstable_by_key(|record| record.address);
        for record in &records {
            let (address, length) = (record.address, record.bytes.len());
            if length == 0 || address.checked_add(length as u64).is_none() {
                return Err(format!("record {address:x} {length:x} is empty or leaves the address space"));
            }
        }
        if let Some(pair) = records.windows(2).find(|pair| pair[1].address < pair[0].end()) {
            let [first, second] = [&pair[0], &pair[1]];
            return Err(format!(
                "records {:x} {:x} and {:x} {:x} overlap",
                first.address,
                first.bytes.len(),
                second.address,
                second.bytes.len()
            ));
        }
        Ok(MemoryRecords { records, scanned: Vec::new() })
    }

    /// Says which ranges were read throughout: what of them is in no record holds zeros.
    #[must_use]
    pub fn with_scanned(mut self, ranges: impl IntoIterator<Item = Range<u64>>) -> MemoryRecords {
        self.scanned = merged(ranges.into_iter().collect());
        self
    }

    /// The ranges that were read throughout, by address.
    pub fn scanned(&self) -> &[Range<u64>] {
        &self.scanned
    }

    /// Reads records: each a text line "address length" in hexadecimal, and that many bytes.
    pub fn read_from(shown: &str, input: impl BufRead) -> Result<MemoryRecords, Error> {
        let mut records = Vec::new();
        let mut total = 0;
        read_records(shown, input, &mut records, &mut total)?;
        MemoryRecords::new(records).map_err(|problem| Error::malformed(shown, problem))
    }

    /// The records, by address.
    pub fn records(&self) -> &[MemoryRecord] {
        &self.records
    }

    /// Bytes of all records.
    pub fn len(&self) -> u64 {
        self.records.iter().map(|record| record.bytes.len() as u64).sum()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The `length` bytes at `address`, if one record holds them all, or if they are few and there are zeros.
    pub fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.bytes_from(address).get(..length)
    }

    /// As many bytes from `address` on as its record holds, or some of the zeros where there is no record but all was
    /// read; none if nobody knows them.
    pub fn bytes_from(&self, address: u64) -> &[u8] {
        let record = self.after(address).checked_sub(1).and_then(|at| self.records.get(at));
        let offset = |record: &MemoryRecord| usize::try_from(address - record.address).ok();
        match record.and_then(|record| record.bytes.get(offset(record)?..)) {
            Some(bytes) if !bytes.is_empty() => bytes,
            _ => self.zeros_from(address),
        }
    }

    /// Some of the zeros from `address` on, which is in no record.
    fn zeros_from(&self, address: u64) -> &'static [u8] {
        let behind = self.scanned.partition_point(|range| range.end <= address);
        let Some(range) = self.scanned.get(behind).filter(|range| range.start <= address) else { return &[] };
        let next = self.records.get(self.after(address)).map_or(u64::MAX, |record| record.address);
        let length = (range.end.min(next) - address).min(ZEROS.len() as u64);
        &ZEROS[..length as usize]
    }

    /// The parts of a range that are in records, by address.
    pub(crate) fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &[u8])> {
        let first = self.records.partition_point(|record| record.end() <= range.start);
        let records = self.records[first..].iter().take_while(move |record| record.address < range.end);
        records.filter_map(move |record| {
            let (start, end) = (record.address.max(range.start), record.end().min(range.end));
            let inside = (start - record.address) as usize..end.checked_sub(record.address)? as usize;
            Some((start, record.bytes.get(inside)?))
        })
    }

    /// Copies the bytes at `address`, from several records if they follow each other; `None` if any is not there.
    pub fn copy(&self, mut address: u64, mut to: &mut [u8]) -> Option<()> {
        while !to.is_empty() {
            let from = self.bytes_from(address);
            let length = from.len().min(to.len());
            if length == 0 {
                return None;
            }
            let (now, later) = to.split_at_mut(length);
            now.copy_from_slice(&from[..length]);
            (address, to) = (address.checked_add(length as u64)?, later);
        }
        Some(())
    }

    /// The record that an address lies in.
    pub fn record(&self, address: u64) -> Option<&MemoryRecord> {
        let record = self.records.get(self.after(address).checked_sub(1)?)?;
        (address < record.end()).then_some(record)
    }

    /// Whether any byte of a range is recorded.
    pub(crate) fn touches(&self, range: &Range<u64>) -> bool {
        let before = self.records.partition_point(|record| record.address < range.end);
        before.checked_sub(1).is_some_and(|last| self.records[last].end() > range.start)
    }

    pub(crate) fn into_records(self) -> Vec<MemoryRecord> {
        self.records
    }

    /// How many records start at `address` or below.
    fn after(&self, address: u64) -> usize {
        self.records.partition_point(|record| record.address <= address)
    }

    /// Bytes of what [`stream`](MemoryRecords::stream) gives.
    pub(crate) fn stream_len(&self) -> u64 {
        self.records.iter().map(|record| (header(record).len() + record.bytes.len()) as u64).sum()
    }

    /// What [`read_from`](MemoryRecords::read_from) reads, without a copy.
    pub(crate) fn stream(&self) -> impl Read + '_ {
        Stream { records: self.records.iter(), header: io::Cursor::default(), bytes: &[] }
    }
}

/// Ranges by address, those that touch joined and those that are empty left out.
pub(crate) fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

fn header(record: &MemoryRecord) -> String {
    format!("{:x} {:x}\n", record.address, record.bytes.len())
}

struct Stream<'r> {
    records: std::slice::Iter<'r, MemoryRecord>,
    header: io::Cursor<Vec<u8>>,
    bytes: &'r [u8],
}

impl Read for Stream<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self.header.read(to)? {
                0 => self.bytes.read(to)?,
                read => read,
            };
            if read > 0 || to.is_empty() {
                return Ok(read);
            }
            let Some(record) = self.records.next() else { return Ok(0) };
            self.header = io::Cursor::new(header(record).into_bytes());
            self.bytes = &record.bytes;
        }
    }
}

/// Reads records behind those that are there. `total` counts the bytes of all.
pub(crate) fn read_records(
    shown: &str,
    mut input: impl BufRead,
    records: &mut Vec<MemoryRecord>,
    total: &mut u64,
) -> Result<(), Error> {
    let limit = memory::of_memory();
    let mut line = Vec::new();
    loop {
        line.clear();
        input
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| broken(shown, error))?;
        if line.is_empty() {
            return Ok(());
        }
        let wrong = |problem: String| {
            Error::malformed(
                shown,
                format!("record {}, behind {total:#x} bytes: {problem}", records.len() + 1),
            )
        };
        let header =
            std::str::from_utf8(&line).ok().and_then(|line| line.strip_suffix('\n')?.split_once(' '));
        let numbers = header.and_then(|(address, length)| Some((hex(address)?, hex(length)?)));
        let Some((address, length)) = numbers.filter(|_| !line.contains(&b'x')) else {
            return Err(wrong("its line is not \"address length\" in hexadecimal".to_owned()));
        };
        if length == 0 || address.checked_add(length).is_none() {
            return Err(wrong(format!("{address:x} {length:x} is empty or leaves the address space")));
        }
        if records.len() == MOST_RECORDS {
            return Err(wrong(format!("more than {MOST_RECORDS} records")));
        }
        *total = total.saturating_add(length);
        if *total > limit {
            return Err(Error::TooLarge { file: shown.to_owned(), limit });
        }
        // The length may be a lie: no more is reserved than a little at first, and no more held than there is.
        let length = length as usize;
        let mut bytes = Vec::with_capacity(length.min(FIRST_RESERVE));
        input.by_ref().take(length as u64).read_to_end(&mut bytes).map_err(|error| broken(shown, error))?;
        if bytes.len() < length {
            let problem =
                format!("record {address:x} {length:x} ends after {:#x} bytes: cut off", bytes.len());
            return Err(Error::malformed(shown, problem));
        }
        bytes.shrink_to_fit();
        records.push(MemoryRecord { address, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[u8]) -> Result<MemoryRecords, String> {
        MemoryRecords::read_from("host.mms: mem", data).map_err(|error| error.to_string())
    }

    #[test]
    fn records_in_any_order_are_found_by_address_and_come_back() {
        let memory = read(b"2000 3\nabc1000 4\nwxyz1004 2\n\n\n").unwrap();
        assert_eq!(memory.bytes(0x1001, 3), Some(&b"xyz"[..]));
        assert_eq!(memory.bytes(0x1001, 4), None);
        assert_eq!(memory.bytes(0xfff, 1), None);
        assert_eq!(memory.bytes(u64::MAX, 1), None);
        let mut across = [0; 5];
        assert_eq!(memory.copy(0x1001, &mut across), Some(()));
        assert_eq!(&across, b"xyz\n\n");
        assert_eq!(memory.copy(0x1002, &mut across), None);
        let mut again = Vec::new();
        memory.stream().read_to_end(&mut again).unwrap();
        assert_eq!(again, b"1000 4\nwxyz1004 2\n\n\n2000 3\nabc");
        assert_eq!(memory.stream_len(), again.len() as u64);
        assert_eq!(read(&again).unwrap(), memory);
    }

    #[test]
    fn what_was_read_throughout_holds_zeros_where_no_record_is() {
        let memory = read(b"1000 4\nwxyz1008 2\nab").unwrap();
        let memory = memory.with_scanned([0x1004..0x1009, 0x1009..0x1010, 0x3000..0x3000]);
        assert_eq!(memory.scanned(), std::slice::from_ref(&(0x1004..0x1010)));
        let mut bytes = [1; 16];
        assert_eq!(memory.copy(0x1000, &mut bytes), Some(()));
        assert_eq!(&bytes, b"wxyz\0\0\0\0ab\0\0\0\0\0\0");
        assert_eq!(memory.copy(0x1001, &mut bytes), None);
        assert_eq!(memory.bytes(0x1004, 4), Some(&[0; 4][..]));
        assert_eq!(memory.bytes(0x1004, 5), None);
        assert_eq!(memory.bytes(0x100f, 2), None);
        assert_eq!(memory.bytes_from(0x3000), &[0; 0]);
    }

    #[test]
    fn records_that_overlap_are_named() {
        let error = read(b"1000 4\nwxyz1003 2\nab").unwrap_err();
        assert!(error.contains("host.mms: mem: records 1000 4 and 1003 2 overlap"), "{error}");
    }

    #[test]
    fn each_length_of_a_truncated_file_is_an_error() {
        let whole = b"1000 4\nwxyz2000 3\nabc";
        for length in (1..whole.len()).filter(|&length| length != 11) {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn headers_that_lie_are_errors_and_take_no_memory() {
        for bad in [
            &b"1000 40000001\n"[..],
            b"1000 3fffffff\nx",
            b"ffffffffffffffff 2\nab",
            b"1000 0\n",
            b"0x1000 1\na",
        ] {
            assert!(read(bad).is_err());
        }
        for bad in [&b"1000\n"[..], b"1000 1", b"+1000 1\na", b"g 1\na", b"1000  1\na", b"\n", b"\xff 1\na"] {
            assert!(read(bad).unwrap_err().contains("hexadecimal"), "{bad:?}");
        }
    }
}
