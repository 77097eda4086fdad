//! The kernel's own words that a guest's dumper records: lines of a symbol and a length.
//!
//! Beside those that the machine's table lists, they are the keys of jump labels that lie in the kernel: whoever needs
//! one names it in a relocation of its `__jump_table`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use modmem::image::{Image, SymbolPlace};

use super::arch::Arch;

/// Flags of a key: whether the branch is likely, and whether its code is init's.
const FLAGS: u64 = 3;

/// What a dumper is to record for these modules.
pub(super) fn lines(arch: &Arch, modules: &[(String, Vec<u8>)]) -> Result<String> {
    let mut words: BTreeMap<String, u64> =
        arch.words.iter().map(|&(symbol, length)| (symbol.to_owned(), length)).collect();
    for (name, file) in modules {
        let image = Image::parse(file).with_context(|| name.clone())?;
        let tables = image.relocations().filter(|table| table.target().name() == "__jump_table");
        for relocation in tables.flat_map(|table| table.iter()) {
            let symbol = image.symbols().get(relocation.symbol as usize);
            let Some(symbol) = symbol.filter(|symbol| symbol.place == SymbolPlace::Undefined) else {
                continue;
            };
            // A key may be a part of something larger, as a tracepoint's is.
            let end = (relocation.addend as u64 & !FLAGS).saturating_add(arch.key);
            let length = words.entry(symbol.name.to_text()).or_default();
            *length = end.max(*length);
        }
    }
    Ok(words.into_iter().map(|(symbol, length)| format!("{symbol} {length}\n")).collect())
}
