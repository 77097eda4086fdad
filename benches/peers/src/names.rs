//! Name -> address of everything that modules refer to.

use crate::files::File;
use object::elf;
use object::read::elf::{FileHeader, Sym};
use std::collections::BTreeSet;

/// Addresses of all names that some module leaves undefined. The addresses are made up and the same for all
/// contenders: what is measured is to find and use them, not to have the kernel that they belong to.
#[derive(Debug)]
pub(crate) struct Names {
    /// Open addressing, linear probing; `entry` 0 is free.
    slots: Vec<Slot>,
    entries: Vec<Entry>,
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u32,
    entry: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    start: u32,
    len: u32,
}

/// Bytes between two names: as if each were a small function or variable.
const STRIDE: u64 = 16;

impl Names {
    /// Gives every name in `names` an address, from `base` up.
    pub(crate) fn new(names: &BTreeSet<&[u8]>, base: u64) -> Self {
        let slot_count = (names.len() * 3 / 2 + 1).next_power_of_two();
        let mut table = Self {
            slots: vec![Slot::default(); slot_count],
            entries: vec![Entry { address: 0, start: 0, len: 0 }],
            text: Vec::new(),
        };
        for (index, name) in names.iter().enumerate() {
            let hash = hash(name);
            let mut slot = table.first_slot(hash);
            while table.slots[slot].entry != 0 {
                slot = table.next_slot(slot);
            }
            table.slots[slot] = Slot { hash, entry: table.entries.len() as u32 };
            table.entries.push(Entry {
                address: base + index as u64 * STRIDE,
                start: table.text.len() as u32,
                len: name.len() as u32,
            });
            table.text.extend_from_slice(name);
        }
        table
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - 1
    }

    /// The address of `name`.
    pub(crate) fn get(&self, name: &[u8]) -> Option<u64> {
        self.find(hash(name), name)
    }

    /// The address of the name that starts at `offset` of a string table and ends with a NUL.
    pub(crate) fn get_in(&self, strings: &[u8], offset: usize) -> Option<u64> {
        let rest = strings.get(offset..)?;
        let (hash, len) = hash_to_nul(rest)?;
        self.find(hash, &rest[..len])
    }

    fn find(&self, hash: u32, name: &[u8]) -> Option<u64> {
        let mut slot = self.first_slot(hash);
        loop {
            let Slot { hash: tag, entry } = self.slots[slot];
            if entry == 0 {
                return None;
            }
            if tag == hash {
                let entry = self.entries[entry as usize];
                let start = entry.start as usize;
                if &self.text[start..start + entry.len as usize] == name {
                    return Some(entry.address);
                }
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
                assert_eq!(table.get_in(&strings, 2), address);
            }
        }
        assert_eq!(table.get(b"absent"), None);
        assert_eq!(table.get_in(b"no end", 0), None);
    }
}
