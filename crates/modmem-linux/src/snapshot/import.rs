//! A machine described in JSON, for tools that have its memory but not Linux's files: debuggers, crash tools,
//! hypervisors. docs/snapshot.md has the schema.

use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    ops::Range,
    path::Path,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};

use super::{
    Area, ModuleFiles, ModuleRecord, ModuleState, SectionAddress, Snapshot, Symbol, SymbolTable, areas,
    folder,
    lines::{bytes, hex, text},
    members::{LONG, machine_of},
    memory::{MemoryRecords, read_records},
    modules,
};
use crate::{Error, files::Folder, memory};

/// What the document calls itself, and its version.
const SCHEMA: (&str, u32) = ("modmem.machine", 1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    schema: String,
    version: u32,
    release: String,
    #[serde(default)]
    machine: String,
    #[serde(default)]
    command_line: Option<String>,
    #[serde(default)]
    cpus: Option<u32>,
    /// A file.
    #[serde(default)]
    config: Option<String>,
    #[serde(default)]
    config_text: Option<String>,
    #[serde(deserialize_with = "few")]
    modules: Vec<Module>,
    #[serde(default)]
    symbols: Option<Symbols>,
    #[serde(default)]
    areas: Option<Areas>,
    #[serde(default)]
    memory: Files,
    /// What was read throughout: where no record is, there is nothing.
    #[serde(default)]
    scanned: Vec<Scanned>,
    #[serde(default)]
    module_files: Option<String>,
    #[serde(default)]
    missing: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Module {
    name: String,
    #[serde(default)]
    state: State,
    #[serde(default)]
    sections: Sections,
    #[serde(default)]
    build_id: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    refcnt: Option<u64>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    permanent: bool,
    #[serde(default)]
    taints: String,
    #[serde(default)]
    address: Option<Address>,
    #[serde(default)]
    core_size: Option<u64>,
    #[serde(default)]
    init_size: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Live,
    Loading,
    Unloading,
}

/// A number, or hexadecimal digits with `0x`.
#[derive(Clone, Copy)]
struct Address(u64);

/// In the document's order; each once.
#[derive(Default)]
struct Sections(Vec<(String, Address)>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Symbols {
    File(String),
    List(Vec<OneSymbol>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneSymbol {
    name: String,
    address: Address,
    #[serde(default = "global_text")]
    letter: char,
    #[serde(default)]
    module: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Areas {
    File(String),
    List(Vec<OneArea>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneArea {
    start: Address,
    end: Address,
    #[serde(default)]
    caller: String,
    #[serde(default)]
    pages: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scanned {
    start: Address,
    end: Address,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Files {
    One(String),
    List(Vec<String>),
}

impl Default for Files {
    fn default() -> Files {
        Files::List(Vec::new())
    }
}

/// Modules, of which each takes many times what it takes to name one.
fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Module>, D::Error> {
    struct Each;
    impl<'de> Visitor<'de> for Each {
        type Value = Vec<Module>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of modules")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Module>, A::Error> {
            let mut modules = Vec::new();
            while let Some(module) = list.next_element()? {
                if modules.len() == modules::MOST_MODULES {
                    return Err(A::Error::custom("more modules than any machine has"));
                }
                modules.push(module);
            }
            Ok(modules)
        }
    }
    deserializer.deserialize_seq(Each)
}

fn global_text() -> char {
    'T'
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Address;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address: \"0x...\" or a number")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Address, E> {
                Ok(Address(number))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Address, E> {
                let address = text.starts_with("0x").then(|| hex(text)).flatten();
                address.map(Address).ok_or_else(|| E::custom(format!("{text:?} is no address: write 0x...")))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Sections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sections, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Sections;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("section names with their addresses")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Sections, M::Error> {
                let mut sections = Vec::new();
                while let Some(section) = map.next_entry()? {
                    sections.push(section);
                }
                Ok(Sections(sections))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Reads a document whose files lie in its own folder.
pub(crate) fn read_beside(path: &Path, shown: &str, json: impl Read) -> Result<Snapshot, Error> {
    let json = bytes(shown, BufReader::new(json), 2 * memory::of_lists())?;
    let beside = path.parent().unwrap_or(Path::new(""));
    // Whoever made the document may not choose among all files here.
    let folder = Folder::open(beside)?;
    let open = |name: &str| -> Result<Box<dyn BufRead>, Error> {
        folder::decompressed(&beside.join(name), folder.file(Path::new(name))?)
    };
    read_in(shown, &json, beside, open)
}

pub(crate) fn read(
    shown: &str,
    json: &[u8],
    open: impl FnMut(&str) -> Result<Box<dyn BufRead>, Error>,
) -> Result<Snapshot, Error> {
    read_in(shown, json, Path::new(""), open)
}

/// Reads a document whose modules' files are in the folder `beside`.
fn read_in(
    shown: &str,
    json: &[u8],
    beside: &Path,
    mut open: impl FnMut(&str) -> Result<Box<dyn BufRead>, Error>,
) -> Result<Snapshot, Error> {
    let wrong = |problem: String| Error::malformed(shown, problem);
    let machine: Machine = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    if (machine.schema.as_str(), machine.version) != SCHEMA {
        let (schema, version) = (&machine.schema, machine.version);
        let problem = format!("{schema:?} version {version}; this version of modmem reads {SCHEMA:?} only");
        return Err(wrong(problem));
    }
    if machine.release.is_empty() {
        return Err(wrong("\"release\" is empty".to_owned()));
    }
    let config = match (machine.config, machine.config_text) {
        (Some(_), Some(_)) => return Err(wrong("give either \"config\" or \"config_text\"".to_owned())),
        (Some(file), None) => Some(text(&file, open(&file)?, LONG)?),
        (None, text) => text,
    };
    let mut modules = Vec::with_capacity(machine.modules.len());
    for module in machine.modules {
        modules.push(module.record().map_err(&wrong)?);
    }
    if let Some(name) = modules::twice(modules.iter().map(|module| module.name.as_str())) {
        return Err(wrong(format!("module {name:?} is there twice")));
    }
    let symbols = match machine.symbols {
        None => SymbolTable::default(),
        Some(Symbols::File(file)) => SymbolTable::read_from(&file, open(&file)?)?,
        Some(Symbols::List(list)) => {
            let symbols = list.iter().map(|symbol| Symbol {
                name: &symbol.name,
                address: symbol.address.0,
                letter: symbol.letter,
                module: symbol.module.as_deref(),
            });
            SymbolTable::new(symbols).map_err(&wrong)?
        }
    };
    let areas = match machine.areas {
        None => areas::Listed::default(),
        Some(Areas::File(file)) => match areas::parse(&file, open(&file)?)? {
            areas::Areas::Known(listed) => listed,
            areas::Areas::Hidden => return Err(Error::malformed(file, "its addresses are hidden or hashed")),
        },
        Some(Areas::List(list)) => {
            let areas: Option<Vec<Area>> = list.into_iter().map(OneArea::area).collect();
            let areas = areas
                .ok_or_else(|| wrong("an area ends before it starts, or its caller is no name".to_owned()))?;
            areas::in_order(areas)
        }
    };
    let (mut records, mut total) = (Vec::new(), 0);
    let files = match machine.memory {
        Files::One(file) => vec![file],
        Files::List(files) => files,
    };
    for file in files {
        read_records(&file, open(&file)?, &mut records, &mut total)?;
    }
    let scanned: Vec<Range<u64>> = machine.scanned.iter().map(|range| range.start.0..range.end.0).collect();
    if scanned.iter().any(|range| range.start >= range.end) {
        return Err(wrong("a range that was scanned ends before it starts".to_owned()));
    }
    let mut name = machine.machine;
    if name.is_empty() {
        name = config.as_deref().and_then(machine_of).unwrap_or_default().to_owned();
    }
    Ok(Snapshot {
        release: machine.release,
        machine: name,
        config,
        command_line: machine.command_line,
        cpus: machine.cpus,
        modules,
        symbols,
        areas: areas.areas,
        contradictory_areas: areas.contradictory,
        memory: MemoryRecords::new(records).map_err(&wrong)?.with_scanned(scanned),
        missing: machine.missing,
        module_files: machine.module_files.map(|file| ModuleFiles::inside(beside, &file)),
        ..Snapshot::default()
    })
}

impl Module {
    fn record(self) -> Result<ModuleRecord, String> {
        let name = self.name;
        if !modules::is_module_name(&name) {
            return Err(format!("{name:?} is no module's name"));
        }
        let build_id = match self.build_id {
            None => None,
            Some(digits) => {
                Some(bytes_of(&digits).ok_or_else(|| format!("{name}: {digits:?} is no build id"))?)
            }
        };
        let Sections(sections) = self.sections;
        if let Some(twice) = modules::twice(sections.iter().map(|(section, _)| section.as_str())) {
            return Err(format!("{name}: section {twice:?} is there twice"));
        }
        let sections: Vec<SectionAddress> =
            sections.into_iter().map(|(name, Address(address))| SectionAddress { name, address }).collect();
        let is_word = |word: &String| !word.contains([' ', ',', '\n']);
        let is_line = |section: &SectionAddress| !section.name.contains('\n');
        if !self.users.iter().chain([&self.taints]).all(is_word) || !sections.iter().all(is_line) {
            return Err(format!("{name}: users, taints and sections cannot have such names"));
        }
        let text = || sections.iter().find(|section| section.name == ".text").map(|text| text.address);
        Ok(ModuleRecord {
            size: self.size,
            refcnt: self.refcnt,
            users: self.users,
            permanent: self.permanent,
            state: match self.state {
                State::Live => ModuleState::Live,
                State::Loading => ModuleState::Loading,
                State::Unloading => ModuleState::Unloading,
            },
            address: self.address.map(|Address(address)| address).or_else(text).unwrap_or_default(),
            taints: self.taints,
            sections,
            core_size: self.core_size,
            init_size: self.init_size,
            build_id,
            name,
            notes: Vec::new(),
        })
    }
}

impl OneArea {
    fn area(self) -> Option<Area> {
        if self.caller.contains([' ', '\n']) {
            return None;
        }
        let range = self.start.0..self.end.0;
        let pages = self.pages.map(|pages| format!(" pages={pages}")).unwrap_or_default();
        let rest = format!("{}{pages}", self.caller);
        (range.start < range.end).then_some(Area { range, caller: self.caller, rest })
    }
}

/// The bytes that pairs of hexadecimal digits stand for.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    bytes.filter(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(modules: &str, rest: &str) -> Result<Snapshot, String> {
        let json = format!(
            "{{\"schema\": \"modmem.machine\", \"version\": 1, \"release\": \"6.12\", \"modules\": [{modules}]{rest}}}"
        );
        let open = |name: &str| -> Result<Box<dyn BufRead>, Error> {
            let contents: &[u8] = match name {
                "mem" => b"1000 3\nabc",
                "other" => b"1002 1\nx",
                _ => return Err(Error::malformed(name, "not there")),
            };
            Ok(Box::new(contents))
        };
        super::read("m.json", json.as_bytes(), open).map_err(|error| error.to_string())
    }

    #[test]
    fn a_document_becomes_a_snapshot() {
        let module = r#"{"name": "a", "sections": {".text": "0x1000", ".data": 8192}, "build_id": "00ff"}"#;
        let rest = r#", "memory": "mem", "config_text": "CONFIG_X86_64=y",
            "symbols": [{"name": "f", "address": "0x1001", "module": "a", "letter": "t"}],
            "areas": [{"start": "0x1000", "end": "0x3000", "caller": "load_module", "pages": 1}]"#;
        let snapshot = read(module, rest).unwrap();
        assert_eq!((snapshot.machine.as_str(), snapshot.modules[0].address), ("x86_64", 0x1000));
        assert_eq!(snapshot.modules[0].section(".data"), Some(8192));
        assert_eq!(snapshot.modules[0].build_id.as_deref(), Some(&[0, 255][..]));
        assert_eq!(snapshot.memory.bytes(0x1000, 3), Some(&b"abc"[..]));
        assert_eq!(snapshot.symbols.nearest(0x1002, Some("a")).unwrap().symbol.name, "f");
        assert_eq!(snapshot.areas[0].backed(), 0x1000..0x2000);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let module = |more: &str| format!("{{\"name\": \"a\"{more}}}");
        for (modules, rest, expected) in [
            (module(", \"section\": {}"), "", "unknown field `section`"),
            (module(", \"sections\": {\".text\": \"1000\"}"), "", "write 0x"),
            (module(", \"sections\": {\".text\": -1}"), "", "an address"),
            (module(", \"sections\": {\".text\": 1, \".text\": 2}"), "", "\".text\" is there twice"),
            (module(", \"build_id\": \"abc\""), "", "no build id"),
            (module(", \"state\": \"odd\""), "", "unknown variant `odd`"),
            (format!("{0},{0}", module("")), "", "\"a\" is there twice"),
            ("{\"name\": \"a b\"}".to_owned(), "", "no module's name"),
            (module(""), ", \"memory\": [\"mem\", \"other\"]", "overlap"),
            (module(""), ", \"memory\": \"none\"", "none: not there"),
            (module(""), ", \"areas\": [{\"start\": 2, \"end\": 1}]", "ends before"),
            (module(""), ", \"config\": \"c\", \"config_text\": \"\"", "either"),
            (module(""), ", \"release\": \"7\"", "duplicate field"),
            (module(""), "}", "trailing characters"),
        ] {
            let error = read(&modules, rest).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let other = br#"{"schema": "modmem.machine", "version": 2, "release": "6.12", "modules": []}"#;
        let error = super::read("m.json", other, |_| unreachable!()).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
    }
}
