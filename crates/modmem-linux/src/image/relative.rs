//! Relocations that a kernel applies to itself when it starts.
//!
//! A kernel that may run anywhere is linked as a position-independent program. What has to be added to each pointer of
//! it stands in a table, `.rela.dyn`, and the pointer itself may be 0 in the image until then. A record is three words:
//! the pointer's address, the type, and the address that the pointer is to hold. On s390 some are by symbol
//! (arch/s390/boot/startup.c:handle_relocs): the word of the type has its number, and the symbols lie in `.dynsym` before
//! the table.

use modmem::arch::Machine;

use super::bytes::Bytes;

/// In a record's second word: the type. Above it is the symbol.
const LOW: u64 = 0xffff_ffff;
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

/// The type of the relocation that puts a symbol's address into a pointer, where kernels apply that to themselves.
fn symbolic_type(machine: Machine) -> Option<u64> {
    (machine == Machine::S390).then_some(22)
}

/// Bytes of a symbol of 64-bit ELF.
const SYMBOL: usize = 24;
/// Types and bindings of symbols in use, and what else an entry's second byte may be (visibility).
const TYPES: u8 = 6;
const BINDINGS: u8 = 2;
const VISIBILITIES: u8 = 3;

/// The address of a symbol in the table that begins at `table`; `None` if there is no such entry.
fn symbol(bytes: Bytes<'_>, table: usize, index: usize) -> Option<u64> {
    let at = table.checked_add(index.checked_mul(SYMBOL)?)?;
    let (info, other) = (*bytes.data.get(at + 4)?, *bytes.data.get(at + 5)?);
    let value = bytes.u64(at + 8)?;
    let is_defined = bytes.u16(at + 6)? != 0;
    let sound = info & 0xf <= TYPES && info >> 4 <= BINDINGS && other <= VISIBILITIES;
    (sound && (is_defined || value == 0)).then_some(value)
}

/// Where the table of at least so many symbols begins that ends before a place: with an entry of zeros, which no other
/// follows.
fn symbols_before(bytes: Bytes<'_>, end: usize, count: usize) -> Option<usize> {
    let last = end.checked_sub(count.checked_mul(SYMBOL)?)? / 8 * 8;
    let is_zero = |at: usize| bytes.data.get(at..at + SYMBOL).is_some_and(|entry| entry == [0; SYMBOL]);
    let mut starts = (0..=last).rev().step_by(8).take(FARTHEST_SYMBOLS / 8);
    starts.find(|&at| {
        is_zero(at) && !is_zero(at + SYMBOL) && (1..count).all(|index| symbol(bytes, at, index).is_some())
    })
}

/// How far before the table of relocations that of symbols may begin.
const FARTHEST_SYMBOLS: usize = 1 << 20;

/// The pointers that a table at `start` fills with addresses of symbols. None, if the symbols are not found.
fn by_symbol(bytes: Bytes<'_>, start: usize, table: Bytes<'_>, kind: u64) -> Vec<(u64, u64)> {
    let records = table.data.chunks_exact(3 * table.word).map(|record| table.with(record));
    let records = records.filter_map(|record| {
        let (place, info, addend) = (record.word(0)?, record.word(8)?, record.word(16)?);
        (info & LOW == kind).then_some((place, usize::try_from(info >> 32).ok()?, addend))
    });
    let records: Vec<(u64, usize, u64)> = records.collect();
    let Some(last) = records.iter().map(|(_, index, _)| *index).max() else { return Vec::new() };
    let Some(symbols) = symbols_before(bytes, start, last + 1) else { return Vec::new() };
    let value = |index: usize| if index == 0 { Some(0) } else { symbol(bytes, symbols, index) };
    let pointer =
        |&(place, index, addend): &(u64, usize, u64)| Some((place, value(index)?.wrapping_add(addend)));
    records.iter().filter_map(pointer).collect()
}

impl Relative {
    /// The longest table in an image; empty if there is none.
    pub(crate) fn find(bytes: Bytes<'_>, machine: Machine) -> Relative {
        let Some(kind) = relative_type(machine) else { return Relative::default() };
        let (word, record) = (bytes.word, 3 * bytes.word);
        let symbolic = symbolic_type(machine);
        let is_record = |at: usize| {
            let found = bytes.word(at + word);
            found == Some(kind) || symbolic.is_some() && found.map(|found| found & LOW) == symbolic
        };
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
        let table = bytes.with(&bytes.data[best.clone()]);
        let mut found = Relative::of(table, machine);
        if let Some(symbolic) = symbolic {
            found.pointers.extend(by_symbol(bytes, best.start, table, symbolic));
            found.pointers.sort_unstable();
        }
        found
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

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: usize = 0x80;

    fn record(place: u64, info: u64, addend: u64) -> Vec<u8> {
        [place, info, addend].into_iter().flat_map(u64::to_be_bytes).collect()
    }

    /// Symbols at a place, and behind them a table whose last two records go by symbol.
    fn image(shndx: u16) -> Vec<u8> {
        let mut bytes = vec![0xff; SYMBOLS];
        bytes.extend([0; SYMBOL]);
        for value in [0x10_0000_u64, 0x20_0000] {
            bytes.extend([0, 0, 0, 1, 0x11, 0]);
            bytes.extend(shndx.to_be_bytes());
            bytes.extend(value.to_be_bytes());
            bytes.extend([0; 8]);
        }
        for number in 0..LEAST as u64 {
            bytes.extend(record(0x10_1000 + 8 * number, 12, 0x10_0000 + number));
        }
        bytes.extend(record(0x10_0800, 2 << 32 | 22, 4));
        bytes.extend(record(0x10_0808, 22, 0x77));
        bytes
    }

    #[test]
    fn pointers_by_symbol_hold_its_address_on_s390() {
        let find = |data: &[u8], machine| {
            let found = Relative::find(Bytes { data, little: false, word: 8 }, machine);
            found.pointers().to_vec()
        };
        let bytes = image(1);
        let pointers = find(&bytes, Machine::S390);
        assert_eq!(pointers.len(), LEAST + 2);
        assert_eq!(pointers[..2], [(0x10_0800, 0x20_0004), (0x10_0808, 0x77)]);
        assert_eq!(pointers[2], (0x10_1000, 0x10_0000));
        // Undefined symbols with a value are none: what goes by symbol is left out.
        assert_eq!(find(&image(0), Machine::S390).len(), LEAST);
        assert_eq!(find(&bytes[..bytes.len() - 48], Machine::S390).len(), LEAST);
    }
}
