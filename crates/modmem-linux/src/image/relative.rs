//! Relocations that a kernel applies to itself when it starts.
//!
//! A kernel that may run anywhere is linked as a position-independent program. What has to be added to each pointer of
//! it stands in a table, `.rela.dyn`, and the pointer itself may be 0 in the image until then. A record is three words:
//! the pointer's address, the type, and the address that the pointer is to hold.

use modmem::arch::Machine;

use super::bytes::Bytes;

/// A table of fewer records is taken for chance.
const LEAST: usize = 64;

/// The pointers that a table tells of: their addresses and what they hold, by address.
#[derive(Debug, Default)]
pub(crate) struct Relative {
    pointers: Vec<(u64, u64)>,
}

/// The type of the relocation that adds the place where a program runs.
fn relative_type(machine: Machine) -> Option<u64> {
    match machine {
        Machine::Arm64 => Some(1027),
        Machine::RiscV => Some(3),
        Machine::PowerPc64 | Machine::PowerPc => Some(22),
        Machine::S390 => Some(12),
        Machine::LoongArch => Some(3),
        _ => None,
    }
}

impl Relative {
    /// The longest table in an image; empty if there is none.
    pub(crate) fn find(bytes: Bytes<'_>, machine: Machine) -> Relative {
        let Some(kind) = relative_type(machine) else { return Relative::default() };
        let (word, record) = (bytes.word, 3 * bytes.word);
        let is_record = |at: usize| bytes.word(at + word) == Some(kind);
        let mut best = 0..0;
        // One place for each of the three words that a record may begin with.
        for phase in [0, word, 2 * word] {
            let mut at = phase;
            while at + record <= bytes.data.len() {
                let start = at;
                while at + record <= bytes.data.len() && is_record(at) {
                    at += record;
                }
                if at - start > best.len() {
                    best = start..at;
                }
                at += record;
            }
        }
        if best.len() < LEAST * record {
            return Relative::default();
        }
        Relative::of(bytes.with(&bytes.data[best]), machine)
    }

    /// What a whole table tells. Records of other types are passed over.
    pub(crate) fn of(table: Bytes<'_>, machine: Machine) -> Relative {
        let word = table.word;
        let records = table.data.chunks_exact(3 * word).map(|record| table.with(record));
        let pointer = |record: Bytes<'_>| {
            let is_relative = record.word(word) == relative_type(machine);
            Some((record.word(0)?, record.word(2 * word)?)).filter(|_| is_relative)
        };
        let mut pointers: Vec<(u64, u64)> = records.filter_map(pointer).collect();
        pointers.sort_unstable();
        Relative { pointers }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pointers.is_empty()
    }

    /// Pointers and what they hold, by address.
    pub(crate) fn pointers(&self) -> &[(u64, u64)] {
        &self.pointers
    }

    /// Writes the pointers that lie in `data`, which is at `address`.
    pub(crate) fn apply(&self, data: &mut [u8], address: u64, little: bool, word: usize) {
        let from = self.pointers.partition_point(|(place, _)| *place < address);
        for &(place, value) in &self.pointers[from..] {
            let Ok(at) = usize::try_from(place - address) else { break };
            if at >= data.len() {
                break;
            }
            let Some(place) = data.get_mut(at..).and_then(|rest| rest.get_mut(..word)) else { break };
            match (little, word) {
                (true, _) => place.copy_from_slice(&value.to_le_bytes()[..word]),
                (false, _) => place.copy_from_slice(&value.to_be_bytes()[8 - word..]),
            }
        }
    }
}
