//! The symbols of a kernel and its modules, in little room: `/proc/kallsyms` or a `System.map`.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    io::BufRead,
    ops::Range,
};

use super::lines::{each_line, hex};
use crate::{Error, memory};

/// Bytes of names for each symbol that may be, more than any kernel has.
const NAME: usize = 16;
/// Bytes of the longest name that kernels keep.
const LONGEST_NAME: usize = 511;

/// Symbols in the order of the file, found by name and by address.
///
/// The kernel prints its own by address and, at one address, the one first that it names itself; those of a module
/// come in the order of the module's table. Of several at one address the first is therefore the kernel's choice.
#[derive(Default)]
pub struct SymbolTable {
    /// Each symbol's letter and, behind it, its name.
    names: String,
    entries: Vec<Entry>,
    /// Names that stand in brackets behind symbols; the first is that of the kernel itself, empty.
    modules: Vec<String>,
    /// The module's number by its name.
    numbers: HashMap<String, u16>,
    /// Indices of entries by address, those of one address in order.
    by_address: Vec<u32>,
    /// Those of code, by address, those of one address in order.
    code: Vec<u32>,
    /// Those that are no mapping symbols, by module and address.
    by_module: Vec<u32>,
    /// Half of a name's hash, and the entry's index: by hash, the kernel's global symbols first, then its others, then those
    /// of modules by module; in order.
    by_name: Vec<(u32, u32)>,
    hasher: RandomState,
    /// Digits of an address in the file.
    digits: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    start: u32,
    length: u16,
    module: u16,
}

/// One symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'t> {
    /// Its name.
    pub name: &'t str,
    /// Its address; a small number for percpu data.
    pub address: u64,
    /// The letter that tells its kind, in upper case if it is global or exported.
    pub letter: char,
    /// The module that it belongs to; names such as `bpf` and `__builtin__kprobes` stand for what is no module.
    pub module: Option<&'t str>,
}

/// The symbol that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest<'t> {
    /// The symbol, at the address or before it.
    pub symbol: Symbol<'t>,
    /// Bytes from the symbol to the address.
    pub offset: u64,
    /// Bytes from the symbol to the next one of the same owner; `None` if there is none.
    pub size: Option<u64>,
}

impl SymbolTable {
    /// Reads lines of "address letter name" and, for modules, "\[module\]".
    pub fn read_from(shown: &str, input: impl BufRead) -> Result<SymbolTable, Error> {
        let mut builder = Builder::new();
        each_line(shown, input, |line| builder.line(line))?;
        builder.finish().map_err(|problem| Error::malformed(shown, problem))
    }

    /// A table of given symbols.
    pub fn new<'s>(symbols: impl IntoIterator<Item = Symbol<'s>>) -> Result<SymbolTable, String> {
        let mut builder = Builder::new();
        symbols.into_iter().try_for_each(|symbol| builder.add(symbol))?;
        builder.finish()
    }

    /// How many symbols there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the kernel hid all addresses (`kernel.kptr_restrict`).
    pub fn is_hidden(&self) -> bool {
        self.entries.iter().all(|entry| entry.address == 0) && !self.is_empty()
    }

    /// All symbols, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Symbol<'_>> {
        self.entries.iter().map(|entry| self.symbol(entry))
    }

    /// Those of modules, and of what is listed like one.
    pub(crate) fn of_modules(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.entries.iter().filter(|entry| entry.module != 0).map(|entry| self.symbol(entry))
    }

    /// The first of the kernel's own that is at a higher address than the next one, with that.
    pub(crate) fn out_of_order(&self) -> Option<(Symbol<'_>, Symbol<'_>)> {
        let mut own = self.entries.iter().filter(|entry| entry.module == 0);
        let mut before = own.next()?;
        for entry in own {
            if entry.address < before.address {
                return Some((self.symbol(before), self.symbol(entry)));
            }
            before = entry;
        }
        None
    }

    /// All symbols of a name: the kernel's global ones, its others, then those of modules, by module; each in the order of
    /// the file.
    pub fn named<'t>(&'t self, name: &'t str) -> impl Iterator<Item = Symbol<'t>> {
        let hash = self.hash(name);
        let first = self.by_name.partition_point(|(other, _)| *other < hash);
        let same = self.by_name[first..].iter().take_while(move |(other, _)| *other == hash);
        same.map(|(_, at)| self.at(*at)).filter(move |symbol| symbol.name == name)
    }

    /// The address of the kernel's own symbol of this name: of the global one, or of the first.
    pub fn kernel(&self, name: &str) -> Option<u64> {
        // Global ones come first.
        let own = self.named(name).next().filter(|symbol| symbol.module.is_none());
        own.map(|symbol| symbol.address)
    }

    /// A module's symbols of a name, in the order of the file.
    pub fn named_of<'t>(&'t self, name: &'t str, module: &str) -> impl Iterator<Item = Symbol<'t>> {
        let key = self.numbers.get(module).map(|number| (self.hash(name), 2, *number));
        let first =
            key.map_or(self.by_name.len(), |key| self.by_name.partition_point(|at| self.name_key(at) < key));
        let same = self.by_name[first..].iter().take_while(move |at| Some(self.name_key(at)) == key);
        same.map(|(_, at)| self.at(*at)).filter(move |symbol| symbol.name == name)
    }

    /// The first of code at an address.
    pub fn code_at(&self, address: u64) -> Option<Symbol<'_>> {
        let first = self.code.partition_point(|at| self.address(*at) < address);
        self.code.get(first).map(|at| self.at(*at)).filter(|symbol| symbol.address == address)
    }

    /// What symbols by name are sorted by.
    fn name_key(&self, (hash, at): &(u32, u32)) -> (u32, u8, u16) {
        let entry = &self.entries[*at as usize];
        let class = match entry.module {
            0 if self.symbol(entry).letter.is_ascii_uppercase() => 0,
            0 => 1,
            _ => 2,
        };
        (*hash, class, entry.module)
    }

    /// All symbols at an address, the kernel's choice first.
    pub fn at_address(&self, address: u64) -> impl Iterator<Item = Symbol<'_>> {
        let first = self.by_address.partition_point(|at| self.address(*at) < address);
        self.by_address[first..]
            .iter()
            .map(|at| self.at(*at))
            .take_while(move |symbol| symbol.address == address)
    }

    /// The symbol at or before an address among those of the kernel (`None`) or of one module.
    ///
    /// Mapping symbols are passed over, as the kernel does. How far before it may lie is for the caller to say: the
    /// table does not know where a module's memories end.
    pub fn nearest(&self, address: u64, module: Option<&str>) -> Option<Nearest<'_>> {
        self.nearest_in(0..u64::MAX, address, module)
    }

    /// The same among the symbols in a range, whose end ends the last of them.
    pub fn nearest_in(&self, range: Range<u64>, address: u64, module: Option<&str>) -> Option<Nearest<'_>> {
        let module = match module {
            None => 0,
            Some(module) => *self.numbers.get(module)?,
        };
        if !range.contains(&address) {
            return None;
        }
        let before = |limit: u64| {
            self.by_module.partition_point(|at| {
                let entry = &self.entries[*at as usize];
                (entry.module, entry.address) < (module, limit)
            })
        };
        let (first, last) = (before(range.start), before(range.end));
        let after = before(address + 1);
        let start = self.address(*self.by_module[first..after].last()?);
        let best = self.by_module[before(start)];
        let next = self.by_module[after..last].first().map(|at| self.address(*at));
        let end = next.or_else(|| (range.end < u64::MAX).then_some(range.end));
        Some(Nearest { symbol: self.at(best), offset: address - start, size: end.map(|end| end - start) })
    }

    /// Digits of an address: 16, or 8 on machines of 32 bits.
    pub fn digits(&self) -> usize {
        if self.digits == 8 { 8 } else { 16 }
    }

    /// The lines that [`read_from`](SymbolTable::read_from) reads.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let width = self.digits;
        self.iter().map(move |Symbol { name, address, letter, module }| match module {
            None => format!("{address:0width$x} {letter} {name}\n"),
            Some(module) => format!("{address:0width$x} {letter} {name}\t[{module}]\n"),
        })
    }

    fn address(&self, at: u32) -> u64 {
        self.entries[at as usize].address
    }

    fn at(&self, at: u32) -> Symbol<'_> {
        self.symbol(&self.entries[at as usize])
    }

    fn symbol(&self, entry: &Entry) -> Symbol<'_> {
        let start = entry.start as usize;
        let text = &self.names[start..start + usize::from(entry.length)];
        let mut letters = text.chars();
        let letter = letters.next().unwrap_or('?');
        let module = match entry.module {
            0 => None,
            module => Some(self.modules[usize::from(module)].as_str()),
        };
        Symbol { name: letters.as_str(), address: entry.address, letter, module }
    }

    fn hash(&self, name: &str) -> u32 {
        self.hasher.hash_one(name) as u32
    }
}

/// Symbols that assemblers leave behind to mark code and data.
pub(super) fn is_mapping(name: &str) -> bool {
    name.starts_with('$') || name.starts_with(".L") || name.starts_with("L0")
}

impl PartialEq for SymbolTable {
    fn eq(&self, other: &SymbolTable) -> bool {
        self.digits == other.digits && self.iter().eq(other.iter())
    }
}

impl Eq for SymbolTable {}

impl fmt::Debug for SymbolTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SymbolTable").field("symbols", &self.len()).finish_non_exhaustive()
    }
}

struct Builder {
    table: SymbolTable,
    /// The module of the last symbol: most follow one of the same.
    last: u16,
    /// How many symbols there may be.
    most: usize,
}

impl Builder {
    fn new() -> Builder {
        let table = SymbolTable { modules: vec![String::new()], digits: 16, ..SymbolTable::default() };
        Builder { table, last: 0, most: memory::most_symbols().min(u32::MAX as usize / NAME / 2) }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let wrong = || format!("{line:?} is not \"address letter name\"");
        let (address, rest) = line.split_once(' ').ok_or_else(wrong)?;
        if self.table.entries.is_empty() {
            self.table.digits = address.len();
        }
        let address = hex(address).filter(|_| matches!(address.len(), 8 | 16)).ok_or_else(wrong)?;
        let (letter, rest) = rest.split_once(' ').ok_or_else(wrong)?;
        let letter = letter.parse().ok().filter(char::is_ascii_graphic).ok_or_else(wrong)?;
        let (name, module) = match rest.split_once(['\t', ' ']) {
            None => (rest, None),
            Some((name, module)) => {
                let module = module.trim().strip_prefix('[').and_then(|module| module.strip_suffix(']'));
                (name, Some(module.filter(|module| !module.is_empty()).ok_or_else(wrong)?))
            }
        };
        self.add(Symbol { name, address, letter, module })
    }

    fn add(&mut self, symbol: Symbol<'_>) -> Result<(), String> {
        let Symbol { name, address, letter, module } = symbol;
        if name.len() > LONGEST_NAME {
            return Err(format!("a name of {} bytes; no kernel keeps more than {LONGEST_NAME}", name.len()));
        }
        let is_word = |name: &str| !name.bytes().any(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
        if !letter.is_ascii_graphic() || !is_word(name) || !module.is_none_or(is_word) {
            return Err(format!("{name:?} is no symbol's name"));
        }
        let table = &mut self.table;
        let most = self.most;
        if table.entries.len() == most || table.names.len() / NAME > most {
            return Err(format!("more than {most} symbols, or longer ones than any kernel has (--memory)"));
        }
        let module = match module {
            None => 0,
            Some(module) if table.modules[usize::from(self.last)] == module => self.last,
            Some(module) => match table.numbers.get(module) {
                Some(&known) => known,
                None => {
                    let number = u16::try_from(table.modules.len()).map_err(|_| "more than 65535 modules")?;
                    table.modules.push(module.to_owned());
                    table.numbers.insert(module.to_owned(), number);
                    number
                }
            },
        };
        self.last = module;
        let start = table.names.len();
        table.names.push(letter);
        table.names.push_str(name);
        let length = (table.names.len() - start) as u16;
        table.entries.push(Entry { address, start: start as u32, length, module });
        Ok(())
    }

    fn finish(self) -> Result<SymbolTable, String> {
        let mut table = self.table;
        table.names.shrink_to_fit();
        table.entries.shrink_to_fit();
        let count = table.entries.len() as u32;
        let mut by_address: Vec<u32> = (0..count).collect();
        // Nearly sorted to begin with; stable, so that the first of one address stays the first.
        by_address.sort_by_key(|at| table.entries[*at as usize].address);
        // Each key is found once, and not in each comparison.
        let keyed = (0..count).map(|at| (table.name_key(&(table.hash(table.at(at).name), at)), at));
        let mut keyed: Vec<((u32, u8, u16), u32)> = keyed.collect();
        keyed.sort_unstable();
        let by_name = keyed.into_iter().map(|((hash, ..), at)| (hash, at)).collect();
        let mut code = by_address.clone();
        code.retain(|at| matches!(table.at(*at).letter, 't' | 'T' | 'w' | 'W'));
        let mut by_module = by_address.clone();
        by_module.retain(|at| !is_mapping(table.at(*at).name));
        by_module.sort_by_key(|at| table.entries[*at as usize].module);
        Ok(SymbolTable { by_address, code, by_module, by_name, ..table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0000000000000000 A percpu_thing\n\
                        ffffffff81000000 T _stext\nffffffff81000000 T _text\nffffffff81000010 t both\n\
                        ffffffff81000020 T both\nffffffff81000030 D last\n\
                        ffffffffc0001010 t second\t[ext4]\nffffffffc0001000 t $x\t[ext4]\n\
                        ffffffffc0001000 t first\t[ext4]\nffffffffc0001000 T alias\t[ext4]\n\
                        ffffffffc0001008 t between\t[xfs]\n";

    fn table() -> SymbolTable {
        SymbolTable::read_from("kallsyms", TEXT.as_bytes()).unwrap()
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        assert_eq!(table().lines().collect::<String>(), TEXT);
        let old = "c0000000 T _start\nbe61e058 t scatterwalk_ffwd\t[crypto_algapi]\n";
        let table = SymbolTable::read_from("kallsyms", old.as_bytes()).unwrap();
        assert_eq!(table.lines().collect::<String>(), old);
    }

    #[test]
    fn names_lead_to_all_their_symbols_and_globals_go_before_locals() {
        let table = table();
        assert_eq!(table.named("both").map(|symbol| symbol.letter).collect::<String>(), "Tt");
        assert_eq!(table.kernel("both"), Some(0xffff_ffff_8100_0020));
        assert_eq!(table.kernel("first"), None);
        assert_eq!(table.named("nowhere").count(), 0);
        assert_eq!(table.named("first").next().unwrap().module, Some("ext4"));
    }

    #[test]
    fn the_nearest_symbol_is_the_first_of_its_address_and_of_its_owner() {
        let table = table();
        let near = |address, module| {
            let found: Nearest<'_> = table.nearest(address, module)?;
            Some((found.symbol.name, found.offset, found.size))
        };
        assert_eq!(near(0xffff_ffff_8100_0008, None), Some(("_stext", 8, Some(16))));
        assert_eq!(near(0xffff_ffff_8100_0031, None), Some(("last", 1, None)));
        assert_eq!(near(0xffff_ffff_c000_100c, Some("ext4")), Some(("first", 12, Some(16))));
        assert_eq!(near(0xffff_ffff_c000_100c, Some("xfs")), Some(("between", 4, None)));
        assert_eq!(near(0xffff_ffff_c000_0fff, Some("ext4")), None);
        assert_eq!(near(0xffff_ffff_c000_0fff, Some("none")), None);
        let within = |range, address| {
            let found = table.nearest_in(range, address, Some("ext4"))?;
            Some((found.symbol.name, found.size))
        };
        let start = 0xffff_ffff_c000_1000;
        assert_eq!(within(start..start + 0x20, start + 0x18), Some(("second", Some(16))));
        assert_eq!(within(start..start + 8, start + 4), Some(("first", Some(8))));
        assert_eq!(within(start + 4..start + 0x20, start + 8), None);
        assert_eq!(within(start..start + 0x20, start + 0x20), None);
        let there: Vec<&str> = table.at_address(0xffff_ffff_c000_1000).map(|symbol| symbol.name).collect();
        assert_eq!(there, ["$x", "first", "alias"]);
    }

    #[test]
    fn lines_that_are_no_symbols_are_errors() {
        for bad in ["0 T x", "ffffffff81000000 T", "ffffffff81000000 TT x", "ffffffff81000000 T x [m", "x"] {
            let error = SymbolTable::read_from("kallsyms", bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("kallsyms: line 1: "), "{error}");
        }
        let long = format!("ffffffff81000000 T {}", "x".repeat(512));
        assert!(SymbolTable::read_from("kallsyms", long.as_bytes()).is_err());
    }

    #[test]
    fn hidden_addresses_are_noticed() {
        let text = "0000000000000000 T _text\n0000000000000000 t other\n";
        assert!(SymbolTable::read_from("kallsyms", text.as_bytes()).unwrap().is_hidden());
        assert!(!table().is_hidden() && !SymbolTable::default().is_hidden());
    }
}
