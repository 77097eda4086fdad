//! The kernel's exported variables where `/proc/kallsyms` lists functions alone (CONFIG_KALLSYMS_ALL is off): modules refer
//! to them, and what they lie at is in the kernel's own table of exports.

use std::borrow::Cow;

use super::kcore::Kcore;
use crate::{
    image::bytes::Bytes,
    ksymtab::{
        self, Section, Tables,
        find::{Fields, Places, find},
    },
    snapshot::{Snapshot, Symbol, SymbolTable},
    verify::KernelExports,
};

/// Bytes behind the kernel's code in which its read-only data lies.
const MOST: u64 = 64 << 20;
/// Letters of symbols that are no code; the marks of where code ends are in every list.
const DATA: [char; 6] = ['d', 'D', 'b', 'B', 'r', 'R'];
const FEW: usize = 100;

/// Whether the list lacks the kernel's variables.
pub(super) fn are_missing(symbols: &SymbolTable) -> bool {
    let own = symbols.iter().filter(|symbol| symbol.module.is_none() && DATA.contains(&symbol.letter));
    !symbols.is_empty() && own.take(FEW).count() < FEW
}

/// The list with the exported variables; `None` if the kernel's table is not found.
pub(super) fn completed(snapshot: &Snapshot, kcore: &mut Kcore) -> Option<SymbolTable> {
    let place = snapshot.kernel_place()?;
    let (start, end) = (place.text_end.0, place.end.0.min(place.text_end.0.saturating_add(MOST)));
    let record = kcore.read_all(std::slice::from_ref(&(start..end))).into_iter().next()?;
    let little = kcore.is_little;
    let word = if kcore.is_64 { 8 } else { 4 };
    let bytes = Bytes { data: &record.bytes, little, word };
    let forms = [Fields::Offsets, Fields::Pointers { first: record.address }];
    let places = forms.into_iter().find_map(|fields| find(bytes, fields))?;
    let tables = tables(&places, record.address, &record.bytes);
    let exported = ksymtab::symbols("/proc/kcore", &tables, little, word).ok()?;
    let exports = KernelExports::of(&snapshot.symbols, &exported)?;
    let listed = &snapshot.symbols;
    let mut added: Vec<(&str, u64)> =
        exports.iter().filter(|(name, _)| listed.kernel(name).is_none()).collect();
    added.sort_unstable_by_key(|&(name, address)| (address, name));
    let added = added.into_iter().map(|(name, address)| Symbol { name, address, letter: 'D', module: None });
    let (own, others): (Vec<Symbol<'_>>, Vec<Symbol<'_>>) =
        listed.iter().partition(|symbol| symbol.module.is_none());
    SymbolTable::new(own.into_iter().chain(added).chain(others)).ok()
}

fn tables<'d>(places: &Places, start: u64, bytes: &'d [u8]) -> Tables<'d> {
    let section = |name, range: std::ops::Range<usize>| Section {
        name,
        address: start + range.start as u64,
        data: Cow::Borrowed(bytes.get(range).unwrap_or_default()),
    };
    Tables {
        plain: Some(section("__ksymtab", places.plain.clone())),
        gpl: places.gpl.clone().map(|range| section("__ksymtab_gpl", range)),
        crcs: None,
        gpl_crcs: None,
        flags: None,
        strings: Some(section("__ksymtab_strings", places.strings..bytes.len())),
    }
}
