//! What the kernel exports to modules, put together from whatever tells.

use crate::{
    Error, ImageFacts, Kernel,
    cache::Fingerprint,
    image::{self, KernelImage},
    memory,
    module_file::read_file,
    snapshot::{Symbol, SymbolTable},
    symbol_file::SymbolFile,
    symvers,
    trust::digest::Digest,
};
use modmem::{Name, profile::KernelConfig};
use std::{
    collections::HashMap,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

/// Folder of the cache with what images export: finding out means to decompress them.
const TABLES: &str = "symbols";

/// A symbol that the kernel itself exports to modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSymbol {
    /// The symbol's name.
    pub name: Box<str>,
    /// Its address; for a percpu variable its offset. `None` if only `Module.symvers` tells of it.
    pub address: Option<u64>,
    /// Only for modules whose licence is compatible with the GPL. False where nothing tells.
    pub gpl_only: bool,
    /// The checksum of its declaration, in a kernel with modversions.
    pub crc: Option<u32>,
    /// The namespace that a module has to import.
    pub namespace: Option<Box<str>>,
}

impl KernelSymbol {
    /// A symbol that a running kernel lists, which tells neither licence nor checksum.
    fn listed(symbol: Symbol<'_>) -> KernelSymbol {
        let (name, address) = (symbol.name.into(), Some(symbol.address));
        KernelSymbol { name, address, gpl_only: false, crc: None, namespace: None }
    }
}

/// Where a table of symbols comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SymbolSource {
    /// A `System.map` or kallsyms file: addresses as the running kernel has them.
    SymbolFile(PathBuf),
    /// A kernel image: addresses as the kernel was linked.
    Image(PathBuf),
    /// `Module.symvers`: no addresses.
    ModuleSymvers(PathBuf),
    /// The list of a running kernel.
    Listed,
    /// Nothing tells.
    None,
}

/// The kernel's exports and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSymbols {
    /// Sorted by name, each name once.
    pub symbols: Vec<KernelSymbol>,
    /// Where names and addresses come from.
    pub source: SymbolSource,
    /// Do the sources tell which symbols are for GPL modules only?
    pub licences_known: bool,
    /// What the image says about the kernel's place in memory, if there is an image.
    pub image: Option<ImageFacts>,
}

impl KernelSymbols {
    /// The symbol of this name.
    pub fn get(&self, name: &str) -> Option<&KernelSymbol> {
        let at = self.symbols.binary_search_by(|symbol| (*symbol.name).cmp(name)).ok()?;
        self.symbols.get(at)
    }
}

impl KernelSymbols {
    /// The same at the addresses where a running kernel of the same build lists them. Where nothing tells what it exports,
    /// all its global symbols are taken for that.
    pub fn move_to(&mut self, listed: &SymbolTable) {
        if self.source == SymbolSource::None {
            let own = listed.iter().filter(|symbol| symbol.module.is_none());
            let global = own.filter(|symbol| symbol.letter.is_ascii_uppercase());
            self.symbols = global.map(KernelSymbol::listed).collect();
            self.symbols.sort_by(|a, b| a.name.cmp(&b.name));
            self.symbols.dedup_by(|a, b| a.name == b.name);
            self.source = SymbolSource::Listed;
        }
        let Some(image) = &mut self.image else { return };
        let Some(text) = listed.kernel("_text").or_else(|| listed.kernel("_stext")) else { return };
        let (first, moved) = (image.text, text.wrapping_sub(image.text));
        for symbol in &mut self.symbols {
            let shifted = || symbol.address.map(|at| if at >= first { at.wrapping_add(moved) } else { at });
            // Kernels that keep no symbols of data list functions alone.
            symbol.address = listed.kernel(&symbol.name).or_else(shifted);
        }
        *image = image.moved_by(moved);
    }
}

/// What was found in an image or in `Module.symvers`.
#[derive(Debug)]
struct Table {
    symbols: Vec<KernelSymbol>,
    source: SymbolSource,
    image: Option<ImageFacts>,
}

impl Kernel {
    /// What the kernel exports to modules.
    ///
    /// `file` may be a `System.map`, a copy of `/proc/kallsyms`, a kernel image or `Module.symvers`, told apart by
    /// contents. Without it, or for what it does not tell (a `System.map` knows neither licences nor checksums), this
    /// kernel's own files are asked: image, `System.map`, `Module.symvers`. If there are none of these either the
    /// result is empty and its source [`SymbolSource::None`].
    pub fn symbols(&self, file: Option<&Path>) -> Result<KernelSymbols, Error> {
        if let Some(path) = file {
            let bytes = read_file(path, memory::of_file())?;
            let shown = path.display().to_string();
            if KernelImage::is_one(&bytes) {
                return self.image_table(&shown, path, bytes).map(Table::into_symbols);
            }
            if symvers::is_symvers(&bytes) {
                let symbols = symvers::kernel_symbols(&String::from_utf8_lossy(&bytes));
                let source = SymbolSource::ModuleSymvers(path.to_path_buf());
                return Ok(Table { symbols, source, image: None }.into_symbols());
            }
            let addresses = SymbolFile::parse(&shown, &bytes)?;
            // The file is what the user chose to go by: an image of a kind unknown to us must not stand in its way.
            let table = self.told(self.own_table()).flatten();
            let source = SymbolSource::SymbolFile(path.to_path_buf());
            return Ok(merge(&addresses, source, table, self.config().as_deref()));
        }
        let table = self.own_table()?;
        if table.as_ref().is_some_and(|table| matches!(table.source, SymbolSource::Image(_))) {
            return Ok(table.map_or_else(nothing, Table::into_symbols));
        }
        if let Some(bytes) = self.symbol_file() {
            let path = self.symbol_file_path().unwrap_or_else(|| PathBuf::from("System.map"));
            let addresses = SymbolFile::parse(&path.display().to_string(), &bytes)?;
            let source = SymbolSource::SymbolFile(path);
            return Ok(merge(&addresses, source, table, self.config().as_deref()));
        }
        Ok(table.map_or_else(nothing, Table::into_symbols))
    }

    /// All symbols of the kernel, exported or not: those of `file`, if it is a `System.map` or a copy of `/proc/kallsyms`,
    /// or else of this kernel's own `System.map`. Empty where there is none; only livepatch modules need more than what is
    /// exported.
    pub fn internal_symbols(&self, file: Option<&Path>) -> Result<Vec<(String, u64)>, Error> {
        let given = file.map(|path| read_file(path, memory::of_file())).transpose()?;
        let given = given.filter(|bytes| !KernelImage::is_one(bytes) && !symvers::is_symvers(bytes));
        let bytes = given.or_else(|| self.symbol_file()).unwrap_or_default();
        let named = |(name, address): (&str, u64)| (name.to_owned(), address);
        Ok(crate::symbol_file::all(&bytes).map(named).collect())
    }

    /// What this kernel's image says, or else its `Module.symvers`.
    fn own_table(&self) -> Result<Option<Table>, Error> {
        if let Some(path) = self.image_path() {
            let shown = path.display().to_string();
            if let Some(table) = self.kept_table(path) {
                return Ok(Some(table));
            }
            // Read as the cache's list has it: a file cut short in the cache says so.
            match self.image().unwrap_or_else(|| read_file(path, memory::of_file())) {
                Ok(bytes) => return self.image_table(&shown, path, bytes).map(Some),
                // Some systems let only root read the running kernel's image.
                Err(Error::Read { path, source }) if source.kind() == io::ErrorKind::PermissionDenied => {
                    let _: Option<()> = self.told(Err(Error::Read { path, source }));
                }
                Err(error) => return Err(error),
            }
        } else if let Some(image) = self.image() {
            return self.image_table("vmlinuz", Path::new("vmlinuz"), image?).map(Some);
        }
        Ok(self.module_symvers().map(|bytes| {
            let symbols = symvers::kernel_symbols(&String::from_utf8_lossy(&bytes));
            let path = self.module_symvers_path().unwrap_or_else(|| PathBuf::from("Module.symvers"));
            Table { symbols, source: SymbolSource::ModuleSymvers(path), image: None }
        }))
    }

    fn kept_table(&self, path: &Path) -> Option<Table> {
        let name = table_name(self.image_digest()?, self.config().as_deref());
        let text = String::from_utf8(self.cache.note(TABLES, &name)?).ok()?;
        let (symbols, facts) = load(&text)?;
        Some(Table { symbols, source: SymbolSource::Image(path.to_path_buf()), image: Some(facts) })
    }

    fn image_table(&self, shown: &str, path: &Path, bytes: Vec<u8>) -> Result<Table, Error> {
        let config = self.config();
        let digest = Digest::of(&bytes);
        let image = KernelImage::read(shown, bytes, config.as_deref())?;
        let (symbols, facts) = (image.symbols()?, image.facts()?);
        if path.is_absolute() {
            let name = table_name(digest, config.as_deref());
            self.cache.keep_note(TABLES, &name, save(&symbols, &facts).as_bytes());
        }
        Ok(Table { symbols, source: SymbolSource::Image(path.to_path_buf()), image: Some(facts) })
    }
}

impl Table {
    fn into_symbols(mut self) -> KernelSymbols {
        self.symbols.dedup_by(|a, b| a.name == b.name);
        let (symbols, source, image) = (self.symbols, self.source, self.image);
        KernelSymbols { licences_known: !symbols.is_empty(), symbols, source, image }
    }
}

fn nothing() -> KernelSymbols {
    KernelSymbols { symbols: Vec::new(), source: SymbolSource::None, licences_known: false, image: None }
}

/// Names and addresses from a symbol file; licence, checksum and namespace from the image or `Module.symvers`.
fn merge(
    addresses: &SymbolFile,
    source: SymbolSource,
    table: Option<Table>,
    config: Option<&[u8]>,
) -> KernelSymbols {
    let known: HashMap<&str, &KernelSymbol> =
        table.iter().flat_map(|table| &table.symbols).map(|symbol| (&*symbol.name, symbol)).collect();
    // A file may leave out the export tables. Then the table says what is exported; without one, all that is global.
    let names: Vec<&str> = if !addresses.exported.is_empty() {
        addresses.exported.iter().map(String::as_str).collect()
    } else if !known.is_empty() {
        known.keys().copied().collect()
    } else {
        addresses.globals().collect()
    };
    let machine = config.and_then(|config| KernelConfig::parse(&String::from_utf8_lossy(config)).machine());
    // What the linker made of other symbols is missing in kallsyms.
    let made = |name: &str| {
        let (other, offset) = machine?.made_symbol(Name::from(name))?;
        Some(addresses.address(other)?.wrapping_add(offset))
    };
    let symbol = |name: &str| {
        let address = addresses.address(name).or_else(|| made(name))?;
        let known = known.get(name);
        Some(KernelSymbol {
            name: name.into(),
            address: Some(address),
            gpl_only: known.is_some_and(|known| known.gpl_only),
            crc: known.and_then(|known| known.crc),
            namespace: known.and_then(|known| known.namespace.clone()),
        })
    };
    let mut symbols: Vec<KernelSymbol> = names.into_iter().filter_map(symbol).collect();
    symbols.sort_by(|a, b| a.name.cmp(&b.name));
    symbols.dedup_by(|a, b| a.name == b.name);
    KernelSymbols {
        symbols,
        source,
        licences_known: !known.is_empty(),
        image: match table.and_then(|table| table.image) {
            Some(image) => Some(place(image, addresses)),
            None => facts_of(addresses, config),
        },
    }
}

/// What a symbol file tells of the kernel's place, where there is no image.
fn facts_of(addresses: &SymbolFile, config: Option<&[u8]>) -> Option<ImageFacts> {
    let (text, end) = (addresses.address("_text")?, addresses.address("_end")?);
    let percpu = addresses.address("__per_cpu_start").zip(addresses.address("__per_cpu_end"));
    let percpu = percpu.filter(|(start, end)| start < end).map(|(start, end)| start..end);
    let start = image::start_of(text, config);
    Some(ImageFacts { percpu, start, text, text_end: addresses.address("_etext"), end })
}

/// The image as it lies where the symbol file was made: the kernel may run elsewhere than it was linked.
fn place(image: ImageFacts, addresses: &SymbolFile) -> ImageFacts {
    // Some kernels list the symbols of functions alone.
    let Some(text) = addresses.address("_text") else {
        return image;
    };
    let moved = text.wrapping_sub(image.text);
    let end = addresses.address("_end").unwrap_or_else(|| image.end.wrapping_add(moved));
    let text_end = addresses.address("_etext").or_else(|| Some(image.text_end?.wrapping_add(moved)));
    let listed = || Some(addresses.address("__per_cpu_start")?..addresses.address("__per_cpu_end")?);
    let percpu = listed().filter(|percpu| percpu.start < percpu.end).or_else(|| image.moved_by(moved).percpu);
    ImageFacts { percpu, start: image.start.wrapping_add(moved), text, text_end, end }
}

/// The name of an image's table. What an image says of itself is read by the configuration: a table that was made
/// without, or with another one, is another table.
fn table_name(image: Digest, config: Option<&[u8]>) -> String {
    let mut fingerprint = Fingerprint::new();
    fingerprint.add(image.as_bytes());
    fingerprint.add(&[u8::from(config.is_some())]);
    fingerprint.add(config.unwrap_or_default());
    fingerprint.name()
}

/// A table as text, to be kept: a line for the image, a line for each symbol, a last line with their number.
fn save(symbols: &[KernelSymbol], facts: &ImageFacts) -> String {
    let mut text = String::from("modmem symbols 2\n");
    let percpu = facts
        .percpu
        .as_ref()
        .map_or("- -".to_owned(), |percpu| format!("{:x} {:x}", percpu.start, percpu.end));
    let text_end = facts.text_end.map_or("-".to_owned(), |end| format!("{end:x}"));
    let _ = writeln!(text, "{:x} {:x} {text_end} {:x} {percpu}", facts.start, facts.text, facts.end);
    for symbol in symbols {
        let licence = if symbol.gpl_only { 'G' } else { 'P' };
        let _ = write!(text, "{licence} {:x} ", symbol.address.unwrap_or_default());
        match symbol.crc {
            Some(crc) => {
                let _ = write!(text, "{crc:x}");
            }
            None => text.push('-'),
        }
        let _ = writeln!(text, " {}\t{}", symbol.name, symbol.namespace.as_deref().unwrap_or_default());
    }
    let _ = writeln!(text, "end {}", symbols.len());
    text
}

/// Reads a table back. `None` if it is not whole.
fn load(text: &str) -> Option<(Vec<KernelSymbol>, ImageFacts)> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut lines = text.strip_prefix("modmem symbols 2\n")?.lines();
    let mut place = lines.next()?.split(' ');
    let (start, text) = (hex(place.next()?)?, hex(place.next()?)?);
    let text_end = match place.next()? {
        "-" => None,
        end => Some(hex(end)?),
    };
    let end = hex(place.next()?)?;
    let percpu = match (place.next()?, place.next()?) {
        ("-", "-") => None,
        (start, end) => Some(hex(start)?..hex(end)?),
    };
    let mut symbols = Vec::new();
    loop {
        let mut fields = lines.next()?.splitn(4, ' ');
        let (kind, value) = (fields.next()?, fields.next()?);
        if kind == "end" {
            let whole = value.parse() == Ok(symbols.len());
            return whole.then_some((symbols, ImageFacts { percpu, start, text, text_end, end }));
        }
        let crc = match fields.next()? {
            "-" => None,
            crc => Some(u32::from_str_radix(crc, 16).ok()?),
        };
        let (name, namespace) = fields.next()?.split_once('\t')?;
        symbols.push(KernelSymbol {
            name: name.into(),
            address: Some(hex(value)?),
            gpl_only: match kind {
                "G" => true,
                "P" => false,
                _ => return None,
            },
            crc,
            namespace: Some(namespace).filter(|namespace| !namespace.is_empty()).map(Into::into),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str, address: u64) -> KernelSymbol {
        KernelSymbol {
            name: name.into(),
            address: Some(address),
            gpl_only: true,
            crc: Some(7),
            namespace: Some("NS".into()),
        }
    }

    #[test]
    fn a_table_comes_back_as_it_was_kept() {
        let symbols = vec![
            symbol("a", 1),
            KernelSymbol { crc: None, namespace: None, gpl_only: false, ..symbol("b", 2) },
        ];
        for percpu in [None, Some(0..0x1000)] {
            let facts = ImageFacts {
                text_end: percpu.as_ref().map(|_| 0xffff_ffff_8200_0000),
                percpu,
                start: 0xffff_ffff_8000_0000,
                text: 0xffff_ffff_8100_0000,
                end: 0xffff_ffff_8300_0000,
            };
            let text = save(&symbols, &facts);
            assert_eq!(load(&text), Some((symbols.clone(), facts)));
            for length in 0..text.len() - 1 {
                assert_eq!(load(&text[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn a_table_that_was_made_without_the_configuration_is_another_table() {
        let name = |config: Option<&[u8]>| table_name(Digest::of(b"image"), config);
        let names = [name(None), name(Some(b"")), name(Some(b"CONFIG_ARM64_VA_BITS=48\n"))];
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
        assert_eq!(name(None), names[0]);
    }

    #[test]
    fn a_symbol_file_gives_addresses_and_the_table_the_rest() {
        let file = b"ffffffff91000000 T _text\nffffffff91000000 T a\nffffffff91000010 t b\nffffffff92000000 r __ksymtab_a\n";
        let file = SymbolFile::parse("kallsyms", file).unwrap();
        let source = SymbolSource::SymbolFile("kallsyms".into());
        let image = ImageFacts {
            percpu: Some(0..8),
            start: 0xffff_ffff_8100_0000,
            text: 0xffff_ffff_8100_0000,
            text_end: Some(0xffff_ffff_8180_0000),
            end: 0xffff_ffff_8200_0000,
        };
        let table = || Table {
            symbols: vec![symbol("a", 1)],
            source: SymbolSource::None,
            image: Some(image.clone()),
        };
        let merged = merge(&file, source.clone(), Some(table()), None);
        assert_eq!(merged.symbols, [symbol("a", 0xffff_ffff_9100_0000)]);
        assert!(merged.licences_known && merged.get("a").is_some() && merged.get("b").is_none());
        let moved = ImageFacts {
            percpu: Some(0..8),
            start: 0xffff_ffff_9100_0000,
            text: 0xffff_ffff_9100_0000,
            text_end: Some(0xffff_ffff_9180_0000),
            end: 0xffff_ffff_9200_0000,
        };
        assert_eq!(merged.image, Some(moved));
        let alone = merge(&file, source, None, None);
        assert_eq!(alone.symbols.len(), 1);
        assert!(!alone.licences_known);
    }
}
