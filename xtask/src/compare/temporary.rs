//! Symbols in sections that are not loaded.
//!
//! While a module's init has not returned, its whole symbol table is shown. What lies in sections that are read and not
//! kept (`.modinfo`, `__versions`, those for debuggers) has the address where the kernel has its temporary copy of the
//! file (main.c:rewrite_section_headers); modmem, which has no such copy, shows the place in the section. The copy of a
//! module is in one piece: one base must make all of these symbols equal. A livepatch keeps its whole table for good.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result};
use modmem::image::{Image, SymbolPlace};
use modmem::layout::Layout;

use super::symbol_of;
use crate::oracle::Oracle;

/// Copies begin at a page.
const PAGE: u64 = 4096;

/// The copies of the modules that have not returned from init, by name.
#[derive(Debug)]
pub(super) struct TemporaryCopies<'o> {
    copies: HashMap<&'o str, Copy>,
}

/// One file's.
#[derive(Debug)]
struct Copy {
    base: u64,
    /// Name of a symbol to its places: in the file, and in its section.
    symbols: HashMap<String, Vec<(u64, u64)>>,
}

impl<'o> TemporaryCopies<'o> {
    pub(super) fn of(oracle: &'o Oracle) -> Result<TemporaryCopies<'o>> {
        let profile = oracle.profile()?;
        let mut copies = HashMap::new();
        for (name, _) in oracle.modinfo.iter().filter(|(_, values)| shows_all_symbols(values)) {
            let file = oracle.files.get(name).with_context(|| format!("{name}: no file"))?;
            let image = Image::parse(file).with_context(|| name.clone())?;
            let layout = Layout::of(&image, &profile).with_context(|| name.clone())?;
            let mut symbols: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
            for symbol in image.symbols().iter() {
                let SymbolPlace::Section(index) = symbol.place else { continue };
                let section = image.sections().get(index);
                let Some(section) = section.filter(|section| layout.place(section.index()).is_none()) else {
                    continue;
                };
                let place = (section.offset().wrapping_add(symbol.value), symbol.value);
                symbols.entry(symbol.name.to_text()).or_default().push(place);
            }
            if let Some(base) = base(oracle, name, &symbols) {
                copies.insert(name.as_str(), Copy { base, symbols });
            }
        }
        Ok(TemporaryCopies { copies })
    }

    /// The kernel's line about a symbol as it were if its address were the place in its section; other lines as they
    /// are.
    pub(super) fn without_base(&self, line: &str) -> String {
        let place = || {
            let (address, letter, name, module) = symbol_of(line)?;
            let copy = self.copies.get(module)?;
            let places = copy.symbols.get(name)?;
            let (_, value) = places.iter().find(|(file, _)| copy.base.wrapping_add(*file) == address)?;
            // As many digits as the machine's addresses have.
            let digits = line.split(' ').next().map_or(0, str::len);
            Some(format!("{value:0digits$x} {letter} {name}\t[{module}]"))
        };
        place().unwrap_or_else(|| line.to_owned())
    }
}

/// Whether a module with this line of values shows all of its symbols: while it comes, and as a livepatch (taint K).
fn shows_all_symbols(values: &str) -> bool {
    let mut taints = values.split(' ').filter_map(|word| word.strip_prefix("taint="));
    values.ends_with("state=coming") || taints.any(|letters| letters.contains('K'))
}

/// The one base at a page's beginning with which all lines about these symbols can be.
fn base(oracle: &Oracle, module: &str, symbols: &HashMap<String, Vec<(u64, u64)>>) -> Option<u64> {
    let lines =
        oracle.module_symbols.iter().filter_map(|line| symbol_of(line)).filter(|line| line.3 == module);
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    for (address, _, name, _) in lines {
        let places = symbols.get(name).into_iter().flatten();
        let bases: HashSet<u64> = places.map(|(file, _)| address.wrapping_sub(*file)).collect();
        for base in bases.into_iter().filter(|base| base.is_multiple_of(PAGE)) {
            *votes.entry(base).or_default() += 1;
        }
    }
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(base, _)| base)
}
