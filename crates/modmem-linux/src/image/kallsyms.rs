//! The symbols that a kernel carries in itself, found in the bytes of its image.
//!
//! A flat image has no sections and says nowhere where its parts begin. The tables behind `/proc/kallsyms` can be found
//! all the same: the token table, 256 strings by which names are compressed, holds each digit and each letter as itself
//! at its own place, and an index of 256 numbers behind it must agree with it. The other tables lie around these two:
//!
//! | Linux | in this order |
//! |---|---|
//! | before 6.2 | offsets, base, count, names, markers, **tokens**, **index** |
//! | 6.4 and later | count, names, markers, **tokens**, **index**, offsets, base |
//! | 7.0 and later | the same without a base: each offset is from its own place |
//!
//! Every table has to agree with the others over its whole length; what does not is not believed.

use std::collections::HashMap;

use super::bytes::Bytes;

/// More symbols than any kernel has.
const MAX_SYMBOLS: usize = 1 << 22;
/// As long as a name may be, with its type: KSYM_NAME_LEN.
const MAX_NAME: usize = 512;
/// Bytes that the names behind the last marker may take: 256 with lengths of two bytes.
const MAX_GROUP: usize = 256 * (2 + MAX_NAME);
/// Places that look like a table and are looked at closely before the search is given up.
const MAX_CANDIDATES: usize = 64;
const TOKENS: usize = 256;

/// The tables, by where they are in the image.
#[derive(Debug)]
pub(super) struct Kallsyms<'d> {
    bytes: Bytes<'d>,
    tokens: Tokens,
    names: usize,
    count: usize,
    offsets: usize,
    base: Base,
}

/// What offsets count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// From the address that the word at this place of the image holds.
    Word(usize),
    /// From its own place in the image.
    Place,
}

/// The token table: each token's place in the image.
#[derive(Debug)]
struct Tokens {
    start: usize,
    starts: [usize; TOKENS],
    /// Behind the table's index.
    end: usize,
}

impl<'d> Kallsyms<'d> {
    /// Finds the tables; `None` if there are none, or none that agree with each other.
    pub(super) fn find(bytes: Bytes<'d>) -> Option<Kallsyms<'d>> {
        Tokens::candidates(bytes).find_map(|tokens| Kallsyms::around(bytes, tokens))
    }

    fn around(bytes: Bytes<'d>, tokens: Tokens) -> Option<Kallsyms<'d>> {
        let (markers, groups) = markers(bytes, tokens.start)?;
        let (names, count_at, count) = names(bytes, markers, &groups)?;
        let word = bytes.word;
        let behind = tokens.end.next_multiple_of(word);
        if sorted(bytes, behind, count, false) {
            let base = Base::Word((behind + 4 * count).next_multiple_of(word));
            return Some(Kallsyms { bytes, tokens, names, count, offsets: behind, base });
        }
        if sorted(bytes, behind, count, true) {
            return Some(Kallsyms { bytes, tokens, names, count, offsets: behind, base: Base::Place });
        }
        let base = count_at.checked_sub(word)?;
        let offsets = base.checked_sub((4 * count).next_multiple_of(word))?;
        sorted(bytes, offsets, count, false).then(|| Kallsyms {
            bytes,
            tokens,
            names,
            count,
            offsets,
            base: Base::Word(base),
        })
    }

    /// What the symbols' offsets count from.
    pub(super) fn base(&self) -> Base {
        self.base
    }

    /// Where in the image the table of tokens is, which has a symbol itself.
    pub(super) fn token_table(&self) -> usize {
        self.tokens.start
    }

    /// The offsets of these symbols, of those that are there: from the base, or from the image's start. The first counts
    /// where several have one name.
    pub(super) fn offsets_of(&self, wanted: &[&'static str]) -> HashMap<&'static str, u64> {
        let mut found = HashMap::new();
        let mut at = self.names;
        let mut name = Vec::with_capacity(MAX_NAME);
        for number in 0..self.count {
            let Some((codes, next)) = entry(self.bytes, at) else { break };
            at = next;
            name.clear();
            for &code in codes {
                name.extend_from_slice(self.tokens.text(self.bytes, code));
                if name.len() > MAX_NAME {
                    break;
                }
            }
            // The first character is the type.
            let Some((_, name)) = name.split_first() else { continue };
            if let Some(&wanted) = wanted.iter().find(|wanted| wanted.as_bytes() == name)
                && let Some(offset) = self.offset(number)
            {
                found.entry(wanted).or_insert(offset);
            }
        }
        found
    }

    fn offset(&self, number: usize) -> Option<u64> {
        let place = self.offsets + 4 * number;
        let value = self.bytes.u32(place)?;
        match self.base {
            Base::Word(_) => Some(u64::from(value)),
            Base::Place => (place as u64).checked_add_signed(i64::from(value as i32)),
        }
    }
}

impl Tokens {
    /// Each place where the digits stand as tokens, and an index that agrees stands behind.
    fn candidates(bytes: Bytes<'_>) -> impl Iterator<Item = Tokens> + '_ {
        const DIGITS: &[u8; 20] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
        let mut from = 0;
        let places = std::iter::from_fn(move || {
            let at = from + find(bytes.data.get(from..)?, DIGITS)?;
            from = at + DIGITS.len();
            Some(at)
        });
        places.take(MAX_CANDIDATES).filter_map(move |digits| Tokens::at(bytes, digits))
    }

    /// The table whose token `0` is at `digits`.
    fn at(bytes: Bytes<'_>, digits: usize) -> Option<Tokens> {
        // The tokens from there on, to find the index.
        let mut end = digits;
        for _ in usize::from(b'0')..TOKENS {
            let rest = bytes.data.get(end..)?;
            end += rest.iter().take(MAX_NAME).position(|&byte| byte == 0)? + 1;
        }
        let index = end.next_multiple_of(bytes.word);
        let start_of = |code: usize| bytes.u16(index + 2 * code).map(usize::from);
        let start = digits.checked_sub(start_of(usize::from(b'0'))?)?;
        let mut starts = [0; TOKENS];
        let mut at = start;
        for (code, place) in starts.iter_mut().enumerate() {
            if at != start + start_of(code)? {
                return None;
            }
            *place = at;
            at += bytes.data.get(at..)?.iter().take(MAX_NAME).position(|&byte| byte == 0)? + 1;
        }
        (at == end).then_some(Tokens { start, starts, end: index + 2 * TOKENS })
    }

    fn text<'d>(&self, bytes: Bytes<'d>, code: u8) -> &'d [u8] {
        let text = bytes.data.get(self.starts[usize::from(code)]..).unwrap_or_default();
        text.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

/// The markers before the table of tokens: where in the names each group of 256 begins. They grow, from 0.
fn markers(bytes: Bytes<'_>, tokens: usize) -> Option<(usize, Vec<usize>)> {
    let mut at = tokens.checked_sub(4)?;
    // The table of tokens is aligned to words. A single marker is 0 itself, and a kernel has more.
    if bytes.u32(at)? == 0 {
        at = at.checked_sub(4)?;
    }
    let mut groups = Vec::new();
    loop {
        let marker = bytes.u32(at)? as usize;
        // Each of the 256 names between two markers has a length and a character at least.
        if groups.last().is_some_and(|&next| marker + 2 * 256 > next) || groups.len() > MAX_SYMBOLS / 256 {
            return None;
        }
        groups.push(marker);
        if marker == 0 {
            break;
        }
        at = at.checked_sub(4)?;
    }
    groups.reverse();
    (groups.len() > 1).then_some((at, groups))
}

/// The names before the markers: where they are, where their count is, and the count.
fn names(bytes: Bytes<'_>, markers: usize, groups: &[usize]) -> Option<(usize, usize, usize)> {
    let last = *groups.last()?;
    let latest = markers.checked_sub(last)? / bytes.word * bytes.word;
    let earliest = latest.saturating_sub(MAX_GROUP);
    let counts = (earliest..=latest).rev().filter(|at| at % bytes.word == 0);
    counts
        .filter_map(|names| {
            let count_at = names.checked_sub(bytes.word)?;
            let count = bytes.u32(count_at)? as usize;
            (count <= MAX_SYMBOLS && count.div_ceil(256) == groups.len()).then_some((names, count_at, count))
        })
        .take(MAX_CANDIDATES)
        .find(|(names, _, count)| fits(bytes, *names, *count, markers, groups))
}

/// Do so many names fill the place up to the markers, and each group begin where its marker says?
fn fits(bytes: Bytes<'_>, names: usize, count: usize, markers: usize, groups: &[usize]) -> bool {
    let mut at = names;
    for number in 0..count {
        if number.is_multiple_of(256) && groups.get(number / 256) != Some(&(at - names)) {
            return false;
        }
        match entry(bytes, at) {
            Some((_, next)) if next <= markers => at = next,
            _ => return false,
        }
    }
    at.next_multiple_of(bytes.word) == markers
}

/// A name's codes, and where the next name is. Lengths of more than 127 have two bytes since Linux 6.1.
fn entry(bytes: Bytes<'_>, at: usize) -> Option<(&[u8], usize)> {
    let first = usize::from(*bytes.data.get(at)?);
    let (length, from) = match first {
        0x80.. => (first & 0x7f | usize::from(*bytes.data.get(at + 1)?) << 7, at + 2),
        _ => (first, at + 1),
    };
    let codes = bytes.data.get(from..from.checked_add(length)?)?;
    (!codes.is_empty()).then_some((codes, from + length))
}

/// Are these offsets, which grow?
fn sorted(bytes: Bytes<'_>, offsets: usize, count: usize, by_place: bool) -> bool {
    let mut before = i64::MIN;
    let mut last = 0;
    for number in 0..count {
        let place = offsets + 4 * number;
        let Some(value) = bytes.u32(place) else { return false };
        let offset = match by_place {
            true => place as i64 + i64::from(value as i32),
            false => i64::from(value),
        };
        if offset < before || offset < 0 {
            return false;
        }
        (before, last) = (offset, offset);
    }
    // A run of equal numbers grows too.
    last > 0 && bytes.u32(offsets).is_some_and(|first| i64::from(first) != last)
}

fn find(haystack: &[u8], needle: &[u8; 20]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
