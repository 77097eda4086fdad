//! A kernel by its image, with its variables as a machine has them.

use std::ops::Range;

use modmem::arch::Machine;
use modmem::verify::{Guest, GuestMemory, GuestSymbol};
use modmem::{Name, RunAddr};

use super::MachineState;
use super::state::{Held, address_bytes};
use crate::Error;
use crate::image::{KernelImage, KernelMemory, ListedSymbol};
use crate::snapshot::{Snapshot, Symbol, SymbolTable};

/// A kernel that runs on a described machine: its symbols and memory as its image has them, its variables as the machine has
/// them.
#[derive(Debug)]
pub struct DescribedKernel {
    machine: Machine,
    symbols: SymbolTable,
    memory: KernelMemory,
    /// Variables that decide about code, that the kernel sets while it boots, and that nobody tells.
    unknown: Vec<Range<u64>>,
}

impl DescribedKernel {
    /// The kernel of an image as it is built, at the addresses where it was linked. `file` names it in errors.
    ///
    /// # Errors
    /// The image is damaged, or has no list of its symbols.
    pub fn of(file: &str, image: &KernelImage) -> Result<DescribedKernel, Error> {
        let wrong = |why: String| Error::malformed(file, why);
        let listed = image.listed()?;
        let listed =
            listed.ok_or_else(|| wrong("it has no list of its own symbols (CONFIG_KALLSYMS)".into()))?;
        let symbols = listed.iter().map(|ListedSymbol { name, address, letter, .. }| Symbol {
            name,
            address: *address,
            letter: *letter,
            module: None,
        });
        let symbols = SymbolTable::new(symbols).map_err(wrong)?;
        let mut kernel = DescribedKernel {
            machine: image.machine(),
            symbols,
            memory: image.memory()?,
            unknown: Vec::new(),
        };
        kernel.hide(&[]);
        Ok(kernel)
    }

    /// Sets the kernel's variables as they are on a machine. The symbols that this kernel has not are given back: it decides
    /// in another way.
    pub fn set<'s>(&mut self, state: &'s MachineState) -> Vec<&'s str> {
        let mut absent = Vec::new();
        let mut told = Vec::new();
        for value in &state.values {
            let address = value.place.address(&self.symbols);
            let bytes = match &value.held {
                Held::Bytes(bytes) => Some(bytes.clone()),
                Held::Address(place) => {
                    place.address(&self.symbols).map(|address| address_bytes(self.machine, address))
                }
            };
            match address.zip(bytes) {
                Some((address, bytes)) if self.memory.write(address, &bytes) => {
                    told.push(address..address + bytes.len() as u64);
                }
                _ => absent.push(&*value.place.symbol),
            }
        }
        self.hide(&told);
        absent.dedup();
        absent
    }

    /// Finds the variables that nobody tells: those that decide about code, are all zero in the image, and are not told.
    fn hide(&mut self, told: &[Range<u64>]) {
        self.unknown.clear();
        for word in self.machine.kernel_words() {
            let Some(address) = self.symbols.kernel(word.symbol) else { continue };
            let size =
                self.symbols.nearest(address, None).and_then(|nearest| nearest.size).unwrap_or(word.most);
            let range = address..address.saturating_add(size.min(word.most));
            let mut bytes = vec![0; (range.end - range.start) as usize];
            let is_set = self.memory.read(address, &mut bytes) && bytes.iter().any(|byte| *byte != 0);
            if !is_set && !told.iter().any(|told| told.start < range.end && range.start < told.end) {
                self.unknown.push(range);
            }
        }
    }

    /// Where what begins at `start` ends: at the next symbol.
    pub(super) fn end_of(&self, start: u64) -> u64 {
        let nearest = self.symbols.nearest(start, None);
        start.saturating_add(nearest.and_then(|nearest| nearest.size).unwrap_or(0))
    }

    /// What the kernel's variables held on the machine of a snapshot that runs this kernel.
    ///
    /// # Errors
    /// In words, if the snapshot does not tell where its kernel lies.
    pub fn state_of(&self, snapshot: &Snapshot, about: &str) -> Result<MachineState, String> {
        MachineState::of_snapshot(snapshot, self.machine, &self.memory, &self.symbols, about)
    }
}

impl GuestMemory for DescribedKernel {
    fn read(&self, address: RunAddr, buffer: &mut [u8]) -> bool {
        let Some(end) = address.0.checked_add(buffer.len() as u64) else { return false };
        let is_unknown = self.unknown.iter().any(|range| range.start < end && address.0 < range.end);
        !is_unknown && self.memory.read(address.0, buffer)
    }
}

impl Guest for DescribedKernel {
    fn kernel_symbol(&self, name: Name<'_>) -> Option<u64> {
        self.symbols.kernel(name.as_str()?)
    }

    fn module_symbol(&self, _: &str, _: Name<'_>) -> Option<u64> {
        None
    }

    fn any_module_symbol(&self, _: Name<'_>) -> Option<u64> {
        None
    }

    fn symbol_at(&self, address: RunAddr) -> Option<GuestSymbol<'_>> {
        let here = self.symbols.code_at(address.0).or_else(|| self.symbols.at_address(address.0).next());
        let (symbol, offset) = match here {
            Some(symbol) => (symbol, 0),
            None => {
                let nearest = self.symbols.nearest(address.0, None)?;
                (nearest.symbol, nearest.offset)
            }
        };
        let text = matches!(symbol.letter, 't' | 'T' | 'w' | 'W');
        Some(GuestSymbol { name: symbol.name, offset, module: None, text })
    }
}
