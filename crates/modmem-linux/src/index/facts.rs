//! What one module's bytes tell.

use crate::modinfo::Modinfo;
use object::{Object, ObjectSection, ObjectSymbol};
use std::collections::{BTreeSet, HashSet};

/// Bytes of all names in a symbol table, far above any module's. Names may share their ends, so that a small file could
/// have more bytes of names than anybody has memory.
const MAX_NAMES: usize = 64 << 20;

/// Bytes of an entry of `__versions` (include/linux/module.h:modversion_info).
const VERSION_SIZE: usize = 64;

/// One module as its file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) info: Modinfo,
    pub(crate) exports: Vec<String>,
    /// What depmod takes for exported, where that is something else.
    pub(crate) for_depmod: Option<Vec<String>>,
    pub(crate) imports: Vec<String>,
}

impl Facts {
    /// What there is to know about a module's bytes; nothing if they are no ELF file.
    pub(crate) fn of(bytes: &[u8]) -> Facts {
        Facts::whole(bytes).unwrap_or_default()
    }

    /// The same, or in words why these are not the bytes of a module.
    pub(super) fn whole(bytes: &[u8]) -> Result<Facts, &'static str> {
        let mut facts = Facts::default();
        let file = object::File::parse(bytes).map_err(|_| "no ELF file, or a damaged one")?;
        let data = |name: &str| file.section_by_name(name).and_then(|section| section.data().ok());
        if let Some(data) = data(".modinfo") {
            facts.info = Modinfo::parse(data);
        }
        let mut room = MAX_NAMES;
        let mut with_crc = Vec::new();
        for symbol in file.symbols() {
            let Ok(name) = symbol.name_bytes() else {
                continue;
            };
            room = room.checked_sub(name.len()).ok_or("more bytes of symbols' names than anybody has")?;
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            let undefined = symbol.is_undefined();
            if undefined && !name.is_empty() {
                facts.imports.push(name.to_owned());
            }
            match name.strip_prefix("__ksymtab_") {
                Some(exported) if !undefined => facts.exports.push(exported.to_owned()),
                _ => with_crc.extend(name.strip_prefix("__crc_").map(str::to_owned)),
            }
        }
        if let Some(versions) = data("__versions") {
            let crc = if file.is_64() { 8 } else { 4 };
            add_versions(&mut facts.imports, versions, crc);
        }
        let strings = data("__ksymtab_strings");
        facts.for_depmod = for_depmod(with_crc, strings).filter(|names| !same(names, &facts.exports));
        Ok(facts)
    }
}

/// Adds the names in `__versions` that no undefined symbol has (libkmod-elf.c:kmod_elf_get_dependency_symbols).
fn add_versions(imports: &mut Vec<String>, versions: &[u8], crc: usize) {
    if !versions.len().is_multiple_of(VERSION_SIZE) {
        return;
    }
    let known: HashSet<&str> = imports.iter().map(String::as_str).collect();
    let names = versions.chunks_exact(VERSION_SIZE).filter_map(|entry| {
        let name = entry[crc..].split(|&byte| byte == 0).next()?;
        std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !known.contains(name))
    });
    let more: Vec<String> = names.map(str::to_owned).collect();
    imports.extend(more);
}

/// The exports that depmod sees: symbols with a CRC; in a module without any, the strings of its export table, names of
/// namespaces among them (libkmod-elf.c:kmod_elf_get_symbols). `None` if there is neither.
fn for_depmod(with_crc: Vec<String>, strings: Option<&[u8]>) -> Option<Vec<String>> {
    if !with_crc.is_empty() {
        return Some(with_crc);
    }
    let names = strings?.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Some(names.filter_map(|name| std::str::from_utf8(name).ok()).map(str::to_owned).collect())
}

fn same(one: &[String], other: &[String]) -> bool {
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    set(one) == set(other)
}

/// The release in a module's `vermagic`.
pub(crate) fn vermagic_release(bytes: &[u8]) -> Option<String> {
    let vermagic = Facts::of(bytes).info.vermagic?;
    let release = vermagic.split_whitespace().next()?;
    (!release.contains(char::is_control)).then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_says_nothing() {
        assert_eq!(Facts::of(b"not an ELF file"), Facts::default());
    }

    #[test]
    fn versions_add_what_no_symbol_names() {
        let mut versions = vec![0; 3 * VERSION_SIZE];
        for (at, name) in ["printk", "module_layout", "other"].iter().enumerate() {
            versions[at * VERSION_SIZE + 8..][..name.len()].copy_from_slice(name.as_bytes());
        }
        let mut imports = vec!["printk".to_owned()];
        add_versions(&mut imports, &versions, 8);
        assert_eq!(imports, ["printk", "module_layout", "other"]);
        add_versions(&mut imports, &versions[1..], 8);
        assert_eq!(imports.len(), 3, "a table with a part of an entry is none");
    }

    #[test]
    fn depmod_takes_crcs_before_strings() {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(for_depmod(own(&["f"]), Some(b"f\0NAMESPACE\0g\0")), Some(own(&["f"])));
        assert_eq!(for_depmod(vec![], Some(b"f\0\0NAMESPACE\0")), Some(own(&["f", "NAMESPACE"])));
        assert_eq!(for_depmod(vec![], None), None);
    }
}
