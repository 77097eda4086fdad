//! An ordered map in two levels: sorted chunks, and a sorted table of chunks.
//!
//! It is for sets of address ranges, tens of thousands at most: an insertion moves at most half a chunk, a search is
//! two binary searches over memory that lies together, and whatever grows is reserved first, so that running out of
//! memory is an error of the caller's operation. Each chunk carries a summary of its values, which lets a search for
//! "the first value that is large enough" skip whole chunks.

use alloc::vec::Vec;

/// Entries at which a chunk is split in two.
const CHUNK: usize = 128;

/// No memory to grow into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

#[derive(Clone, Debug)]
pub(crate) struct ChunkedMap<V> {
    chunks: Vec<Chunk<V>>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Chunk<V> {
    /// Never empty; ascending keys.
    entries: Vec<(u64, V)>,
    /// The largest summary of an entry, kept by whoever changes entries.
    summary: u64,
}

/// What a chunk remembers of a value; `0` for maps that need none.
pub(crate) trait Summary {
    fn summary(&self, key: u64) -> u64;
}

impl<V: Copy + Summary> Chunk<V> {
    fn first(&self) -> u64 {
        self.entries.first().map_or(0, |entry| entry.0)
    }

    fn summarise(&mut self) {
        self.summary = self.entries.iter().map(|(key, value)| value.summary(*key)).max().unwrap_or(0);
    }
}

impl<V: Copy + Summary> ChunkedMap<V> {
    pub(crate) const fn new() -> ChunkedMap<V> {
        ChunkedMap { chunks: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The chunk that holds `key` or would: the last one that starts at or before it, else the first.
    fn chunk_for(&self, key: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.first() <= key).saturating_sub(1)
    }

    /// Makes sure that the next insertion cannot fail, whatever its key is.
    pub(crate) fn reserve_one(&mut self, key: u64) -> Result<(), OutOfMemory> {
        self.chunks.try_reserve(1).map_err(|_| OutOfMemory)?;
        let chunk = self.chunk_for(key);
        match self.chunks.get_mut(chunk) {
            Some(chunk) if chunk.entries.len() < CHUNK => {
                chunk.entries.try_reserve_exact(CHUNK - chunk.entries.len()).map_err(|_| OutOfMemory)
            }
            Some(full) => {
                // Splitting ahead of need leaves the insertion itself with nothing that can fail.
                let mut upper = Vec::new();
                upper.try_reserve_exact(CHUNK).map_err(|_| OutOfMemory)?;
                // Ascending insertion is the common case: then the old chunk stays full.
                let at = if full.entries.last().is_some_and(|last| last.0 < key) { CHUNK } else { CHUNK / 2 };
                if at == CHUNK {
                    return Ok(());
                }
                upper.extend(full.entries.drain(at..));
                full.summarise();
                let mut upper = Chunk { entries: upper, summary: 0 };
                upper.summarise();
                self.chunks.insert(chunk + 1, upper);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Inserts a key that is not in the map.
    pub(crate) fn insert(&mut self, key: u64, value: V) -> Result<(), OutOfMemory> {
        self.reserve_one(key)?;
        let index = self.chunk_for(key);
        let summary = value.summary(key);
        self.len += 1;
        if let Some(chunk) = self.chunks.get_mut(index)
            && chunk.entries.len() < CHUNK
        {
            let at = chunk.entries.partition_point(|entry| entry.0 < key);
            chunk.entries.insert(at, (key, value));
            chunk.summary = chunk.summary.max(summary);
            return Ok(());
        }
        let mut entries = Vec::new();
        if entries.try_reserve_exact(CHUNK).is_err() {
            self.len -= 1;
            return Err(OutOfMemory);
        }
        entries.push((key, value));
        let at = if self.chunks.is_empty() { 0 } else { index + 1 };
        self.chunks.insert(at, Chunk { entries, summary });
        Ok(())
    }

    /// Removes a key; its value if it was there.
    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        let index = self.chunk_for(key);
        let chunk = self.chunks.get_mut(index)?;
        let at = chunk.entries.binary_search_by_key(&key, |entry| entry.0).ok()?;
        let (_, value) = chunk.entries.remove(at);
        if chunk.entries.is_empty() {
            self.chunks.remove(index);
        } else if value.summary(key) == chunk.summary {
            chunk.summarise();
        }
        self.len -= 1;
        Some(value)
    }

    /// Replaces the entry at `key`, which is in the map, by one at `new_key` between the same neighbours.
    pub(crate) fn replace(&mut self, key: u64, new_key: u64, value: V) {
        let index = self.chunk_for(key);
        if let Some(chunk) = self.chunks.get_mut(index)
            && let Ok(at) = chunk.entries.binary_search_by_key(&key, |entry| entry.0)
        {
            chunk.entries[at] = (new_key, value);
            chunk.summarise();
        }
    }

    /// The last entry whose key is at most `key`.
    pub(crate) fn at_or_before(&self, key: u64) -> Option<(u64, V)> {
        let chunk = self.chunks.get(self.chunk_for(key))?;
        let at = chunk.entries.partition_point(|entry| entry.0 <= key);
        at.checked_sub(1).map(|at| chunk.entries[at])
    }

    /// The first entry whose key is at least `key`.
    pub(crate) fn at_or_after(&self, key: u64) -> Option<(u64, V)> {
        let index = self.chunk_for(key);
        let chunk = self.chunks.get(index)?;
        let at = chunk.entries.partition_point(|entry| entry.0 < key);
        chunk.entries.get(at).copied().or_else(|| self.chunks.get(index + 1)?.entries.first().copied())
    }

    /// The first entry from key `from` on for which `found` gives something, among chunks whose summary is at least
    /// `summary`.
    pub(crate) fn find_from<T>(
        &self,
        from: u64,
        summary: u64,
        found: impl Fn(u64, V) -> Option<T>,
    ) -> Option<T> {
        let first = self.chunk_for(from);
        let candidates = self.chunks.get(first..).unwrap_or_default();
        candidates.iter().filter(|chunk| chunk.summary >= summary).find_map(|chunk| {
            let skip = chunk.entries.partition_point(|entry| entry.0 < from);
            chunk.entries[skip..].iter().find_map(|&(key, value)| found(key, value))
        })
    }

    /// All entries, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, V)> {
        self.chunks.iter().flat_map(|chunk| chunk.entries.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    impl Summary for u64 {
        fn summary(&self, _key: u64) -> u64 {
            *self
        }
    }

    #[test]
    fn the_map_agrees_with_a_btree_over_a_long_random_run() {
        let mut map = ChunkedMap::new();
        let mut model = BTreeMap::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..40_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let key = state >> 51;
            if state & 3 != 0 && !model.contains_key(&key) {
                let value = state & 0xff;
                map.insert(key, value).unwrap();
                model.insert(key, value);
            } else {
                assert_eq!(map.remove(key), model.remove(&key));
            }
            let probe = (state >> 20) & 0x1fff;
            assert_eq!(map.at_or_before(probe), model.range(..=probe).next_back().map(|(k, v)| (*k, *v)));
            assert_eq!(map.at_or_after(probe), model.range(probe..).next().map(|(k, v)| (*k, *v)));
            let large = map.find_from(probe, 0xf0, |key, value| (value >= 0xf0).then_some(key));
            assert_eq!(large, model.range(probe..).find(|(_, v)| **v >= 0xf0).map(|(k, _)| *k));
        }
        assert_eq!(map.len(), model.len());
        assert!(map.iter().eq(model.into_iter()));
    }
}
