//! What a scan of modules tells: aliases, soft dependencies, exported and undefined symbols. It stands in for depmod's
//! files where nobody ran depmod, and is kept in the cache.

mod facts;
mod text;

pub(crate) use facts::{Facts, vermagic_release};
pub(crate) use text::{load, save};

use crate::{
    modinfo::Modinfo,
    module_file::ModuleFile,
    progress::{Phase, Progress},
};
use rayon::prelude::*;
use std::collections::HashMap;

/// All modules as the scan saw them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// Each symbol's name once; modules mean it by its place here.
    pub(crate) symbols: Vec<String>,
    pub(crate) modules: Vec<Scanned>,
}

/// One module as the scan saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub(crate) info: Modinfo,
    /// What it exports, as the kernel's loader sees it.
    pub(crate) exports: Vec<u32>,
    /// The same as depmod sees it, where that differs.
    pub(crate) for_depmod: Option<Vec<u32>>,
    /// Symbols that it leaves undefined, in the order of its symbol table, then those that only `__versions` names.
    pub(crate) imports: Vec<u32>,
}

impl Scanned {
    /// What it exports as depmod sees it.
    pub(crate) fn provided(&self) -> &[u32] {
        self.for_depmod.as_ref().unwrap_or(&self.exports)
    }
}

impl Index {
    pub(crate) fn of(facts: impl Iterator<Item = Facts>) -> Index {
        let mut index = Index::default();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        for facts in facts {
            let mut number = |names: Vec<String>| -> Vec<u32> {
                let mut all = Vec::with_capacity(names.len());
                for name in names {
                    let next = numbers.len() as u32;
                    let number = *numbers.entry(name).or_insert_with_key(|name| {
                        index.symbols.push(name.clone());
                        next
                    });
                    all.push(number);
                }
                all
            };
            let exports = number(facts.exports);
            let for_depmod = facts.for_depmod.map(&mut number);
            let imports = number(facts.imports);
            index.modules.push(Scanned { info: facts.info, exports, for_depmod, imports });
        }
        index
    }

    /// Symbols by name.
    pub(crate) fn symbol_numbers(&self) -> HashMap<&str, u32> {
        self.symbols.iter().enumerate().map(|(at, name)| (name.as_str(), at as u32)).collect()
    }

    /// The same index with more modules behind those that it has.
    pub(crate) fn with(&self, more: Vec<Facts>) -> Index {
        let own = |numbers: &[u32]| numbers.iter().map(|&at| self.symbols[at as usize].clone()).collect();
        let known = self.modules.iter().map(|scanned| Facts {
            info: scanned.info.clone(),
            exports: own(&scanned.exports),
            for_depmod: scanned.for_depmod.as_deref().map(own),
            imports: own(&scanned.imports),
        });
        Index::of(known.chain(more))
    }
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// In the order of the modules; one that could not be read says nothing.
    pub(crate) index: Index,
    /// Those that could not be read, in words. With any the scan is not whole.
    pub(crate) unread: Vec<String>,
}

/// Reads all of `modules`.
pub(crate) fn scan(modules: &[ModuleFile], what: &str, progress: &dyn Progress) -> Scan {
    let phase = Phase::begin(progress, what, Some(modules.len() as u64));
    let scan = |module: &ModuleFile| {
        let bytes = module.read().map_err(|error| error.to_string());
        let facts = bytes.and_then(|bytes| {
            Facts::whole(&bytes).map_err(|problem| format!("{}: {problem}", module.path()))
        });
        phase.advance(1);
        facts
    };
    let all: Vec<Result<Facts, String>> = modules.par_iter().map(scan).collect();
    let mut unread = Vec::new();
    let facts = all.into_iter().map(|one| one.map_err(|problem| unread.push(problem)).unwrap_or_default());
    let facts: Vec<Facts> = facts.collect();
    Scan { index: Index::of(facts.into_iter()), unread }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a.ko", "b.ko.xz"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], "no module").unwrap();
        std::fs::write(&files[1], [0xfd, b'7', b'z', b'X', b'Z', 0]).unwrap();
        let Scan { index, unread } =
            scan(&files.map(ModuleFile::outside), "reading", &crate::progress::Silent);
        assert_eq!(index.modules, [Scanned::default(), Scanned::default()]);
        assert!(unread[0].contains("a.ko: no ELF file"), "{unread:?}");
        assert!(unread[1].contains("b.ko.xz") && unread.len() == 2, "{unread:?}");
    }

    #[test]
    fn modules_added_later_share_the_symbols() {
        let facts = |exports: &[&str], imports: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Facts { exports: own(exports), imports: own(imports), ..Facts::default() }
        };
        let index = Index::of([facts(&["f"], &["g"])].into_iter());
        let more = index.with(vec![facts(&["g"], &["f", "h"])]);
        assert_eq!(more.symbols, ["f", "g", "h"]);
        assert_eq!((&*more.modules[1].exports, &*more.modules[1].imports), (&[1][..], &[0, 2][..]));
        assert_eq!(more.modules[0], index.modules[0]);
    }
}
