//! What a scan of modules tells: aliases, dependencies, exported symbols. It stands in for depmod's files where nobody
//! ran depmod, and is kept in the cache.

use crate::{
    modinfo::Modinfo,
    module_file::ModuleFile,
    progress::{Phase, Progress},
};
use object::{Object, ObjectSection, ObjectSymbol};
use rayon::prelude::*;
use std::fmt::Write as _;

/// Bytes of all names in a symbol table, far above any module's. Names may share their ends, so that a small file could
/// have more bytes of names than anybody has memory.
const MAX_NAMES: usize = 64 << 20;

/// One module as the scan saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub(crate) info: Modinfo,
    pub(crate) exports: Vec<String>,
    /// Symbols that the module leaves undefined; only where it has no `depends=`.
    pub(crate) imports: Vec<String>,
}

impl Scanned {
    /// What there is to know about a module's bytes; nothing if they are no ELF file.
    pub(crate) fn of(bytes: &[u8]) -> Scanned {
        Scanned::whole(bytes).unwrap_or_default()
    }

    /// The same, or in words why these are not the bytes of a module.
    fn whole(bytes: &[u8]) -> Result<Scanned, &'static str> {
        let mut scanned = Scanned::default();
        let file = object::File::parse(bytes).map_err(|_| "no ELF file, or a damaged one")?;
        if let Some(section) = file.section_by_name(".modinfo")
            && let Ok(data) = section.data()
        {
            scanned.info = Modinfo::parse(data);
        }
        let mut room = MAX_NAMES;
        for symbol in file.symbols() {
            let Ok(name) = symbol.name_bytes() else {
                continue;
            };
            room = room.checked_sub(name.len()).ok_or("more bytes of symbols' names than anybody has")?;
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            if let Some(exported) = name.strip_prefix("__ksymtab_") {
                scanned.exports.push(exported.to_owned());
            } else if scanned.info.depends.is_none() && symbol.is_undefined() && !name.is_empty() {
                scanned.imports.push(name.to_owned());
            }
        }
        scanned.info.aliases.retain(|alias| is_word(alias));
        scanned.info.softdeps.retain(|text| !text.contains(char::is_control));
        scanned.exports.retain(|name| is_word(name));
        scanned.imports.retain(|name| is_word(name));
        if let Some(depends) = &mut scanned.info.depends {
            depends.retain(|name| is_word(name));
        }
        Ok(scanned)
    }
}

/// Strings that fit on a line of the index.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_control() || c == ' ' || c == ',')
}

/// The release in a module's `vermagic`.
pub(crate) fn vermagic_release(bytes: &[u8]) -> Option<String> {
    let vermagic = Scanned::of(bytes).info.vermagic?;
    vermagic.split_whitespace().next().filter(|release| is_word(release)).map(str::to_owned)
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// In the order of the modules; one that could not be read says nothing.
    pub(crate) scanned: Vec<Scanned>,
    /// Those that could not be read, in words. With any the scan is not whole.
    pub(crate) unread: Vec<String>,
}

/// Reads all of `modules`.
pub(crate) fn scan(modules: &[ModuleFile], what: &str, progress: &dyn Progress) -> Scan {
    let phase = Phase::begin(progress, what, Some(modules.len() as u64));
    let scan = |module: &ModuleFile| {
        let bytes = module.read().map_err(|error| error.to_string());
        let scanned = bytes.and_then(|bytes| {
            Scanned::whole(&bytes).map_err(|problem| format!("{}: {problem}", module.path()))
        });
        phase.advance(1);
        scanned
    };
    let all: Vec<Result<Scanned, String>> = modules.par_iter().map(scan).collect();
    let mut unread = Vec::new();
    let scanned = all.into_iter().map(|one| one.map_err(|problem| unread.push(problem)).unwrap_or_default());
    let scanned = scanned.collect();
    Scan { scanned, unread }
}

/// The index as text: a line for each string, the letter says which.
pub(crate) fn save(modules: &[ModuleFile], scanned: &[Scanned]) -> String {
    let mut text = String::from("modmem index 1\n");
    for (module, scanned) in modules.iter().zip(scanned) {
        let _ = writeln!(text, "M {}", module.path());
        let Scanned { info, exports, imports } = scanned;
        if let Some(depends) = &info.depends {
            let _ = writeln!(text, "D {}", depends.join(","));
        }
        let lines = info.softdeps.iter().map(|line| ('S', line));
        let lines = lines.chain(info.aliases.iter().map(|line| ('A', line)));
        let lines =
            lines.chain(exports.iter().map(|line| ('X', line))).chain(imports.iter().map(|line| ('U', line)));
        for (letter, line) in lines {
            let _ = writeln!(text, "{letter} {line}");
        }
    }
    let _ = writeln!(text, "end {}", modules.len());
    text
}

/// Reads the index back. `None` if it is not whole or speaks of other modules.
pub(crate) fn load(text: &str, modules: &[ModuleFile]) -> Option<Vec<Scanned>> {
    let mut lines = text.strip_prefix("modmem index 1\n")?.lines();
    let mut all: Vec<Scanned> = Vec::with_capacity(modules.len());
    loop {
        let (kind, value) = lines.next()?.split_once(' ')?;
        if kind == "end" {
            return (value.parse() == Ok(modules.len()) && all.len() == modules.len()).then_some(all);
        }
        if kind == "M" {
            if modules.get(all.len())?.path() != value {
                return None;
            }
            all.push(Scanned::default());
            continue;
        }
        let current = all.last_mut()?;
        let value_owned = || value.to_owned();
        match kind {
            "D" => {
                let names = value.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
                current.info.depends = Some(names.collect());
            }
            "S" => current.info.softdeps.push(value_owned()),
            "A" => current.info.aliases.push(value_owned()),
            "X" => current.exports.push(value_owned()),
            "U" => current.imports.push(value_owned()),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Vec<ModuleFile> {
        ["a.ko", "b.ko"].map(ModuleFile::outside).to_vec()
    }

    #[test]
    fn the_index_comes_back_as_it_was_saved() {
        let a = Scanned {
            info: Modinfo {
                depends: Some(vec!["b".to_owned(), "c".to_owned()]),
                softdeps: vec!["pre: x post: y".to_owned()],
                aliases: vec!["pci:v*".to_owned()],
                ..Modinfo::default()
            },
            exports: vec!["f".to_owned()],
            imports: Vec::new(),
        };
        let b = Scanned { imports: vec!["printk".to_owned()], ..Scanned::default() };
        let text = save(&modules(), &[a.clone(), b.clone()]);
        assert_eq!(load(&text, &modules()), Some(vec![a, b]));
        for length in 0..text.len() - 1 {
            assert_eq!(load(&text[..length], &modules()), None, "{length}");
        }
        assert_eq!(load(&text, &modules()[..1]), None);
    }

    #[test]
    fn modules_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a.ko", "b.ko.xz"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], "no module").unwrap();
        std::fs::write(&files[1], [0xfd, b'7', b'z', b'X', b'Z', 0]).unwrap();
        let Scan { scanned, unread } =
            scan(&files.map(ModuleFile::outside), "reading", &crate::progress::Silent);
        assert_eq!(scanned, [Scanned::default(), Scanned::default()]);
        assert!(unread[0].contains("a.ko: no ELF file"), "{unread:?}");
        assert!(unread[1].contains("b.ko.xz") && unread.len() == 2, "{unread:?}");
    }

    #[test]
    fn what_is_no_module_says_nothing() {
        assert_eq!(Scanned::of(b"not an ELF file"), Scanned::default());
    }
}
