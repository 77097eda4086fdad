//! Descriptions of who traces (`struct ftrace_ops`, include/linux/ftrace.h).
//!
//! Their first fields are the same in all kernels: the function, the next one, flags, private data, the function that
//! was saved, and where the hashes of functions begin. How large a lock is depends on the kernel; but a description that
//! was made ready names its own hashes by address (kernel/trace/ftrace.c:ftrace_ops_init), and what follows lies as far
//! behind.

use std::collections::{BTreeMap, HashSet};

use super::map::Map;

/// Words before the hashes, and of which one they are.
const FUNC: u64 = 0;
const NEXT: u64 = 1;
const FLAGS: u64 = 2;
const HASHES: u64 = 5;
/// Most words that a pair of hashes with its lock takes.
const MOST_WORDS: u64 = 32;
/// Fields behind the trampoline: its size, a list or two, the function that is called, and where direct calls go.
const BEHIND: u64 = 9;
/// More of them than any machine has, and more functions than one of them names.
const MOST_OPS: usize = 4096;
const MOST_FUNCTIONS: usize = 1 << 16;

const ENABLED: u64 = 1 << 0;
const INITIALIZED: u64 = 1 << 6;
const DIRECT: u64 = 1 << 17;
/// Bits that no kernel has.
const UNKNOWN: u64 = !0 << 24;
/// Flags that are told.
const TOLD: [(u64, &str); 5] = [
    (1 << 2, "SAVE_REGS"),
    (1 << 12, "IPMODIFY"),
    (1 << 13, "PID"),
    (1 << 16, "PERMANENT"),
    (DIRECT, "DIRECT"),
];

/// One description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ops {
    pub(super) address: u64,
    pub(super) function: u64,
    flags: u64,
    next: Option<u64>,
    /// Words of a pair of hashes.
    pub(super) hashes: Option<u64>,
    pub(super) trampoline: Option<u64>,
    /// Where direct calls go.
    pub(super) direct: Option<u64>,
}

impl Ops {
    /// What the memory at an address says, if it can be a description.
    pub(super) fn read(map: &Map<'_>, address: u64) -> Option<Ops> {
        let word = |index: u64| map.word(address.checked_add(index.checked_mul(map.word_size())?)?);
        let (function, flags) = (word(FUNC)?, word(FLAGS)?);
        if flags & UNKNOWN != 0 || !map.is_code(function) {
            return None;
        }
        let own = address + HASHES * map.word_size();
        let size = (HASHES + 2..HASHES + MOST_WORDS).find(|at| word(*at) == Some(own)).map(|at| at - HASHES);
        let behind = size.map(|size| HASHES + 2 * size + 1);
        let trampoline = behind.and_then(word).filter(|trampoline| *trampoline != 0);
        let mut last = behind.into_iter().flat_map(|at| (at + 2..at + 2 + BEHIND).rev());
        let direct = (flags & DIRECT != 0)
            .then(|| last.find_map(|at| word(at).filter(|to| *to != function && map.is_code(*to))))
            .flatten();
        Some(Ops { address, function, flags, next: word(NEXT), hashes: size, trampoline, direct })
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.flags & ENABLED != 0
    }

    /// What its flags say, in the kernel's words.
    pub(super) fn flags(&self) -> Vec<&'static str> {
        TOLD.iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, name)| *name).collect()
    }

    /// The functions that it is for, where the snapshot has the list (`struct ftrace_hash`); `None` if not, or if it is
    /// for all functions.
    pub(super) fn functions(&self, map: &Map<'_>) -> Option<Vec<u64>> {
        let size = map.word_size();
        // Behind the functions that are left out.
        let hash = map.word(self.address + (HASHES + 1) * size).filter(|hash| *hash != 0)?;
        let bits = map.word(hash)?;
        let (buckets, count) = (map.word(hash.checked_add(size)?)?, map.word(hash.checked_add(2 * size)?)?);
        if bits > 16 || count as usize > MOST_FUNCTIONS || buckets == 0 {
            return None;
        }
        let mut functions = Vec::new();
        for bucket in 0..1_u64 << bits {
            let mut entry = map.word(buckets.checked_add(bucket * size)?)?;
            // Entries: two words of the list, then the function.
            while entry != 0 {
                if functions.len() as u64 == count {
                    return None;
                }
                functions.push(map.word(entry.checked_add(2 * size)?)?);
                entry = map.word(entry)?;
            }
        }
        Some(functions)
    }
}

/// All descriptions that the snapshot's memory has.
pub(super) struct AllOps {
    pub(super) by_address: BTreeMap<u64, Ops>,
}

impl AllOps {
    pub(super) fn find(map: &Map<'_>) -> AllOps {
        let mut by_address = BTreeMap::new();
        let size = map.word_size();
        for range in map.data() {
            for (at, word) in map.words(&range) {
                // A word that names hashes a little before it.
                let Some(distance) = at.checked_sub(word).filter(|distance| *distance <= MOST_WORDS * size)
                else {
                    continue;
                };
                let Some(address) = word.checked_sub(HASHES * size).filter(|_| distance >= 2 * size) else {
                    continue;
                };
                let ops = Ops::read(map, address).filter(|ops| ops.flags & INITIALIZED != 0);
                let Some(ops) = ops.filter(|ops| ops.hashes == Some(distance / size)) else { continue };
                if by_address.len() < MOST_OPS {
                    by_address.insert(address, ops);
                }
            }
        }
        let mut all = AllOps { by_address };
        all.follow_the_kernel_s_list(map);
        all
    }

    /// Those that the kernel's own list has, where the snapshot has it: whoever keeps his in the heap is there too.
    fn follow_the_kernel_s_list(&mut self, map: &Map<'_>) {
        let mut next = map.snapshot.symbols.kernel("ftrace_ops_list").and_then(|list| map.word(list));
        let mut seen = HashSet::new();
        while let Some(address) = next.filter(|address| *address != 0 && seen.insert(*address)) {
            let Some(ops) = Ops::read(map, address).filter(|_| seen.len() < MOST_OPS) else { break };
            next = ops.next;
            self.by_address.insert(address, ops);
        }
    }

    /// The one that has this trampoline.
    pub(super) fn of_trampoline(&self, trampoline: u64) -> Option<&Ops> {
        self.by_address.values().find(|ops| ops.trampoline == Some(trampoline))
    }
}
