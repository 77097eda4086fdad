//! A `struct module` in memory (include/linux/module.h): state, list, and name come first in all kernels. Each of its
//! memories has a node of the kernel's tree of addresses, which names the module, behind its base and size.

use std::ops::Range;

use modmem::layout::MemoryKind;
use modmem::profile::Profile;

use super::Words;
use crate::snapshot::is_module_name;

/// Words before the name, and of what follows it in which memories are looked for.
const NAME: u64 = 3;
const MOST_WORDS: u64 = 320;
/// Bytes of the name, with its end; the field is as long as 64 bytes without a word.
const NAME_FIELD: u64 = 64;
/// States that a module can be in.
const STATES: u32 = 4;
/// Words from a memory's base to where the module is named: the size, and what newer kernels have between.
const BEFORE: std::ops::RangeInclusive<u64> = 2..=5;
/// Memories in the kernel's order (`enum mod_mem_type`, since Linux 6.4).
const KINDS: [MemoryKind; 7] = MemoryKind::ALL;

/// What one tells.
#[derive(Clone, Debug)]
pub(super) struct Structure {
    pub(super) address: u64,
    pub(super) name: String,
    pub(super) memories: Vec<(Option<MemoryKind>, Range<u64>)>,
    /// Behind its last word.
    pub(super) end: u64,
}

/// All that lie in a range, which is one of those that nobody owns.
pub(super) fn all_in(
    words: &Words<'_>,
    profile: &Profile,
    range: &Range<u64>,
    nobodys: &[Range<u64>],
) -> Vec<Structure> {
    let size = words.size();
    let mut found: Vec<Structure> = Vec::new();
    for (start, bytes) in words.memory.parts(range.clone()) {
        let end = start + bytes.len() as u64;
        for at in (start.next_multiple_of(size)..end).step_by(size as usize) {
            // What one describes itself by is not another one.
            let is_behind = found.last().is_none_or(|last| last.address + MOST_WORDS / 4 * size <= at);
            found.extend(is_behind.then(|| read(words, profile, at, nobodys)).flatten());
        }
    }
    found
}

fn read(words: &Words<'_>, profile: &Profile, at: u64, nobodys: &[Range<u64>]) -> Option<Structure> {
    let size = words.size();
    if words.half(at)? >= STATES {
        return None;
    }
    let name = name(words, at + NAME * size)?;
    let end = at.checked_add(MOST_WORDS * size)?;
    // Where it is named by its memories' nodes.
    let named = (NAME..MOST_WORDS).map(|index| at + index * size);
    let named: Vec<u64> = named.filter(|place| words.word(*place) == Some(at)).collect();
    // Fillers at the ends of a memory may belong to nobody's ranges no more.
    let own = |memory: &Range<u64>| {
        let first = nobodys.partition_point(|range| range.end <= memory.start);
        nobodys.get(first).is_some_and(|range| range.start < memory.end)
    };
    let (before, first, stride) = named.windows(2).find_map(|pair| {
        let stride = pair[1] - pair[0];
        let before =
            BEFORE.into_iter().find(|before| memory(words, profile, pair[0], *before, &own).is_some())?;
        Some((before, pair[0], stride))
    })?;
    let nodes = (0..KINDS.len() as u64).map(|index| first + index * stride);
    let nodes: Vec<u64> = nodes.take_while(|node| named.contains(node)).collect();
    let kinds = if nodes.len() == KINDS.len() { &KINDS[..] } else { &[] };
    let mut memories = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        if let Some(range) = memory(words, profile, *node, before, &own) {
            memories.push((kinds.get(index).copied(), range));
        }
    }
    let describes_itself = memories.iter().any(|(_, range)| range.contains(&at));
    describes_itself.then_some(Structure { address: at, name, memories, end })
}

/// The name, if the field holds one and zeros behind it.
fn name(words: &Words<'_>, at: u64) -> Option<String> {
    let length = usize::try_from(NAME_FIELD - words.size()).ok()?;
    let field = words.memory.bytes(at, length)?;
    let end = field.iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
    let name = std::str::from_utf8(&field[..end]).ok()?;
    let is_text = name.chars().all(|c| c.is_ascii_graphic()) && is_module_name(name);
    (is_text && field[end..].iter().all(|byte| *byte == 0)).then(|| name.to_owned())
}

/// The memory whose node names the module at `node`, if it is one that nobody owns.
fn memory(
    words: &Words<'_>,
    profile: &Profile,
    node: u64,
    before: u64,
    own: &impl Fn(&Range<u64>) -> bool,
) -> Option<Range<u64>> {
    let place = node.checked_sub(before * words.size())?;
    let base = words.word(place).filter(|base| *base != 0)?;
    // 32 bits of size, behind a flag in some kernels.
    let mut sizes = (place + words.size()..node).step_by(4).filter_map(|at| words.half(at));
    let largest = u64::from(u32::MAX >> 1);
    let size = sizes.find(|size| *size > 1 && u64::from(*size).is_multiple_of(profile.page_size))?;
    let length = u64::from(size).min(largest);
    let range = base..base.checked_add(length)?;
    (base.is_multiple_of(profile.page_size.min(64)) && own(&range)).then_some(range)
}
