//! A module's own symbols, as its memory has them (`struct mod_kallsyms`, kernel/module/kallsyms.c:add_kallsyms).

use modmem::image::elf::Class;

use super::Words;
use super::structure::Structure;

/// More symbols than a module has, and longer names than the kernel allows.
const MOST: u64 = 1 << 16;
const LONGEST: usize = 512;
const EXPORTED: &str = "__ksymtab_";

/// One symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenSymbol {
    /// Its name, of printable characters.
    pub name: String,
    /// Its address.
    pub address: u64,
    /// The letter that kallsyms shows.
    pub letter: char,
}

/// All symbols of a module, by address.
pub(super) fn read(words: &Words<'_>, structure: &Structure) -> Vec<HiddenSymbol> {
    let size = words.size();
    let places = (structure.address..structure.end).step_by(size as usize);
    // Once init is over, the tables in use are those that stay, which are described right behind.
    let tables = places.filter(|at| words.word(*at) == at.checked_add(size)).map(|at| at + size);
    let own = |address: u64| structure.memories.iter().any(|(_, range)| range.contains(&address));
    let table = |at: u64| {
        let [symbols, count, names, letters] = [0, 1, 2, 3].map(|index| words.field(at, index));
        let (symbols, names, letters) = (symbols?, names?, letters?);
        let count = u64::from(words.half(at + size)?).min(count?);
        let fits = own(symbols) && own(names) && own(letters) && (1..=MOST).contains(&count);
        fits.then_some((symbols, count, names, letters))
    };
    let Some((symbols, count, names, letters)) = tables.into_iter().find_map(table) else {
        return Vec::new();
    };
    let is_64 = words.format.class == Class::Elf64;
    // Name, and value behind the rest or before it.
    let (entry, value) = if is_64 { (24, 8) } else { (16, 4) };
    let mut found = Vec::new();
    for index in 1..count {
        let at = symbols + index * entry;
        let Some(name) = words.half(at).and_then(|name| text(words, names.checked_add(u64::from(name))?))
        else {
            continue;
        };
        let Some(address) = words.word(at + value).filter(|address| own(*address)) else { continue };
        let letter = words.memory.bytes(letters + index, 1).map_or('?', |letter| char::from(letter[0]));
        let letter = if letter.is_ascii_alphabetic() { letter } else { '?' };
        found.push(HiddenSymbol { name, address, letter });
    }
    found.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
    found
}

/// A name, if it is one.
fn text(words: &Words<'_>, at: u64) -> Option<String> {
    let bytes = words.memory.bytes_from(at);
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let end = bytes.iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
    let name = std::str::from_utf8(&bytes[..end]).ok()?;
    name.chars().all(|c| c.is_ascii_graphic()).then(|| name.to_owned())
}

/// The names that it exports: each has an entry in a table of exports, which has a symbol.
pub(super) fn exports(symbols: &[HiddenSymbol]) -> Vec<String> {
    let names = symbols.iter().filter_map(|symbol| symbol.name.strip_prefix(EXPORTED));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    names
}
