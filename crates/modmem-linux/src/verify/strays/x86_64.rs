//! What x86-64's kernel keeps among modules, by what the memory holds: programs of BPF, copies of the tracer's entry,
//! pages of probed instructions, thunks. Each is recognised where it begins and ends where it can end: what lies behind
//! it has to be something by itself.

use std::ops::Range;

use super::Sign;
use super::bpf::{self, CHUNK};
use super::places::{Listed, Places};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// What free text is filled with.
const INT3: u8 = 0xcc;

/// Something found in memory that no module owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) range: Range<u64>,
    /// What it is, and what says so; `None` for what nothing explains.
    pub(super) owner: Option<(&'static str, Sign)>,
}

/// What there is in `bytes`, which lie at `start` and belong to no module. `packed`: code of different owners shares
/// pages, and what is free of these is filled.
pub(super) fn extents(start: u64, bytes: &[u8], places: &Places, packed: bool) -> Vec<Extent> {
    let end = start + bytes.len() as u64;
    let mut extents: Vec<Extent> = Vec::new();
    let mut at = start;
    while let Some(offset) = bytes[(at - start) as usize..].iter().position(|byte| !is_filler(*byte)) {
        let first = at + offset as u64;
        // Everything that is handed out begins at a multiple of a chunk.
        let begin = (first / CHUNK as u64 * CHUNK as u64).max(at);
        let rest = &bytes[(begin - start) as usize..];
        let known = known(begin, first, rest, places, packed).filter(|(_, length)| *length > 0);
        let (owner, length) = match known {
            Some((owner, length)) => (Some(owner), length.min(end - begin)),
            // Up to where something that is known could begin.
            None => (None, (first / CHUNK as u64 * CHUNK as u64 + CHUNK as u64).min(end) - begin),
        };
        let range = match owner {
            Some(_) => begin..begin + length,
            None => trimmed(begin, &rest[..length as usize]),
        };
        at = begin + length;
        match extents.last_mut() {
            // One thing of one owner, whatever free memory lies between: programs in a pack, a hidden module's text.
            Some(last) if last.owner == owner && belongs(last, &range, owner) => last.range.end = range.end,
            _ => extents.push(Extent { range, owner }),
        }
    }
    extents
}

/// Whether an extent goes on with what is found next.
fn belongs(last: &Extent, next: &Range<u64>, owner: Option<(&str, Sign)>) -> bool {
    owner.is_some() || next.start - last.range.end < PAGE
}

fn is_filler(byte: u8) -> bool {
    byte == INT3 || byte == 0
}

/// The addresses of what of a chunk is no filler.
fn trimmed(start: u64, bytes: &[u8]) -> Range<u64> {
    let first = bytes.iter().position(|byte| !is_filler(*byte)).unwrap_or(0);
    let last = bytes.iter().rposition(|byte| !is_filler(*byte)).unwrap_or(0);
    start + first as u64..start + last as u64 + 1
}

/// Whose what begins in the chunk at `begin` is, and how long it is. `first` is its first byte that is no filler.
fn known(
    begin: u64,
    first: u64,
    rest: &[u8],
    places: &Places,
    packed: bool,
) -> Option<((&'static str, Sign), u64)> {
    let page = begin / PAGE * PAGE;
    let to_page_end = page + PAGE - begin;
    let listed =
        |range: Range<u64>, owner: &str| places.listed_in(&range).iter().any(|listed| listed.owner == owner);
    if listed(page..page + 1, "kprobes") {
        return Some((("kprobes", Sign::Listed), to_page_end));
    }
    if let Some(length) = bpf::program(rest) {
        return Some((("BPF programs", Sign::Form), length as u64));
    }
    let here = begin..first + 1;
    if listed(here.clone(), "BPF programs") {
        let is_other = |offset: usize| {
            let at = begin + offset as u64;
            places.listed_in(&(at..at + CHUNK as u64)).iter().any(|Listed { address, .. }| *address == at)
        };
        return Some((("BPF programs", Sign::Listed), bpf::image(rest, is_other) as u64));
    }
    if listed(here, "ftrace trampolines") {
        // A trampoline is smaller than a page; where pages are its own, so is the rest of the page.
        let used = rest.chunks(CHUNK).take_while(|chunk| !chunk.iter().all(|byte| is_filler(*byte))).count();
        let length = if packed { ((used * CHUNK) as u64).min(PAGE) } else { to_page_end };
        return Some((("ftrace trampolines", Sign::Listed), length));
    }
    let page = rest.get(..PAGE as usize).filter(|_| begin.is_multiple_of(PAGE))?;
    is_page_of_thunks(page).then_some((("ITS thunks", Sign::Contents), PAGE))
}

/// A page of nothing but breakpoints and `jmp *reg; int3`.
fn is_page_of_thunks(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        bytes = match bytes {
            [0xcc, rest @ ..]
            | [0xff, 0xe0..=0xe7, 0xcc, rest @ ..]
            | [0x41, 0xff, 0xe0..=0xe7, 0xcc, rest @ ..] => rest,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0xffff_ffff_c000_0000;

    /// A program of two chunks behind its header.
    fn program() -> Vec<u8> {
        let mut bytes = vec![INT3; 2 * CHUNK];
        bytes[..4].copy_from_slice(&(2 * CHUNK as u32).to_le_bytes());
        bytes[8..20].copy_from_slice(&[0x0f, 0x1f, 0x44, 0, 0, 0x55, 0x48, 0x89, 0xe5, 0x31, 0xc0, 0xc3]);
        bytes
    }

    fn put(memory: &mut [u8], offset: usize, bytes: &[u8]) {
        memory[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn places(listed: &[(usize, &'static str)]) -> Places {
        let listed = listed.iter().map(|(offset, owner)| Listed { address: START + *offset as u64, owner });
        Places { listed: listed.collect(), ..Places::default() }
    }

    fn found(memory: &[u8], places: &Places, packed: bool) -> Vec<(u64, u64, Option<&'static str>)> {
        let extents = extents(START, memory, places, packed);
        let owner = |extent: &Extent| extent.owner.map(|(owner, _)| owner);
        extents.iter().map(|e| (e.range.start - START, e.range.end - START, owner(e))).collect()
    }

    #[test]
    fn a_pack_is_programs_and_nothing_else() {
        let mut memory = vec![INT3; 0x4000];
        assert_eq!(found(&memory, &places(&[]), true), []);
        put(&mut memory, 0x80, &program());
        put(&mut memory, 0x1000, &program());
        let bpf = Some("BPF programs");
        assert_eq!(found(&memory, &places(&[]), true), [(0x80, 0x1080, bpf)]);
        // Code behind a program, whose header does not count it.
        put(&mut memory, 0x1080, &[0x48, 0x31, 0xc0, 0xc3]);
        assert_eq!(found(&memory, &places(&[]), true), [(0x80, 0x1080, bpf), (0x1080, 0x1084, None)]);
    }

    #[test]
    fn what_is_listed_ends_where_it_can_end() {
        let mut memory = vec![INT3; 0x4000];
        put(&mut memory, 0x1000, &[0x90; 0x150]);
        put(&mut memory, 0x1c00, &[0x90; 4]);
        let trampoline = places(&[(0x1000, "ftrace trampolines")]);
        let ftrace = Some("ftrace trampolines");
        // In a pack the rest of the page is somebody else's.
        assert_eq!(found(&memory, &trampoline, true), [(0x1000, 0x1180, ftrace), (0x1c00, 0x1c04, None)]);
        assert_eq!(found(&memory, &trampoline, false), [(0x1000, 0x2000, ftrace)]);
        let probes = places(&[(0x1000, "kprobes")]);
        assert_eq!(found(&memory, &probes, true), [(0x1000, 0x2000, Some("kprobes"))]);
        let bpf = places(&[(0x1000, "BPF programs"), (0x1080, "BPF programs")]);
        let expected = [(0x1000, 0x1180, Some("BPF programs")), (0x1c00, 0x1c04, None)];
        assert_eq!(found(&memory, &bpf, true), expected);
        // A name in the middle of something excuses nothing before it.
        let inside = places(&[(0x1100, "BPF programs")]);
        assert_eq!(found(&memory, &inside, true)[0], (0x1000, 0x1100, None));
    }

    #[test]
    fn what_nothing_explains_is_one_extent_across_small_gaps() {
        let mut memory = vec![0; 0x4000];
        put(&mut memory, 0x10, &[0x90; 8]);
        put(&mut memory, 0x800, &[0x90; 8]);
        put(&mut memory, 0x3000, &[0x90; 8]);
        assert_eq!(found(&memory, &places(&[]), false), [(0x10, 0x808, None), (0x3000, 0x3008, None)]);
    }

    #[test]
    fn pages_of_thunks_are_whole_pages() {
        let mut memory = vec![INT3; 0x1000];
        put(&mut memory, 0x20, &[0x41, 0xff, 0xe3, INT3, 0xff, 0xe0]);
        assert_eq!(found(&memory, &places(&[]), false), [(0, 0x1000, Some("ITS thunks"))]);
        put(&mut memory, 0x800, &[0xff, 0xd0]);
        assert!(found(&memory, &places(&[]), false).iter().all(|(.., owner)| owner.is_none()));
    }
}
