//! The symbols that a kernel carries in itself, found in the bytes of its image.
//!
//! A flat image has no sections and says nowhere where its parts begin. The tables behind `/proc/kallsyms` can be found
//! all the same: the token table, 256 strings by which names are compressed, holds each digit and each letter as itself
//! at its own place, and an index of 256 numbers behind it must agree with it. The other tables lie around these two:
//!
//! | Linux | in this order |
//! |---|---|
//! | before 6.4 | offsets, base, count, names, markers, (numbers by name,) **tokens**, **index** |
//! | 6.4 and later | count, names, markers, **tokens**, **index**, offsets, base |
//! | 7.0 and later | the same without a base: each offset is from its own place |
//!
//! Numbers by name, three bytes for each symbol, came with 6.2 and with updates of older versions. Each table is aligned
//! to words, since 7.0 to four bytes.
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
    /// Whether only negative offsets count from the base, backwards, and others are addresses: of percpu data
    /// (CONFIG_KALLSYMS_ABSOLUTE_PERCPU, until Linux 6.14).
    percpu: bool,
}

/// One symbol of the tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'n> {
    /// The character that `/proc/kallsyms` shows for its kind.
    pub(super) letter: u8,
    pub(super) name: &'n [u8],
    pub(super) value: Value,
}

/// Where a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// From the base, or from the image's start.
    Offset(u64),
    /// It does not move with the kernel.
    Absolute(u64),
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
    /// What this and the other tables are aligned to.
    align: usize,
}

impl<'d> Kallsyms<'d> {
    /// Finds the tables; `None` if there are none, or none that agree with each other.
    pub(super) fn find(bytes: Bytes<'d>) -> Option<Kallsyms<'d>> {
        Tokens::candidates(bytes).find_map(|tokens| Kallsyms::around(bytes, tokens))
    }

    fn around(bytes: Bytes<'d>, tokens: Tokens) -> Option<Kallsyms<'d>> {
        let align = tokens.align;
        let (names, count_at, count) = markers_before(bytes, &tokens)
            .take(MAX_CANDIDATES)
            .find_map(|(markers, groups)| names(bytes, markers, &groups, align))?;
        let word = bytes.word;
        let behind = tokens.end.next_multiple_of(align);
        let before = count_at.checked_sub(word);
        let before =
            before.and_then(|base| Some((base, base.checked_sub((4 * count).next_multiple_of(word))?)));
        let base_behind = Base::Word((behind + 4 * count).next_multiple_of(word));
        let mut places = vec![(behind, base_behind, Order::FromBase), (behind, base_behind, Order::Percpu)];
        places.extend(before.iter().flat_map(|&(base, offsets)| {
            [Order::FromBase, Order::Percpu].map(|order| (offsets, Base::Word(base), order))
        }));
        places.push((behind, Base::Place, Order::FromPlace));
        let is_table = |(offsets, _, order): &(usize, Base, Order)| sorted(bytes, *offsets, count, *order);
        let (offsets, base, order) = places.into_iter().find(is_table)?;
        Some(Kallsyms { bytes, tokens, names, count, offsets, base, percpu: order == Order::Percpu })
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
        self.each(|Entry { name, value, .. }| {
            if let Some(&wanted) = wanted.iter().find(|wanted| wanted.as_bytes() == name)
                && let Value::Offset(offset) = value
            {
                found.entry(wanted).or_insert(offset);
            }
        });
        found
    }

    /// All symbols, in the order in which the kernel lists them.
    pub(super) fn each(&self, mut take: impl FnMut(Entry<'_>)) {
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
            let Some((&letter, name)) = name.split_first() else { continue };
            if let Some(value) = self.value(number) {
                take(Entry { letter, name, value });
            }
        }
    }

    fn value(&self, number: usize) -> Option<Value> {
        let place = self.offsets + 4 * number;
        let value = self.bytes.u32(place)?;
        Some(match self.base {
            Base::Word(_) if !self.percpu => Value::Offset(u64::from(value)),
            Base::Word(_) if (value as i32) < 0 => Value::Offset(u64::from(!value)),
            Base::Word(_) => Value::Absolute(u64::from(value)),
            Base::Place => Value::Offset((place as u64).checked_add_signed(i64::from(value as i32))?),
        })
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
        let aligns = if bytes.word == 4 { &[4][..] } else { &[8, 4] };
        places
            .take(MAX_CANDIDATES)
            .flat_map(move |digits| aligns.iter().filter_map(move |align| Tokens::at(bytes, digits, *align)))
    }

    /// The table whose token `0` is at `digits`.
    fn at(bytes: Bytes<'_>, digits: usize, align: usize) -> Option<Tokens> {
        // The tokens from there on, to find the index.
        let mut end = digits;
        for _ in usize::from(b'0')..TOKENS {
            let rest = bytes.data.get(end..)?;
            end += rest.iter().take(MAX_NAME).position(|&byte| byte == 0)? + 1;
        }
        let index = end.next_multiple_of(align);
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
        (at == end).then_some(Tokens { start, starts, end: index + 2 * TOKENS, align })
    }

    fn text<'d>(&self, bytes: Bytes<'d>, code: u8) -> &'d [u8] {
        let text = bytes.data.get(self.starts[usize::from(code)]..).unwrap_or_default();
        text.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

/// The markers before the table of tokens, or before numbers of three bytes for each symbol that lie between.
fn markers_before<'b>(
    bytes: Bytes<'b>,
    tokens: &Tokens,
) -> impl Iterator<Item = (usize, Vec<usize>)> + use<'b> {
    let (end, align) = (tokens.start, tokens.align);
    let between = (align..3 * MAX_SYMBOLS).step_by(align).map_while(move |size| {
        let end = end.checked_sub(size)?;
        // As many numbers as fit, and as many groups of 256 of them.
        let groups = (size / 3).div_ceil(256);
        let start = end.checked_sub((4 * groups).next_multiple_of(align))?;
        // Where the first group begins, and where the second: looked at before the rest is.
        let second = bytes.u32(start + 4)?;
        let is_start = bytes.u32(start) == Some(0) && (2 * 256..1 << 16).contains(&second);
        Some(is_start.then(|| markers(bytes, end)).flatten().filter(|(found, _)| *found == start))
    });
    markers(bytes, end).into_iter().chain(between.flatten())
}

/// The markers that end here: where in the names each group of 256 begins. They grow, from 0.
fn markers(bytes: Bytes<'_>, end: usize) -> Option<(usize, Vec<usize>)> {
    let mut at = end.checked_sub(4)?;
    // What follows is aligned. A single marker is 0 itself, and a kernel has more.
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
fn names(bytes: Bytes<'_>, markers: usize, groups: &[usize], align: usize) -> Option<(usize, usize, usize)> {
    let last = *groups.last()?;
    let latest = markers.checked_sub(last)? / align * align;
    let earliest = latest.saturating_sub(MAX_GROUP);
    let counts = (earliest..=latest).rev().filter(|at| at % align == 0);
    counts
        .filter_map(|names| {
            let count_at = names.checked_sub(align)?;
            let count = bytes.u32(count_at)? as usize;
            (count <= MAX_SYMBOLS && count.div_ceil(256) == groups.len()).then_some((names, count_at, count))
        })
        .take(MAX_CANDIDATES)
        .find(|(names, _, count)| fits(bytes, *names, *count, markers, groups, align))
}

/// Do so many names fill the place up to the markers, and each group begin where its marker says?
fn fits(
    bytes: Bytes<'_>,
    names: usize,
    count: usize,
    markers: usize,
    groups: &[usize],
    align: usize,
) -> bool {
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
    at.next_multiple_of(align) == markers
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

/// What the numbers of a table of offsets say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// How far behind the base.
    FromBase,
    /// The same with its bits turned, so that it is negative; and before those percpu data, by address.
    Percpu,
    /// How far from its own place.
    FromPlace,
}

/// Are these offsets, which grow? Numbers that are all the same are none, by place either.
fn sorted(bytes: Bytes<'_>, offsets: usize, count: usize, order: Order) -> bool {
    let values = (0..count).map(|number| bytes.u32(offsets + 4 * number));
    if values.clone().all(|value| value == bytes.u32(offsets)) {
        return false;
    }
    let mut before = 0;
    let grows = values.enumerate().all(|(number, value)| {
        let Some(value) = value else { return false };
        let offset = match order {
            Order::FromPlace => (offsets + 4 * number) as i64 + i64::from(value as i32),
            Order::FromBase => i64::from(value),
            Order::Percpu if (value as i32) < 0 => i64::from(!value) + (1 << 31),
            Order::Percpu => i64::from(value),
        };
        let grows = offset >= before;
        before = offset;
        grows
    });
    // Some symbol is of no percpu data.
    grows && (order != Order::Percpu || before >= 1 << 31)
}

fn find(haystack: &[u8], needle: &[u8; 20]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
