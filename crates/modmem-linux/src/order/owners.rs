//! Whom a symbol belongs to, and from that which modules one module needs.

use crate::index::Index;

/// The owner of each symbol: the last module in the array that exports it (depmod.c:depmod_symbol_add replaces the one
/// before).
pub(super) fn owners(index: &Index, array: &[usize]) -> Vec<Option<u32>> {
    let mut owners = vec![None; index.symbols.len()];
    for (at, &module) in array.iter().enumerate() {
        for &symbol in index.modules[module].provided() {
            owners[symbol as usize] = Some(at as u32);
        }
    }
    // Old 64-bit PowerPC calls `.name` what is exported as `name` (depmod.c:depmod_symbol_find).
    if index.symbols.iter().any(|name| name.starts_with('.')) {
        let numbers = index.symbol_numbers();
        for (at, name) in index.symbols.iter().enumerate() {
            if let Some(plain) = name.strip_prefix('.') {
                owners[at] = numbers.get(plain).and_then(|&plain| owners[plain as usize]);
            }
        }
    }
    owners
}

/// The modules that each module of the array needs itself, in the order in which its file names their symbols first.
pub(super) fn needs(index: &Index, array: &[usize], owners: &[Option<u32>]) -> Vec<Vec<u32>> {
    // Which module was the last to count another one: cheaper than a set for each.
    let mut counted_by = vec![u32::MAX; array.len()];
    let mut all = Vec::with_capacity(array.len());
    for (at, &module) in array.iter().enumerate() {
        let mut needs = Vec::new();
        for &symbol in &index.modules[module].imports {
            let Some(owner) = owners[symbol as usize] else { continue };
            if owner as usize != at && counted_by[owner as usize] != at as u32 {
                counted_by[owner as usize] = at as u32;
                needs.push(owner);
            }
        }
        all.push(needs);
    }
    all
}
