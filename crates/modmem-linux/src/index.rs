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
        let mut scanned = Scanned::default();
        let Ok(file) = object::File::parse(bytes) else {
            return scanned;
        };
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
            let Some(rest) = room.checked_sub(name.len()) else {
                break;
            };
            room = rest;
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
        scanned
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

/// Reads all of `modules`; one that cannot be read counts as one that says nothing.
pub(crate) fn scan(modules: &[ModuleFile], what: &str, progress: &dyn Progress) -> Vec<Scanned> {
    let phase = Phase::begin(progress, what, Some(modules.len() as u64));
    let scan = |module: &ModuleFile| {
        let scanned = module.read().map(|bytes| Scanned::of(&bytes)).unwrap_or_default();
        phase.advance(1);
        scanned
    };
    modules.par_iter().map(scan).collect()
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
    fn what_is_no_module_says_nothing() {
        assert_eq!(Scanned::of(b"not an ELF file"), Scanned::default());
    }
}
