//! What the kernel exports, where its own list of symbols does not have it: kernels without CONFIG_KALLSYMS_ALL list
//! functions alone, and modules refer to variables too.

use std::collections::HashMap;

use crate::{KernelSymbol, snapshot::SymbolTable};

/// Functions that a table of exports and the kernel's list must have in common, at least.
const FEWEST: usize = 100;

/// Exported symbols by name, at the addresses where the machine has them.
#[derive(Clone, Debug, Default)]
pub struct KernelExports {
    addresses: HashMap<Box<str>, u64>,
}

impl KernelExports {
    /// The exports that a kernel's files tell, moved to where the machine that `listed` is of has its kernel. `None` if it
    /// is not the same kernel: then functions lie as far apart as they do in the list.
    pub fn of(listed: &SymbolTable, exported: &[KernelSymbol]) -> Option<KernelExports> {
        let addresses = || exported.iter().filter_map(|symbol| Some((&*symbol.name, symbol.address?)));
        let mut moves: HashMap<u64, usize> = HashMap::new();
        let mut common = 0;
        for (name, address) in addresses() {
            if let Some(here) = listed.kernel(name) {
                common += 1;
                *moves.entry(here.wrapping_sub(address)).or_default() += 1;
            }
        }
        // Names of local functions repeat: a few may be others.
        let (by, count) = moves.into_iter().max_by_key(|(_, count)| *count)?;
        if common < FEWEST || count * 10 < common * 9 {
            return None;
        }
        let moved = addresses().map(|(name, address)| (name.into(), address.wrapping_add(by)));
        Some(KernelExports { addresses: moved.collect() })
    }

    /// Where a symbol lies.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.addresses.get(name).copied()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.addresses.iter().map(|(name, address)| (&**name, *address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Symbol;

    #[test]
    fn exports_are_moved_to_where_the_machine_has_the_same_functions() {
        let names: Vec<String> = (0..200).map(|number| format!("function{number}")).collect();
        let symbol = |name: &str, address| KernelSymbol {
            name: name.into(),
            address: Some(address),
            gpl_only: false,
            crc: None,
            namespace: None,
        };
        let mut exported: Vec<KernelSymbol> =
            (0..).zip(&names).map(|(number, name)| symbol(name, 0x1000 + 16 * number)).collect();
        exported.push(symbol("variable", 0x9000));
        let listed = |factor: u64| {
            let own = (0..).zip(&names);
            let own = own.map(move |(number, name)| Symbol {
                name,
                address: 0x5_1000 + factor * number,
                letter: 'T',
                module: None,
            });
            SymbolTable::new(own).unwrap()
        };
        let exports = KernelExports::of(&listed(16), &exported).unwrap();
        assert_eq!((exports.get("variable"), exports.get("function2")), (Some(0x5_9000), Some(0x5_1020)));
        assert_eq!(exports.get("nothing"), None);
        assert!(KernelExports::of(&listed(32), &exported).is_none(), "another kernel");
        assert!(KernelExports::of(&SymbolTable::default(), &exported).is_none());
    }
}
