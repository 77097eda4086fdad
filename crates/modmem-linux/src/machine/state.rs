//! What a kernel's variables hold on a machine, as text.
//!
//! ```text
//! modmem machine 1
//! about QEMU's Skylake-Server, two CPUs
//! release 6.12.48+deb13-amd64
//! boot_cpu_data+0x10 ff0b00ab0000
//! x86_return_thunk @srso_return_thunk
//! ```
//!
//! Each line after the head is a variable of the kernel: its symbol, perhaps an offset, then bytes as they lie in memory, or
//! a symbol of the kernel whose address it holds. What no line tells is as the kernel's image has it.

use std::fmt;

use modmem::RunAddr;
use modmem::arch::Machine;

use crate::Error;
use crate::image::KernelMemory;
use crate::snapshot::{Snapshot, SymbolTable};

/// No key is enabled more often.
const MOST_ENABLED: u64 = 1 << 20;
const HEAD: &str = "modmem machine 1";

/// What a kernel's variables hold on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineState {
    /// The machine, in a line.
    pub about: String,
    /// The kernel that it was taken from.
    pub release: String,
    pub(super) values: Vec<Value>,
}

/// One variable, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) place: Place,
    pub(super) held: Held,
}

/// A place in the kernel by a symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) symbol: String,
    pub(super) offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Bytes(Vec<u8>),
    /// The address of a place.
    Address(Place),
}

impl MachineState {
    /// Reads a state. `file` names it in errors.
    ///
    /// # Errors
    /// It is none: which line, and what is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<MachineState, Error> {
        let mut lines =
            text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
        if lines.next().is_none_or(|(_, line)| line != HEAD) {
            return Err(Error::malformed(file, format!("it does not begin with \"{HEAD}\"")));
        }
        let mut state = MachineState { about: String::new(), release: String::new(), values: Vec::new() };
        for (index, line) in lines {
            let wrong = || Error::malformed(file, format!("line {}: \"{line}\" is no variable", index + 1));
            match line.split_once(' ').ok_or_else(wrong)? {
                ("about", text) => text.clone_into(&mut state.about),
                ("release", text) => text.clone_into(&mut state.release),
                (place, held) => {
                    let place = Place::parse(place).ok_or_else(wrong)?;
                    let held = Held::parse(held).ok_or_else(wrong)?;
                    state.values.push(Value { place, held });
                }
            }
        }
        Ok(state)
    }

    /// What the kernel's variables held when `snapshot` was taken, as far as it has them and they are not as in the image,
    /// whose memory and symbols these are. What decides about code is told in any case.
    ///
    /// # Errors
    /// In words, if the snapshot does not tell where its kernel lies.
    pub fn of_snapshot(
        snapshot: &Snapshot,
        machine: Machine,
        memory: &KernelMemory,
        symbols: &SymbolTable,
        about: &str,
    ) -> Result<MachineState, String> {
        let kernel = snapshot.kernel_place().ok_or("the snapshot does not tell where its kernel lies")?;
        let text = |symbols: &SymbolTable| symbols.kernel("_text").or_else(|| symbols.kernel("_stext"));
        let (here, there) =
            text(&snapshot.symbols).zip(text(symbols)).ok_or("nothing tells where it begins")?;
        let slide = here.wrapping_sub(there);
        let mut state =
            MachineState { about: about.to_owned(), release: snapshot.release.clone(), values: Vec::new() };
        let words = machine.kernel_words();
        let is_word = |symbol: &str| words.iter().any(|word| word.symbol == symbol);
        let word = word_of(machine);
        let inside = kernel.start..kernel.end;
        for record in snapshot.memory.records() {
            let mut at = 0;
            while let Some(rest) = record.bytes.get(at..).filter(|rest| !rest.is_empty()) {
                // Word by word; variables that are smaller are looked at alone.
                let address = record.address + at as u64;
                let to_next = word - address as usize % word;
                let bytes = &rest[..rest.len().min(to_next)];
                at += bytes.len();
                if !inside.contains(&RunAddr(address)) {
                    continue;
                }
                let Some(place) = Place::of(&snapshot.symbols, address) else { continue };
                let pointer = Some(number(machine, bytes)).filter(|_| bytes.len() == word);
                let pointer = pointer.filter(|pointer| inside.contains(&RunAddr(*pointer)));
                let mut built = vec![0; bytes.len()];
                let in_image = memory.read(address.wrapping_sub(slide), &mut built);
                let unmoved = pointer.map_or(number(machine, bytes), |pointer| pointer.wrapping_sub(slide));
                if in_image && number(machine, &built) == unmoved && !is_word(&place.symbol) {
                    continue;
                }
                let held = match pointer.and_then(|pointer| Place::of(&snapshot.symbols, pointer)) {
                    Some(place) => Held::Address(place),
                    None => Held::Bytes(bytes.to_vec()),
                };
                // Of keys, that is a function or a count; what is behind it lists the key's users.
                let decides = match &held {
                    Held::Address(place) => place.offset == 0,
                    Held::Bytes(_) => pointer.is_none() && number(machine, bytes) <= MOST_ENABLED,
                };
                if !decides && !is_word(&place.symbol) {
                    continue;
                }
                state.push(Value { place, held });
            }
        }
        Ok(state)
    }

    /// Adds a value, to the one before where it goes on.
    fn push(&mut self, value: Value) {
        if let (Some(Value { place, held: Held::Bytes(before) }), Held::Bytes(bytes)) =
            (self.values.last_mut(), &value.held)
            && place.symbol == value.place.symbol
            && place.offset + before.len() as u64 == value.place.offset
        {
            before.extend_from_slice(bytes);
            return;
        }
        self.values.push(value);
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\nabout {}\nrelease {}", self.about, self.release)?;
        for Value { place, held } in &self.values {
            match held {
                Held::Address(target) => writeln!(f, "{place} @{target}")?,
                Held::Bytes(bytes) => {
                    write!(f, "{place} ")?;
                    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }
}

impl Place {
    /// The nearest symbol of the kernel that has its name alone.
    fn of(symbols: &SymbolTable, address: u64) -> Option<Place> {
        let nearest = symbols.nearest(address, None)?;
        let start = nearest.symbol.address;
        let alone = |name: &str| symbols.named(name).filter(|symbol| symbol.module.is_none()).count() == 1;
        let mut here = symbols.at_address(start).filter(|symbol| symbol.module.is_none());
        let symbol = here.find(|symbol| alone(symbol.name))?.name.to_owned();
        Some(Place { symbol, offset: address - start })
    }

    fn parse(text: &str) -> Option<Place> {
        let (symbol, offset) = match text.split_once("+0x") {
            Some((symbol, digits)) => (symbol, u64::from_str_radix(digits, 16).ok()?),
            None => (text, 0),
        };
        (!symbol.is_empty()).then(|| Place { symbol: symbol.to_owned(), offset })
    }

    /// Where a kernel has it.
    pub(super) fn address(&self, symbols: &SymbolTable) -> Option<u64> {
        symbols.kernel(&self.symbol).map(|start| start.wrapping_add(self.offset))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            0 => f.write_str(&self.symbol),
            offset => write!(f, "{}+{offset:#x}", self.symbol),
        }
    }
}

impl Held {
    fn parse(text: &str) -> Option<Held> {
        if let Some(place) = text.strip_prefix('@') {
            return Place::parse(place).map(Held::Address);
        }
        let digit = |digit: &u8| char::from(*digit).to_digit(16).map(|digit| digit as u8);
        let pairs = text.as_bytes().chunks(2);
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        pairs.map(byte).collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty()).map(Held::Bytes)
    }
}

/// Bytes of an address.
pub(super) fn word_of(machine: Machine) -> usize {
    if matches!(machine, Machine::PowerPc | Machine::Arm | Machine::I386) { 4 } else { 8 }
}

fn is_big(machine: Machine) -> bool {
    matches!(machine, Machine::PowerPc | Machine::S390)
}

fn number(machine: Machine, bytes: &[u8]) -> u64 {
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    if is_big(machine) { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
}

/// An address as it lies in memory.
pub(super) fn address_bytes(machine: Machine, address: u64) -> Vec<u8> {
    let word = word_of(machine);
    match is_big(machine) {
        true => address.to_be_bytes()[8 - word..].to_vec(),
        false => address.to_le_bytes()[..word].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "modmem machine 1\nabout a machine\nrelease 6.12\nboot_cpu_data+0x10 00ff\nthunk @other+0x8\n";

    #[test]
    fn a_state_is_read_as_it_is_written_and_what_is_none_is_refused_by_line() {
        let state = MachineState::parse("x", TEXT).unwrap();
        assert_eq!(state.to_string(), TEXT);
        assert_eq!((&*state.about, &*state.release, state.values.len()), ("a machine", "6.12", 2));
        for (wrong, line) in [("a 0", 4), ("a", 4), ("a 0g", 4), ("+0x4 00", 4), ("a @", 4), ("a+0xq 00", 4)]
        {
            let text = format!("modmem machine 1\nabout x\nrelease y\n{wrong}\n");
            let error = MachineState::parse("x", &text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}: \"{wrong}\"")), "{error}");
        }
        assert!(MachineState::parse("x", "").is_err());
    }

    #[test]
    fn addresses_lie_as_the_machine_has_them() {
        assert_eq!(address_bytes(Machine::S390, 0x102), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(address_bytes(Machine::PowerPc, 0xc000_0102), [0xc0, 0, 1, 2]);
        assert_eq!(number(Machine::X86_64, &address_bytes(Machine::X86_64, 0x102)), 0x102);
        assert_eq!(number(Machine::PowerPc, &address_bytes(Machine::PowerPc, 0x102)), 0x102);
    }
}
