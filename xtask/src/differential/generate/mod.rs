//! Modules by random: a well-made one of the kernel's own package, and a few changes that follow ELF's grammar and the
//! loader's. The same seed and package give the same modules.
//!
//! | file | what it changes |
//! |---|---|
//! | `sections` | sections: flags, names, sizes, alignments, their order |
//! | `symbols` | symbols and relocations |
//! | `tables` | tables of the loader's: exports, versions, parts of livepatch |
//! | `info` | `.modinfo` and `struct module` |
//! | `file` | the file: its header, where tables end, what stands behind it |

mod file;
mod info;
mod sections;
mod symbols;
mod tables;

use super::model::Model;
use crate::random::Random;

/// What the kernel is asked in one go; what is loaded in the end is unloaded, the newest first.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) base: String,
    /// What was done to it, with the numbers that shrinking leaves out: of a script, the steps.
    pub(super) changes: Vec<(usize, String)>,
    pub(super) steps: Vec<Step>,
    pub(super) closeness: Closeness,
}

/// How much of a loaded module is looked at; the guest counts as this does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closeness {
    /// Its memories, and where they lie.
    Memories = 0,
    /// All that can be seen of it.
    Wholly = 1,
    /// The lines of modules in /proc/kallsyms too, which takes as long as a hundred modules.
    Symbols = 2,
}

impl Closeness {
    pub(super) fn of(seed: u64) -> Closeness {
        match seed {
            _ if seed.is_multiple_of(SYMBOLS) => Closeness::Symbols,
            _ if seed.is_multiple_of(WHOLLY) => Closeness::Wholly,
            _ => Closeness::Memories,
        }
    }
}

/// Of so many cases one is looked at closer.
const WHOLLY: u64 = 16;
const SYMBOLS: u64 = 128;

/// One thing that the kernel is asked to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Load(Vec<u8>),
    Unload(String),
}

impl Case {
    /// Its changes in words.
    pub(super) fn words(&self) -> String {
        let words: Vec<&str> = self.changes.iter().map(|(_, what)| what.as_str()).collect();
        words.join("; ")
    }
}

/// What modules are made from: names and models of the package's.
pub(super) type Bases = [(String, Model)];

pub(super) type Change = fn(&mut Model, &mut Random) -> Option<String>;

/// What can be done, each as often as it stands here.
pub(super) const CHANGES: &[(&str, Change)] = &[
    ("flags", sections::flags),
    ("flags", sections::flags),
    ("add section", sections::add_section),
    ("add section", sections::add_section),
    ("add section", sections::add_section),
    ("alignment", sections::alignment),
    ("name of a section", sections::rename),
    ("size of a section", sections::size),
    ("field of a section", sections::field),
    ("order", sections::order),
    ("bytes", sections::bytes),
    ("symbol", symbols::symbol),
    ("symbol", symbols::symbol),
    ("add symbol", symbols::add_symbol),
    ("name of a symbol", symbols::rename),
    ("relocation", symbols::relocation),
    ("relocation", symbols::relocation),
    ("add relocations", symbols::add_relocations),
    ("modinfo", info::modinfo),
    ("modinfo", info::modinfo),
    ("vermagic", info::vermagic),
    ("struct module", info::this_module),
    ("entries", info::entries),
    ("exports", tables::exports),
    ("exports", tables::exports),
    ("versions", tables::versions),
    ("livepatch", tables::livepatch),
    ("end of the file", file::end),
    ("header", file::header),
    ("end of a table", file::table_end),
];

/// The module of a seed; with `only`, not all of its changes.
pub(super) fn case(seed: u64, bases: &Bases, only: Option<&[usize]>) -> Case {
    let mut random = Random::of(seed).fork();
    let (base, model) = &bases[random.below(bases.len())];
    let mut model = model.clone();
    let mut changes = Vec::new();
    let count = random.one(&[1, 1, 1, 2, 2, 3, 4]);
    for number in 0..count {
        let (name, change) = random.one(CHANGES);
        // Each has numbers of its own: without one, the others stay what they are.
        let mut own = random.fork();
        if only.is_some_and(|only| !only.contains(&number)) {
            continue;
        }
        if let Some(what) = change(&mut model, &mut own) {
            changes.push((number, format!("{name}: {what}")));
        }
    }
    let steps = vec![Step::Load(model.write())];
    Case { seed, base: base.clone(), changes, steps, closeness: Closeness::of(seed) }
}

#[cfg(test)]
mod tests {
    use modmem::Image;

    use super::*;

    const SAMPLE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../samples/root/lib/modules/6.12.0-sample/kernel/fs/sample/sample_fs.ko"
    );

    fn file(case: Case) -> Vec<u8> {
        match case.steps.into_iter().next() {
            Some(Step::Load(file)) => file,
            other => panic!("{other:?}"),
        }
    }

    fn contents(file: &[u8]) -> Vec<(String, u64, Vec<u8>)> {
        let image = Image::parse(file).unwrap();
        let sections = image.sections().iter().filter(|section| section.name().to_text() != ".shstrtab");
        sections.map(|one| (one.name().to_text(), one.size(), one.data().to_vec())).collect()
    }

    #[test]
    fn a_module_is_written_as_it_was_read_and_a_seed_is_one_module() {
        let read = std::fs::read(SAMPLE).unwrap();
        let model = Model::read(&read).unwrap();
        assert_eq!(contents(&model.write()), contents(&read));
        let bases = [("sample".to_owned(), model.without_entries())];
        let [init, exit] = Image::parse(&bases[0].1.write()).unwrap().entry_offsets();
        assert_eq!((init, exit), (None, None));
        let mut files: Vec<Vec<u8>> = Vec::new();
        for seed in 0..300 {
            let (one, again) = (case(seed, &bases, None), case(seed, &bases, None));
            assert_eq!(one.changes, again.changes, "{seed}");
            let numbers: Vec<usize> = one.changes.iter().map(|(number, _)| *number).collect();
            let all = file(case(seed, &bases, Some(&numbers)));
            let none = case(seed, &bases, Some(&[]));
            assert!(none.changes.is_empty());
            assert_eq!(file(none), bases[0].1.write(), "{seed}");
            files.push(file(one));
            assert_eq!(files.last(), Some(&all), "{seed}");
        }
        files.sort();
        files.dedup();
        assert!(files.len() > 200, "{} of 300 are different", files.len());
    }

    #[test]
    fn sections_in_another_order_are_the_same_module() {
        let model = Model::read(&std::fs::read(SAMPLE).unwrap()).unwrap();
        let mut turned = model.clone();
        let order: Vec<usize> = std::iter::once(0).chain((1..model.sections.len()).rev()).collect();
        turned.reorder(&order);
        let (one, other) = (model.write(), turned.write());
        let (one, other) = (Image::parse(&one).unwrap(), Image::parse(&other).unwrap());
        let count = one.sections().len();
        assert_eq!(other.sections()[1].name(), one.sections()[count - 1].name());
        let targets = |image: &Image<'_>| {
            let tables = image.relocations().map(|table| {
                (table.section().name().to_text(), table.target().name().to_text(), table.len())
            });
            let mut tables: Vec<_> = tables.collect();
            tables.sort();
            tables
        };
        assert_eq!(targets(&one), targets(&other));
        assert_eq!(one.symbols().len(), other.symbols().len());
    }
}
