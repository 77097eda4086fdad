//! Who hooks what, as far as that is told in the heap: the descriptions of all tracers and the functions that they are
//! for, and the functions that listen to tracepoints.
//!
//! `verify` names hookers by it and believes nothing else of it, so it need not be of the same moment as code.

use std::collections::HashSet;
use std::ops::Range;

use super::kcore::Kcore;
use crate::snapshot::Snapshot;

/// Words of a description of a tracer (`struct ftrace_ops`) before its hashes, and of these at most.
const HASHES: u64 = 5;
const MOST_WORDS: u64 = 32;
/// Words behind the second pair of hashes: the trampoline, its size, lists, functions.
const BEHIND: u64 = 11;
/// More tracers, functions, and listeners to one tracepoint than are taken.
const MOST_TRACERS: usize = 1024;
const MOST_FUNCTIONS: usize = 1 << 13;
const MOST_BITS: u64 = 12;
const MOST_LISTENERS: u64 = 16;
/// Words of a tracepoint at most, and the first that can lead to who listens.
const TRACEPOINT: u64 = 16;
const LISTENERS: u64 = 5;

/// Memory that is looked at before it is taken.
struct Looker<'k> {
    kcore: &'k mut Kcore,
    size: u64,
    ranges: Vec<Range<u64>>,
}

impl Looker<'_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..self.size as usize];
        self.kcore.page(address, bytes).then_some(())?;
        Some(match (&*bytes, self.kcore.is_little) {
            ([a, b, c, d], true) => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
            ([a, b, c, d], false) => u64::from(u32::from_be_bytes([*a, *b, *c, *d])),
            (bytes, true) => u64::from_le_bytes(*bytes.first_chunk()?),
            (bytes, false) => u64::from_be_bytes(*bytes.first_chunk()?),
        })
    }

    fn field(&mut self, address: u64, index: u64) -> Option<u64> {
        self.word(address.checked_add(index * self.size)?)
    }

    /// Takes so many words, if the last of them can be read.
    fn take(&mut self, address: u64, words: u64) {
        let end = address.checked_add(words * self.size);
        if let Some(end) = end.filter(|_| self.field(address, words - 1).is_some()) {
            self.ranges.push(address..end);
        }
    }
}

/// The ranges to be read; they may overlap each other and what was read.
pub(super) fn ranges(snapshot: &Snapshot, kcore: &mut Kcore) -> Vec<Range<u64>> {
    let size = if kcore.is_64 { 8 } else { 4 };
    let mut looker = Looker { kcore, size, ranges: Vec::new() };
    tracers(snapshot, &mut looker);
    listeners(snapshot, &mut looker);
    looker.ranges
}

/// The kernel's list of descriptions (kernel/trace/ftrace.c:ftrace_ops_list).
fn tracers(snapshot: &Snapshot, looker: &mut Looker<'_>) {
    let Some(list) = snapshot.symbols.kernel("ftrace_ops_list") else { return };
    looker.take(list, 1);
    let (mut next, mut seen, mut functions) = (looker.word(list), HashSet::new(), 0);
    while let Some(ops) = next.filter(|ops| *ops != 0 && seen.insert(*ops) && seen.len() <= MOST_TRACERS) {
        let own = ops.wrapping_add(HASHES * looker.size);
        // Where its hashes are named ends the first pair of them.
        let named = (HASHES + 2..HASHES + MOST_WORDS).find(|at| looker.field(ops, *at) == Some(own));
        let words = named.map_or(HASHES + 3, |named| named + (named - HASHES) + BEHIND);
        looker.take(ops, words);
        if let Some(hash) = looker.field(ops, HASHES + 1).filter(|hash| *hash != 0) {
            hash_of(looker, hash, &mut functions);
        }
        next = looker.field(ops, 1);
    }
}

/// The functions that a description is for (`struct ftrace_hash`).
fn hash_of(looker: &mut Looker<'_>, hash: u64, functions: &mut usize) {
    looker.take(hash, 3);
    let fields = [0, 1, 2].map(|index| looker.field(hash, index));
    let [Some(bits), Some(buckets), Some(count)] = fields else { return };
    if bits > MOST_BITS || count as usize > MOST_FUNCTIONS {
        return;
    }
    looker.take(buckets, 1 << bits);
    for bucket in 0..1 << bits {
        let mut entry = looker.field(buckets, bucket).unwrap_or(0);
        while entry != 0 && *functions < MOST_FUNCTIONS {
            *functions += 1;
            looker.take(entry, 3);
            entry = looker.word(entry).unwrap_or(0);
        }
    }
}

/// The functions that listen to tracepoints which are on (`struct tracepoint`, `struct tracepoint_func`).
fn listeners(snapshot: &Snapshot, looker: &mut Looker<'_>) {
    let kernel = snapshot.kernel_place().map_or(0..0, |place| place.start.0..place.end.0);
    let tracepoints = snapshot.symbols.iter().filter(|symbol| symbol.name.starts_with("__tracepoint_"));
    let tracepoints: Vec<u64> = tracepoints.map(|symbol| symbol.address).collect();
    for tracepoint in tracepoints {
        // Behind the name, how often it is enabled.
        let mut enabled = [0; 4];
        if !looker.kcore.page(tracepoint.wrapping_add(looker.size), &mut enabled) || enabled == [0; 4] {
            continue;
        }
        looker.take(tracepoint, TRACEPOINT);
        for index in LISTENERS..TRACEPOINT {
            let Some(array) = looker.field(tracepoint, index) else { break };
            if array == 0 || kernel.contains(&array) || array % looker.size != 0 {
                continue;
            }
            // Function, data, priority, up to one without a function.
            let mut count = 0;
            while count < MOST_LISTENERS
                && looker.field(array, 3 * count).is_some_and(|function| function != 0)
            {
                count += 1;
            }
            if (1..MOST_LISTENERS).contains(&count) {
                looker.take(array, 3 * count + 1);
            }
        }
    }
}
