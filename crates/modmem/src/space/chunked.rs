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
    /// Key of the first entry: the search among chunks looks at nothing else.
    first: u64,
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
    /// Brings what the chunk remembers of its entries up to date.
    fn summarise(&mut self) {
        self.first = self.entries.first().map_or(self.first, |entry| entry.0);
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
        self.chunks.partition_point(|chunk| chunk.first <= key).saturating_sub(1)
    }

    /// Inserts a key that is not in the map.
    pub(crate) fn insert(&mut self, key: u64, value: V) -> Result<(), OutOfMemory> {
        let index = self.chunk_for(key);
        let index = match self.chunks.get(index) {
            Some(chunk) if chunk.entries.len() < CHUNK => index,
            _ => self.make_room(index, key)?,
        };
        let chunk = &mut self.chunks[index];
        let at = chunk.entries.partition_point(|entry| entry.0 < key);
        // Every chunk was given room for all of its entries.
        chunk.entries.insert(at, (key, value));
        chunk.first = chunk.first.min(key);
        chunk.summary = chunk.summary.max(value.summary(key));
        self.len += 1;
        Ok(())
    }

    /// Puts a new chunk behind a full one, and half of its entries into it; the chunk that `key` belongs to now.
    #[cold]
    fn make_room(&mut self, index: usize, key: u64) -> Result<usize, OutOfMemory> {
        self.chunks.try_reserve(1).map_err(|_| OutOfMemory)?;
        let mut entries = Vec::new();
        entries.try_reserve_exact(CHUNK).map_err(|_| OutOfMemory)?;
        let Some(full) = self.chunks.get_mut(index) else {
            self.chunks.push(Chunk { first: key, entries, summary: 0 });
            return Ok(0);
        };
        // Ascending insertion is the common case: then the old chunk stays full.
        if full.entries.last().is_some_and(|last| key < last.0) {
            entries.extend(full.entries.drain(CHUNK / 2..));
            full.summarise();
        }
        let mut upper = Chunk { first: key, entries, summary: 0 };
        upper.summarise();
        let index = if key < upper.first { index } else { index + 1 };
        self.chunks.insert(if key < upper.first { index + 1 } else { index }, upper);
        Ok(index)
    }

    /// Removes a key; its value if it was there.
    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        let index = self.chunk_for(key);
        let chunk = self.chunks.get_mut(index)?;
        let at = chunk.entries.binary_search_by_key(&key, |entry| entry.0).ok()?;
        let (_, value) = chunk.entries.remove(at);
        if chunk.entries.is_empty() {
            self.chunks.remove(index);
        } else if at == 0 || (chunk.summary != 0 && value.summary(key) == chunk.summary) {
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
