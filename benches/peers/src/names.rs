//! Name -> address of everything that modules refer to.

use crate::files::File;
use object::elf;
use object::read::elf::{FileHeader, Sym};
use std::collections::BTreeSet;

/// Addresses of all names that some module leaves undefined. The addresses are made up and the same for all
/// contenders: what is measured is to find and use them, not to have the kernel that they belong to.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Open addressing, linear probing.
    slots: Vec<Slot>,
    /// The names, each with a NUL at its end.
    text: Vec<u8>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    address: u64,
    /// Where the name starts in `text`, or `FREE`.
    start: u32,
    hash: u32,
}

const FREE: u32 = u32::MAX;

/// A name that was hashed but not looked up yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hashed {
    hash: u32,
    len: u32,
}

/// Bytes between two names: as if each were a small function or variable.
const STRIDE: u64 = 16;

impl Names {
    /// Gives every name in `names` an address, from `base` up.
    pub(crate) fn new(names: &BTreeSet<&[u8]>, base: u64) -> Self {
        Self::at(names.iter().enumerate().map(|(index, name)| (*name, base + index as u64 * STRIDE)))
    }

    /// Names at the addresses given.
    pub(crate) fn at<'a>(names: impl ExactSizeIterator<Item = (&'a [u8], u64)>) -> Self {
        let slot_count = (names.len() * 3 / 2 + 1).next_power_of_two();
        let free = Slot { address: 0, start: FREE, hash: 0 };
        let mut table = Self { slots: vec![free; slot_count], text: Vec::new(), count: names.len() };
        for (name, address) in names {
            let hash = hash(name);
            let mut slot = table.first_slot(hash);
            while table.slots[slot].start != FREE {
                slot = table.next_slot(slot);
            }
            table.slots[slot] = Slot { address, start: table.text.len() as u32, hash };
            table.text.extend_from_slice(name);
            table.text.push(0);
        }
        table
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The address of `name`.
    pub(crate) fn get(&self, name: &[u8]) -> Option<u64> {
        self.find(hash(name), name)
    }

    /// The first half of looking up the name that starts at `offset` of a string table and ends with a NUL. Many
    /// first halves in a row, and then the second ones, keep the caches' misses from waiting for each other.
    pub(crate) fn hash_in(&self, strings: &[u8], offset: usize) -> Option<Hashed> {
        let (hash, len) = hash_to_nul(strings.get(offset..)?)?;
        prefetch(&self.slots[self.first_slot(hash)]);
        Some(Hashed { hash, len: len as u32 })
    }

    /// The second half.
    pub(crate) fn get_hashed(&self, hashed: Hashed, strings: &[u8], offset: usize) -> Option<u64> {
        self.find(hashed.hash, strings.get(offset..offset + hashed.len as usize)?)
    }

    fn find(&self, hash: u32, name: &[u8]) -> Option<u64> {
        let mut slot = self.first_slot(hash);
        loop {
            let Slot { address, start, hash: tag } = self.slots[slot];
            if start == FREE {
                return None;
            }
            let start = start as usize;
            if tag == hash
                && self.text.get(start..start + name.len()) == Some(name)
                && self.text.get(start + name.len()) == Some(&0)
            {
                return Some(address);
            }
            slot = self.next_slot(slot);
        }
    }

    fn first_slot(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn next_slot(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}

/// Asks for `place` to be brought into the cache.
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint without effect on the program, and the instruction is part of the base set.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * u128::from(FACTOR);
    product as u64 ^ (product >> 64) as u64
}

/// Eight bytes a step; the last step's missing bytes are zero. Names contain no NUL, so that is unambiguous
/// enough for a hash.
fn hash(name: &[u8]) -> u32 {
    let mut state = SEED;
    let (words, rest) = name.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state, u64::from_le_bytes(last)) as u32
}

/// The same hash of the bytes before the first NUL, and how many they are: the end is found on the way.
fn hash_to_nul(bytes: &[u8]) -> Option<(u32, usize)> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut state = SEED;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            let tail = zeros.trailing_zeros() / 8;
            let kept = word & ((1 << (tail * 8)) - 1);
            return Some((mix(state, kept) as u32, index * 8 + tail as usize));
        }
        state = mix(state, word);
    }
    let tail = rest.iter().position(|&byte| byte == 0)?;
    let mut last = [0; 8];
    last[..tail].copy_from_slice(&rest[..tail]);
    Some((mix(state, u64::from_le_bytes(last)) as u32, words.len() * 8 + tail))
}

/// The names that the modules leave undefined.
pub(crate) fn undefined(files: &[File]) -> object::read::Result<BTreeSet<&[u8]>> {
    let mut names = BTreeSet::new();
    for file in files {
        let data = file.bytes();
        let header = elf::FileHeader64::<object::LittleEndian>::parse(data)?;
        let endian = header.endian()?;
        let symbols = header.sections(endian, data)?.symbols(endian, data, elf::SHT_SYMTAB)?;
        for symbol in symbols.iter().skip(1).filter(|symbol| symbol.is_undefined(endian)) {
            names.insert(symbol.name(endian, symbols.strings())?);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_name_both_ways() {
        let text: Vec<String> = (0..3000).map(|i| format!("{:0width$}", i, width = 1 + i % 40)).collect();
        let names: BTreeSet<&[u8]> = text.iter().map(|name| name.as_bytes()).collect();
        let table = Names::new(&names, 0x1000);
        assert_eq!(table.len(), names.len());
        for (index, name) in names.iter().enumerate() {
            let address = Some(0x1000 + index as u64 * STRIDE);
            assert_eq!(table.get(name), address);
            for padding in 1..10 {
                let strings = [b"x\0", *name, &vec![0; padding]].concat();
                let hashed = table.hash_in(&strings, 2).unwrap();
                assert_eq!(table.get_hashed(hashed, &strings, 2), address);
            }
        }
        assert_eq!(table.get(b"absent"), None);
        assert!(table.hash_in(b"no end", 0).is_none());
    }
}
