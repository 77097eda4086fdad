//! A kernel's tables of exports by what they look like, where no symbol says where they are: kernels without
//! CONFIG_KALLSYMS_ALL list functions alone.
//!
//! The linker puts `__ksymtab`, `__ksymtab_gpl`, their checksums and the names behind each other
//! (include/asm-generic/vmlinux.lds.h:RO_DATA). An entry, of three self-relative offsets or of three pointers, leads to a
//! name among those names, and each table is sorted by name. Whoever takes what is found here must compare it with
//! functions that are known.

use std::{cmp::Ordering, ops::Range};

use crate::image::bytes::Bytes;

/// How entries refer to things (CONFIG_HAVE_ARCH_PREL32_RELOCATIONS).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fields {
    /// By 32 bits from their own place.
    Offsets,
    /// By addresses, of bytes whose first one has this address.
    Pointers { first: u64 },
}

impl Fields {
    /// Bytes of one: the second of three is the name.
    fn size(self, bytes: Bytes<'_>) -> usize {
        match self {
            Fields::Offsets => 4,
            Fields::Pointers { .. } => bytes.word,
        }
    }

    /// Where what a field refers to is.
    fn target(self, bytes: Bytes<'_>, field: usize) -> Option<usize> {
        match self {
            Fields::Offsets => field.checked_add_signed(bytes.u32(field)? as i32 as isize),
            Fields::Pointers { first } => usize::try_from(bytes.word(field)?.checked_sub(first)?).ok(),
        }
    }
}

/// Fewer entries are no kernel's.
const FEWEST: usize = 1000;
/// Longer than any name.
const LONGEST: usize = 256;
/// Between tables there is at most so much to align them.
const GAP: usize = 8;

/// The places of the tables in some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) plain: Range<usize>,
    pub(crate) gpl: Option<Range<usize>>,
    pub(crate) crcs: Option<Range<usize>>,
    pub(crate) gpl_crcs: Option<Range<usize>>,
    /// Where the names begin.
    pub(crate) strings: usize,
}

/// Finds the tables. The largest run of entries is taken.
pub(crate) fn find(bytes: Bytes<'_>, fields: Fields) -> Option<Places> {
    let field = fields.size(bytes);
    let size = 3 * field;
    let mut best: Range<usize> = 0..0;
    let mut at = 0;
    while at + size <= bytes.data.len() {
        let mut end = at;
        while name(bytes, fields, end).is_some() {
            end += size;
        }
        if end - at > best.len() {
            best = at..end;
        }
        // A run that begins elsewhere in an entry is none of names.
        at = if end - at > FEWEST * size { end } else { at + field };
    }
    places(bytes, fields, best)
}

fn places(bytes: Bytes<'_>, fields: Fields, run: Range<usize>) -> Option<Places> {
    let size = 3 * fields.size(bytes);
    let count = run.len() / size;
    if count < FEWEST {
        return None;
    }
    let names = || run.clone().step_by(size).filter_map(|entry| name(bytes, fields, entry));
    let strings = names().map(|(at, _)| at).min()?;
    // Where names begin again, the second table does.
    let pairs = names().zip(names().skip(1));
    type Named<'n> = (usize, &'n [u8]);
    let order = |(a, b): &(Named<'_>, Named<'_>)| a.1.cmp(b.1);
    let mut breaks = (1..).zip(pairs.map(|pair| order(&pair))).filter(|(_, order)| *order != Ordering::Less);
    let split = breaks.next().map(|(at, _)| at);
    if breaks.next().is_some() {
        return None;
    }
    let middle = run.start + split.unwrap_or(count) * size;
    let gpl = (middle < run.end).then_some(middle..run.end);
    // Checksums fill what is between the tables and the names, but for what aligns them.
    let has_crcs = strings.checked_sub(run.end + 4 * count).is_some_and(|gap| gap <= GAP);
    let plain_count = (middle - run.start) / size;
    let crcs = has_crcs.then(|| run.end..run.end + 4 * plain_count);
    let gpl_crcs = crcs.as_ref().filter(|_| gpl.is_some()).map(|crcs| crcs.end..run.end + 4 * count);
    Some(Places { plain: run.start..middle, gpl, crcs, gpl_crcs, strings })
}

/// The name of the entry at a place, and where it is: behind the entry.
fn name(bytes: Bytes<'_>, fields: Fields, entry: usize) -> Option<(usize, &[u8])> {
    let field = entry + fields.size(bytes);
    let at = fields.target(bytes, field)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$');
    if at < field + 8 || !is_name(*bytes.data.get(at)?) {
        return None;
    }
    let rest = bytes.data.get(at..)?;
    let end = rest.iter().take(LONGEST).position(|byte| !is_name(*byte))?;
    (rest[end] == 0).then(|| (at, &rest[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 0x10_0000;
    const FORMS: [Fields; 2] = [Fields::Offsets, Fields::Pointers { first: FIRST }];

    fn bytes(data: &[u8], fields: Fields) -> Bytes<'_> {
        Bytes { data, little: matches!(fields, Fields::Offsets), word: 8 }
    }

    /// Bytes of an entry.
    fn entry(fields: Fields) -> usize {
        3 * fields.size(bytes(&[], fields))
    }

    /// Tables of exports: two tables, checksums, names.
    fn image(fields: Fields, plain: usize, gpl: usize, crcs: bool) -> Vec<u8> {
        let (count, size) = (plain + gpl, entry(fields));
        let start = 0x100;
        let strings = start + count * size + if crcs { 4 * count } else { 0 };
        let mut bytes: Vec<u8> =
            (0..start as u32 / 4).flat_map(|word| (word * 0x0101_0101).to_le_bytes()).collect();
        for number in 0..count {
            let name = strings + number * 8;
            match fields {
                Fields::Offsets => {
                    let field = start + number * size + 4;
                    bytes.extend((-0x100_i32).to_le_bytes());
                    bytes.extend((name as i32 - field as i32).to_le_bytes());
                    bytes.extend(0_i32.to_le_bytes());
                }
                Fields::Pointers { first } => {
                    for pointer in [first, first + name as u64, 0] {
                        bytes.extend(pointer.to_be_bytes());
                    }
                }
            }
        }
        bytes.extend((0..if crcs { count as u32 } else { 0 }).flat_map(|crc| (!crc).to_le_bytes()));
        for number in 0..count {
            let number = if number < plain { number } else { number - plain };
            bytes.extend(format!("sym{number:04}\0").into_bytes());
        }
        bytes.extend([1; 64]);
        bytes
    }

    fn found(data: &[u8], fields: Fields) -> Option<Places> {
        find(bytes(data, fields), fields)
    }

    #[test]
    fn tables_are_found_with_their_checksums_and_names() {
        let (plain, gpl) = (1200, 900);
        for fields in FORMS {
            let places = found(&image(fields, plain, gpl, true), fields).unwrap();
            let size = entry(fields);
            let (first, middle, end) = (0x100, 0x100 + plain * size, 0x100 + (plain + gpl) * size);
            assert_eq!((places.plain, places.gpl), (first..middle, Some(middle..end)));
            assert_eq!(places.crcs, Some(end..end + 4 * plain));
            assert_eq!(places.gpl_crcs, Some(end + 4 * plain..end + 4 * (plain + gpl)));
            assert_eq!(places.strings, end + 4 * (plain + gpl));
            let places = found(&image(fields, plain, 0, false), fields).unwrap();
            assert_eq!((places.plain, places.gpl, places.crcs), (first..middle, None, None));
        }
    }

    #[test]
    fn a_few_entries_and_tables_out_of_order_are_no_kernel_s() {
        for fields in FORMS {
            assert_eq!(found(&image(fields, 400, 400, true), fields), None);
            let mut bytes = image(fields, 1200, 0, true);
            // Two entries that change places: names are no longer sorted.
            let strings = 0x100 + 1200 * (entry(fields) + 4);
            bytes[strings + 80..strings + 87].copy_from_slice(b"zzz0010");
            bytes[strings + 160..strings + 167].copy_from_slice(b"zzz0020");
            assert_eq!(found(&bytes, fields), None);
            assert_eq!(found(&[], fields), None);
            assert_eq!(found(&bytes[..0x1000], fields), None);
        }
    }
}
