//! The index as text, for the cache: a line for each string, the letter says which. Symbols come first, each once, and
//! are meant by number.

use super::{Index, Scanned};
use crate::module_file::ModuleFile;
use std::fmt::Write as _;

const HEADER: &str = "modmem index 2\n";

pub(crate) fn save(modules: &[ModuleFile], index: &Index) -> String {
    let mut text = String::from(HEADER);
    for symbol in &index.symbols {
        line(&mut text, 'N', symbol);
    }
    for (module, scanned) in modules.iter().zip(&index.modules) {
        line(&mut text, 'M', module.path());
        let Scanned { info, exports, for_depmod, imports } = scanned;
        if let Some(name) = &info.name {
            line(&mut text, 'n', name);
        }
        if let Some(depends) = &info.depends {
            line(&mut text, 'D', &depends.join(","));
        }
        info.softdeps.iter().for_each(|value| line(&mut text, 'S', value));
        info.aliases.iter().for_each(|value| line(&mut text, 'A', value));
        numbers(&mut text, 'X', exports);
        if let Some(names) = for_depmod {
            numbers(&mut text, 'C', names);
        }
        numbers(&mut text, 'U', imports);
    }
    let _ = writeln!(text, "end {}", modules.len());
    text
}

/// Whatever a module's file has in its strings must fit on a line.
fn line(text: &mut String, letter: char, value: &str) {
    text.push(letter);
    text.push(' ');
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            other => text.push(other),
        }
    }
    text.push('\n');
}

fn plain(value: &str) -> String {
    if !value.contains('\\') {
        return value.to_owned();
    }
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    text
}

fn numbers(text: &mut String, letter: char, numbers: &[u32]) {
    text.push(letter);
    for number in numbers {
        let _ = write!(text, " {number}");
    }
    text.push('\n');
}

/// Reads the index back. `None` if it is not whole or speaks of other modules.
pub(crate) fn load(text: &str, modules: &[ModuleFile]) -> Option<Index> {
    let mut lines = text.strip_prefix(HEADER)?.lines();
    let mut index = Index::default();
    loop {
        let line = lines.next()?;
        let (kind, value) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "end" => {
                let whole = value.parse() == Ok(modules.len()) && index.modules.len() == modules.len();
                return whole.then_some(index);
            }
            "N" if index.modules.is_empty() => {
                index.symbols.push(plain(value));
                continue;
            }
            "M" => {
                if modules.get(index.modules.len())?.path() != plain(value) {
                    return None;
                }
                index.modules.push(Scanned::default());
                continue;
            }
            _ => {}
        }
        let symbols = index.symbols.len() as u32;
        let numbers = || {
            let numbers = value.split(' ').filter(|number| !number.is_empty());
            numbers.map(|number| number.parse().ok().filter(|&at: &u32| at < symbols)).collect::<Option<_>>()
        };
        let current = index.modules.last_mut()?;
        match kind {
            "n" => current.info.name = Some(plain(value)),
            "D" => {
                let value = plain(value);
                let names = value.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
                current.info.depends = Some(names.collect());
            }
            "S" => current.info.softdeps.push(plain(value)),
            "A" => current.info.aliases.push(plain(value)),
            "X" => current.exports = numbers()?,
            "C" => current.for_depmod = Some(numbers()?),
            "U" => current.imports = numbers()?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{index::Facts, modinfo::Modinfo};

    #[test]
    fn the_index_comes_back_as_it_was_saved() {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let a = Facts {
            info: Modinfo {
                name: Some("a".to_owned()),
                depends: Some(own(&["b", "c"])),
                softdeps: own(&["pre: x\tpost: y", "pre: back\\slash\nline"]),
                aliases: own(&["pci:v*", "of:NxT0Cti,adc12138"]),
                ..Modinfo::default()
            },
            exports: own(&["f"]),
            for_depmod: Some(Vec::new()),
            imports: own(&["printk"]),
        };
        let b = Facts { imports: own(&["printk", "f"]), ..Facts::default() };
        let index = Index::of([a, b].into_iter());
        let modules = ["a.ko", "b.ko"].map(ModuleFile::outside);
        let text = save(&modules, &index);
        assert_eq!(load(&text, &modules), Some(index));
        for length in 0..text.len() - 1 {
            assert_eq!(load(&text[..length], &modules), None, "{length}");
        }
        assert_eq!(load(&text, &modules[..1]), None);
        assert_eq!(load(&text.replace("U 1\n", "U 9\n"), &modules), None, "no such symbol");
    }
}
