//! A snapshot as the guest of a verifier.

use std::borrow::Cow;
use std::ops::Range;

use modmem::verify::{Guest, GuestMemory, GuestSymbol};
use modmem::{Name, RunAddr};

use super::KernelExports;
use crate::snapshot::{Snapshot, Symbol};

/// The name under which the kernel lists the pages with copies of probed instructions, a symbol a page.
const KPROBES: &str = "__builtin__kprobes";
const KPROBE_PAGE: u64 = 4096;

/// A snapshot's memory and symbols.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotGuest<'s> {
    snapshot: &'s Snapshot,
    /// What the kernel exports, for what its list lacks.
    exports: Option<&'s KernelExports>,
}

impl<'s> SnapshotGuest<'s> {
    /// The guest that a snapshot was taken of.
    pub fn new(snapshot: &'s Snapshot) -> SnapshotGuest<'s> {
        SnapshotGuest { snapshot, exports: None }
    }

    /// The same with what the kernel exports by its files.
    pub fn with_exports(self, exports: Option<&'s KernelExports>) -> SnapshotGuest<'s> {
        SnapshotGuest { exports, ..self }
    }
}

impl GuestMemory for SnapshotGuest<'_> {
    fn read(&self, address: RunAddr, buffer: &mut [u8]) -> bool {
        self.snapshot.memory.copy(address.0, buffer).is_some()
    }

    fn bytes(&self, address: RunAddr, length: usize) -> Option<Cow<'_, [u8]>> {
        if let Some(bytes) = self.snapshot.memory.bytes(address.0, length) {
            return Some(Cow::Borrowed(bytes));
        }
        // In pieces, perhaps.
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(length).ok()?;
        buffer.resize(length, 0);
        self.read(address, &mut buffer).then_some(Cow::Owned(buffer))
    }
}

impl Guest for SnapshotGuest<'_> {
    fn kernel_symbol(&self, name: Name<'_>) -> Option<u64> {
        let name = name.as_str()?;
        self.snapshot.symbols.kernel(name).or_else(|| self.exports?.get(name))
    }

    fn module_symbol(&self, module: &str, name: Name<'_>) -> Option<u64> {
        let mut named = self.snapshot.symbols.named_of(name.as_str()?, module);
        let first = named.next()?;
        named.next().is_none().then_some(first.address)
    }

    fn any_module_symbol(&self, name: Name<'_>) -> Option<u64> {
        let mut named = self.snapshot.symbols.named(name.as_str()?).filter(|symbol| symbol.module.is_some());
        let first = named.next()?;
        named.all(|symbol| symbol.address == first.address).then_some(first.address)
    }

    fn kernel_data(&self) -> Option<Range<RunAddr>> {
        let place = self.snapshot.kernel_place()?;
        // Where neither a symbol nor an area tells the kernel's end, what it exports does, as far as that goes.
        let is_told = place.end > place.text_end;
        let exported =
            self.exports.filter(|_| !is_told).and_then(|exports| exports.iter().map(|(_, at)| at).max());
        Some(place.text_end..place.end.max(RunAddr(exported.unwrap_or(0))))
    }

    fn symbol_at(&self, address: RunAddr) -> Option<GuestSymbol<'_>> {
        let symbols = &self.snapshot.symbols;
        let here = symbols.code_at(address.0).or_else(|| symbols.at_address(address.0).next());
        let in_probe_page =
            || symbols.nearest(address.0, Some(KPROBES)).filter(|probe| probe.offset < KPROBE_PAGE);
        let (symbol, offset) = match here {
            Some(symbol) => (symbol, 0),
            None => {
                let nearest = in_probe_page().or_else(|| symbols.nearest(address.0, None))?;
                (nearest.symbol, nearest.offset)
            }
        };
        Some(GuestSymbol { name: symbol.name, offset, module: symbol.module, text: is_text(&symbol) })
    }
}

fn is_text(symbol: &Symbol<'_>) -> bool {
    matches!(symbol.letter, 't' | 'T' | 'w' | 'W')
}
