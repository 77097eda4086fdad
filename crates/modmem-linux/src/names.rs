//! What depmod's files say, and what a scan of all modules says where depmod never ran: dependencies, soft dependencies,
//! aliases, owners of symbols.

use crate::{
    Kernel, ModuleFile,
    config::Softdeps,
    depmod::{self, Aliases, BuiltinInfo},
    index::{self, Index, Scan},
    kernel::stem,
    modinfo::normal_name,
    module_file::module_name,
    order::Order,
};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::OnceLock,
};

/// Folder of the cache with the results of scans.
const INDEXES: &str = "index";

/// What is read when it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Names {
    builtin: OnceLock<Builtin>,
    dependencies: OnceLock<Option<HashMap<String, Vec<String>>>>,
    softdeps: OnceLock<Softdeps>,
    aliases: OnceLock<Aliases>,
    /// Owners of symbols by their names, as depmod wrote them.
    symbols: OnceLock<Option<HashMap<String, String>>>,
    index: OnceLock<Index>,
    order: OnceLock<Order>,
    places: OnceLock<HashMap<String, usize>>,
    exporters: OnceLock<HashMap<String, ModuleFile>>,
}

/// What is part of the kernel itself.
#[derive(Debug, Default)]
struct Builtin {
    names: HashSet<String>,
    info: BuiltinInfo,
}

impl Kernel {
    /// Is this name a module that was built into the kernel?
    pub fn is_built_in(&self, name: &str) -> bool {
        self.builtin().names.contains(&normal_name(name))
    }

    /// What a module that was built into the kernel says of itself, as `key`, `value`: `None` where the kernel's build left
    /// no `modules.builtin.modinfo`, or nothing of this module in it.
    pub fn built_in_info(&self, name: &str) -> Option<&[(String, String)]> {
        let info = &self.builtin().info;
        let fields = |name: &str| info.fields.get(&normal_name(name)).map(Vec::as_slice);
        fields(name).or_else(|| info.aliases.find(name).into_iter().find_map(fields))
    }

    pub(crate) fn is_alias_of_built_in(&self, name: &str) -> bool {
        !self.builtin().info.aliases.find(name).is_empty()
    }

    /// Which module exports a symbol, by the symbol's name.
    ///
    /// The first call scans all modules, unless an earlier run did.
    pub fn exporters(&self) -> &HashMap<String, ModuleFile> {
        self.names.exporters.get_or_init(|| {
            let index = self.index();
            let mut exporters = HashMap::new();
            for &at in &self.array {
                for &symbol in &index.modules[at].exports {
                    exporters.insert(index.symbols[symbol as usize].clone(), self.modules[at].clone());
                }
            }
            exporters
        })
    }

    /// The module that depmod says a symbol belongs to.
    pub(crate) fn owner_of(&self, symbol: &str) -> Option<ModuleFile> {
        if let Some(owners) = self.written_owners() {
            return self.module(owners.get(symbol)?).cloned();
        }
        let index = self.index();
        let number = index.symbols.iter().position(|name| name == symbol)?;
        Some(self.modules[self.array[self.order().owner(number as u32)?]].clone())
    }

    /// `modules.symbols`, where depmod wrote it.
    fn written_owners(&self) -> Option<&HashMap<String, String>> {
        let parse = || Some(depmod::owners(&self.text("modules.symbols")?));
        self.names.symbols.get_or_init(parse).as_ref()
    }

    /// A module's dependencies as depmod wrote them, the last to be loaded first; `None` without `modules.dep`.
    pub(crate) fn dependencies(&self) -> Option<&HashMap<String, Vec<String>>> {
        let parse = || {
            let text = self.text("modules.dep")?;
            let lines = depmod::dependencies(&text).into_iter();
            let own = |path: &str| stem(path).to_owned();
            Some(lines.map(|(module, needs)| (own(module), needs.into_iter().map(own).collect())).collect())
        };
        self.names.dependencies.get_or_init(parse).as_ref()
    }

    /// Soft dependencies of modprobe.d and of the modules, as depmod wrote the latter down. Where it ran and did not,
    /// modules have none.
    pub(crate) fn softdeps(&self) -> &Softdeps {
        self.names.softdeps.get_or_init(|| {
            let text = match self.text("modules.softdep") {
                Some(text) => text,
                None if self.dependencies().is_some() => String::new(),
                None => self.softdeps_of_modules(),
            };
            self.tree.modprobe_d.softdeps(&text)
        })
    }

    /// The text that depmod would write (depmod.c:output_softdeps).
    fn softdeps_of_modules(&self) -> String {
        let index = self.index();
        let mut text = String::new();
        for &at in &self.array {
            for softdep in &index.modules[at].info.softdeps {
                let _ = writeln!(text, "softdep {} {softdep}", self.modules[at].name());
            }
        }
        text
    }

    fn builtin(&self) -> &Builtin {
        self.names.builtin.get_or_init(|| {
            let modinfo = self.tree.place("modules/modules.builtin.modinfo");
            let modinfo = modinfo.and_then(|place| self.told(place.read()));
            let info = BuiltinInfo::parse(&modinfo.unwrap_or_default());
            let names = match self.text("modules.builtin") {
                Some(text) => depmod::paths(&text).filter_map(module_name).collect(),
                None => info.fields.keys().cloned().collect(),
            };
            Builtin { names, info }
        })
    }

    pub(crate) fn aliases(&self) -> &Aliases {
        self.names.aliases.get_or_init(|| {
            if let Some(text) = self.text("modules.alias") {
                return Aliases::parse(&text);
            }
            let index = self.index();
            let mut aliases = Aliases::default();
            for &at in &self.array {
                for alias in &index.modules[at].info.aliases {
                    aliases.add(alias, self.modules[at].name());
                }
            }
            aliases
        })
    }

    /// All names of modules, and of what is built in.
    pub(crate) fn names(&self) -> Vec<String> {
        let modules = self.modules.iter().map(|module| module.name().to_owned());
        modules.chain(self.builtin().names.iter().cloned()).collect()
    }

    /// The module that has this name inside its file, whatever the file is called. With depmod's files there it is found
    /// only if the modules were scanned for something else: modprobe would not find it.
    pub(crate) fn by_own_name(&self, name: &str) -> Option<&ModuleFile> {
        let index = match self.dependencies() {
            Some(_) => self.names.index.get()?,
            None => self.index(),
        };
        let own = index.modules.iter().position(|scanned| scanned.info.name.as_deref() == Some(name));
        own.map(|at| &self.modules[at])
    }

    /// What all modules say, in the order of [`Kernel::modules`].
    pub(crate) fn index(&self) -> &Index {
        self.names.index.get_or_init(|| self.scan())
    }

    /// Who needs whom, as depmod would find out.
    pub(crate) fn order(&self) -> &Order {
        self.names.order.get_or_init(|| Order::of(self.index(), &self.array))
    }

    /// A module's place in depmod's array.
    pub(crate) fn place_of(&self, module: &ModuleFile) -> Option<usize> {
        let places = self.names.places.get_or_init(|| {
            let places = self.array.iter().enumerate();
            places.map(|(place, &at)| (self.modules[at].path().to_owned(), place)).collect()
        });
        places.get(module.path()).copied().filter(|_| !module.is_outside())
    }

    fn scan(&self) -> Index {
        let name = format!("names-{}", self.tree.fingerprint().name());
        let kept = self.cache.note(INDEXES, &name).and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(index) = kept.and_then(|text| index::load(&text, &self.modules)) {
            return index;
        }
        let what = "reading all modules, once for this kernel";
        let Scan { index, unread } = index::scan(&self.modules, what, self.progress());
        match unread.first() {
            // Kept, it would pass for whole.
            Some(first) => self.remark(format!(
                "{} of {} modules could not be read, so that their aliases, dependencies and exports are not known: \
                 {first}{}",
                unread.len(),
                self.modules.len(),
                if unread.len() > 1 { ", ..." } else { "" }
            )),
            None => self.cache.keep_note(INDEXES, &name, index::save(&self.modules, &index).as_bytes()),
        }
        index
    }
}
