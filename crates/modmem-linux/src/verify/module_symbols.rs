//! Whether the functions that the machine lists of its modules are those of the modules' files.
//!
//! Where a rule allows a call of any function, a line of `/proc/kallsyms` would make one of any place.

use std::collections::HashMap;

use modmem::Image;
use modmem::image::SymbolPlace;

use super::is_live;
use crate::snapshot::{ModuleRecord, Snapshot};

/// SHF_EXECINSTR
const EXECINSTR: u64 = 4;
/// Most that are told of one module.
const KEPT: usize = 8;

/// The addresses of code that a machine lists, by module.
#[derive(Debug)]
pub(super) struct ModuleSymbols<'s> {
    snapshot: &'s Snapshot,
    code: HashMap<&'s str, Vec<u64>>,
}

impl<'s> ModuleSymbols<'s> {
    pub(super) fn of(snapshot: &'s Snapshot) -> ModuleSymbols<'s> {
        let mut code: HashMap<&str, Vec<u64>> = HashMap::new();
        for symbol in snapshot.symbols.of_modules().filter(|symbol| matches!(symbol.letter, 't' | 'T')) {
            if let Some(module) = symbol.module {
                code.entry(module).or_default().push(symbol.address);
            }
        }
        ModuleSymbols { snapshot, code }
    }

    /// What is listed of a module whose file has nothing there, in words.
    pub(super) fn planted(&self, record: &ModuleRecord, image: &Image<'_>) -> Vec<String> {
        // What init's own table says is of the whole file.
        let Some(listed) = self.code.get(record.name.as_str()).filter(|_| is_live(record)) else {
            return Vec::new();
        };
        let starts: HashMap<&[u8], u64> =
            record.sections.iter().map(|section| (section.name.as_bytes(), section.address)).collect();
        let sections: Vec<Option<u64>> = image
            .sections()
            .iter()
            .map(|section| {
                starts
                    .get(section.name().bytes())
                    .copied()
                    .filter(|_| section.is_alloc() && section.flags() & EXECINSTR != 0)
            })
            .collect();
        let address = |place: SymbolPlace, value: u64| match place {
            SymbolPlace::Section(index) => Some(sections.get(index).copied()??.wrapping_add(value)),
            _ => None,
        };
        let mut own: Vec<u64> =
            image.symbols().iter().filter_map(|symbol| address(symbol.place, symbol.value)).collect();
        own.sort_unstable();
        let strangers = listed.iter().filter(|at| own.binary_search(at).is_err());
        strangers
            .take(KEPT)
            .map(|at| {
                let of_module = |symbol: &crate::snapshot::Symbol<'_>| symbol.module == Some(&*record.name);
                let named = self.snapshot.symbols.at_address(*at).find(of_module);
                let (name, module) = (named.map_or("a function", |symbol| symbol.name), &record.name);
                format!("{name} is listed as code of {module} at {at:#x}, where its file has no symbol")
            })
            .collect()
    }
}
