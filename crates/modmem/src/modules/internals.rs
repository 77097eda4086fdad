//! The kernel's own symbols, exported or not: kallsyms without modules. Livepatch alone asks for them.

use alloc::vec::Vec;

use crate::link::InternalSymbol;
use crate::name::{Name, hash};

/// All symbols of the kernel; none, where nobody told them.
#[derive(Debug, Default)]
pub(super) struct Internals {
    /// Hash of the name, address, and where the name stands; in that order.
    symbols: Vec<(u64, u64, u32, u32)>,
    names: Vec<u8>,
}

impl Internals {
    /// Takes these symbols, in any order; `None` without memory.
    pub(super) fn of<'n>(symbols: impl IntoIterator<Item = (Name<'n>, u64)>) -> Option<Internals> {
        let mut internals = Internals::default();
        for (name, address) in symbols {
            internals.symbols.try_reserve(1).ok()?;
            internals.names.try_reserve(name.len()).ok()?;
            let start = u32::try_from(internals.names.len()).ok()?;
            internals.names.extend_from_slice(name.bytes());
            internals.symbols.push((hash(&name), address, start, u32::try_from(name.len()).ok()?));
        }
        internals.symbols.sort_unstable();
        Some(internals)
    }

    /// The symbol at that position among those of a name, which kallsyms has by their addresses.
    pub(super) fn find(&self, name: Name<'_>, position: u64) -> InternalSymbol {
        if self.symbols.is_empty() {
            return InternalSymbol::Unknown;
        }
        let hash = hash(&name);
        let first = self.symbols.partition_point(|symbol| symbol.0 < hash);
        let same = self.symbols[first..].iter().take_while(|symbol| symbol.0 == hash);
        let named = same.filter(|&&(_, _, start, length)| {
            self.names.get(start as usize..).and_then(|rest| rest.get(..length as usize))
                == Some(name.bytes())
        });
        InternalSymbol::of(named.map(|symbol| symbol.1), position)
    }
}
