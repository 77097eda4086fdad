//! What a kernel lists of itself: its own part of `/proc/kallsyms`, as its image has it.
//!
//! The kernel prints these in the order of its tables, so a running kernel's list must be this one, entry by entry, moved
//! by as far as the kernel was (kernel/kallsyms.c:get_ksymbol_core).

use super::{
    bytes::Bytes,
    flat::Map,
    kallsyms::{Entry, Kallsyms, Value},
    relative::Relative,
};

/// One of the kernel's own symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSymbol {
    /// Its name.
    pub name: Box<str>,
    /// The character that tells its kind.
    pub letter: char,
    /// Its address, where the kernel was not moved.
    pub address: u64,
    /// Whether it moves with the kernel: percpu data of x86-64 did not until Linux 6.14.
    pub moves: bool,
}

/// The symbols in a kernel's bytes; `None` if there are none. `base_at` as for [`Map::of`].
pub(super) fn symbols(
    bytes: Bytes<'_>,
    relative: &Relative,
    base_at: impl FnOnce(usize) -> Option<u64>,
) -> Option<Vec<ListedSymbol>> {
    let base = Map::of(bytes, relative, base_at)?.base();
    let mut symbols = Vec::new();
    Kallsyms::find(bytes)?.each(|Entry { letter, name, value }| {
        let (address, moves) = match value {
            Value::Offset(offset) => (base.wrapping_add(offset), true),
            Value::Absolute(address) => (address, false),
        };
        let name = String::from_utf8_lossy(name).into_owned().into_boxed_str();
        symbols.push(ListedSymbol { name, letter: letter.into(), address, moves });
    });
    Some(symbols)
}
