//! What to load, and in which order.

use crate::{Error, Kernel, ModuleFile, depmod::SoftDependencies, index::Scanned};
use rayon::prelude::*;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
};

/// Bytes of modules kept from planning for loading. Plans larger than this read some modules twice.
const KEPT: usize = 256 << 20;

/// A request for so many modules is answered from the index of all.
const MANY: usize = 256;

/// Soft dependencies of soft dependencies: real ones nest two or three deep.
const MAX_SOFT_DEPTH: usize = 64;

/// Modules in the order in which they have to be loaded.
#[derive(Debug, Default)]
pub struct LoadPlan {
    /// Each module once; whatever it needs stands before it.
    pub modules: Vec<PlannedModule>,
    /// Dependencies that no module and no built-in provides. Loading will fail where a symbol is really needed.
    pub missing: Vec<MissingDependency>,
}

/// One module of a [`LoadPlan`].
#[derive(Clone, Debug)]
pub struct PlannedModule {
    /// The module's file.
    pub module: ModuleFile,
    /// What it is loaded for.
    pub why: Why,
    contents: Option<Vec<u8>>,
}

impl PlannedModule {
    /// The module's bytes, decompressed: those that planning read, or read now.
    pub fn contents(&self) -> Result<Cow<'_, [u8]>, Error> {
        match &self.contents {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None => self.module.read().map(Cow::Owned),
        }
    }

    /// As [`PlannedModule::contents`], without a copy.
    pub fn into_contents(self) -> Result<Vec<u8>, Error> {
        match self.contents {
            Some(bytes) => Ok(bytes),
            None => self.module.read(),
        }
    }
}

/// What a module is loaded for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The user named it.
    Requested,
    /// A module uses its symbols.
    DependencyOf(String),
    /// A module wants it loaded before (`pre`) or after (`post`) itself, and works without.
    SoftDependencyOf(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Requested => f.write_str("requested"),
            Why::DependencyOf(name) => write!(f, "needed by {name}"),
            Why::SoftDependencyOf(name) => write!(f, "wanted by {name}"),
        }
    }
}

/// A module says that it needs another, which is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingDependency {
    /// The module that says so.
    pub module: String,
    /// What it needs.
    pub needs: String,
}

impl Kernel {
    /// What has to be loaded for these modules, and in which order: as modprobe does it.
    ///
    /// Names are what [`Kernel::find`] understands. Soft dependencies that are not there are passed over, as are those
    /// built into the kernel. A module from elsewhere finds its dependencies among the requested ones first, then in
    /// this kernel. Hard dependencies come from `modules.dep`, else from the modules' `depends=`, else from the symbols
    /// they leave undefined.
    pub fn load_order(&self, requested: &[&str]) -> Result<LoadPlan, Error> {
        let mut modules: Vec<ModuleFile> = Vec::new();
        for name in requested {
            modules.extend(self.find(name)?);
        }
        self.load_order_of(&modules)
    }

    /// As [`Kernel::load_order`], for modules that were found before.
    pub fn load_order_of(&self, requested: &[ModuleFile]) -> Result<LoadPlan, Error> {
        let mut planner = Planner::new(self, requested);
        planner.gather(requested)?;
        for module in requested {
            planner.probe(module, &Why::Requested, 0)?;
        }
        Ok(planner.finish())
    }
}

/// What a module needs, as far as the planner knows.
#[derive(Debug, Default)]
struct Needs {
    hard: Vec<ModuleFile>,
    soft: SoftDependencies,
}

struct Planner<'k> {
    kernel: &'k Kernel,
    /// Requested modules from elsewhere: they go before those of the kernel with the same name.
    outside: HashMap<String, ModuleFile>,
    requested: HashSet<ModuleFile>,
    needs: HashMap<ModuleFile, Needs>,
    kept: HashMap<ModuleFile, Vec<u8>>,
    kept_bytes: usize,
    probed: HashSet<ModuleFile>,
    planned: HashSet<ModuleFile>,
    order: Vec<(ModuleFile, Why)>,
    missing: Vec<MissingDependency>,
}

impl<'k> Planner<'k> {
    fn new(kernel: &'k Kernel, requested: &[ModuleFile]) -> Self {
        let outside = requested.iter().filter(|module| module.is_outside());
        Planner {
            kernel,
            outside: outside.map(|module| (module.name().to_owned(), module.clone())).collect(),
            requested: requested.iter().cloned().collect(),
            needs: HashMap::new(),
            kept: HashMap::new(),
            kept_bytes: 0,
            probed: HashSet::new(),
            planned: HashSet::new(),
            order: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Learns what all modules that may come into the plan need. Those of one distance are read side by side.
    fn gather(&mut self, requested: &[ModuleFile]) -> Result<(), Error> {
        if requested.len() > MANY && self.kernel.dependencies().is_none() {
            self.kernel.scanned();
        }
        let index: HashMap<&ModuleFile, &Scanned> = self
            .kernel
            .already_scanned()
            .map(|all| self.kernel.modules().zip(all).collect())
            .unwrap_or_default();
        let mut frontier: Vec<ModuleFile> = requested.to_vec();
        while !frontier.is_empty() {
            let mut seen = HashSet::new();
            frontier.retain(|module| !self.needs.contains_key(module) && seen.insert(module.clone()));
            let read: Vec<ModuleFile> = frontier
                .iter()
                .filter(|module| !index.contains_key(module) && self.needs_by_depmod(module).is_none())
                .cloned()
                .collect();
            let mut facts: HashMap<ModuleFile, Scanned> = HashMap::new();
            // In parts, so that a large plan does not hold all modules at once.
            for part in read.chunks(64) {
                let scans: Vec<Result<(Scanned, Vec<u8>), Error>> = part
                    .par_iter()
                    .map(|module| module.read().map(|bytes| (Scanned::of(&bytes), bytes)))
                    .collect();
                for (module, scan) in part.iter().zip(scans) {
                    // What cannot be read needs nothing; loading it says why, and may go on without it.
                    let Ok((scanned, bytes)) = scan else {
                        facts.insert(module.clone(), Scanned::default());
                        continue;
                    };
                    facts.insert(module.clone(), scanned);
                    if self.kept_bytes + bytes.len() <= KEPT {
                        self.kept_bytes += bytes.len();
                        self.kept.insert(module.clone(), bytes);
                    }
                }
            }
            let mut next = Vec::new();
            for module in frontier {
                let needs =
                    match (self.needs_by_depmod(&module), facts.get(&module).or(index.get(&module).copied()))
                    {
                        (Some(needs), _) => needs,
                        (None, Some(scanned)) => self.needs_by_scan(&module, scanned),
                        (None, None) => Needs::default(),
                    };
                next.extend(needs.hard.iter().cloned());
                for name in needs.soft.pre.iter().chain(&needs.soft.post) {
                    next.extend(self.find_soft(name));
                }
                self.needs.insert(module, needs);
            }
            frontier = next;
        }
        Ok(())
    }

    /// What depmod wrote about a module. Its list is complete: dependencies of dependencies are in it.
    fn needs_by_depmod(&self, module: &ModuleFile) -> Option<Needs> {
        if module.is_outside() {
            return None;
        }
        let listed = self.kernel.dependencies()?.get(crate::kernel::stem(module.path()))?;
        let soft = self.kernel.softdeps()?.get(module.name()).cloned().unwrap_or_default();
        let hard = listed.iter().rev().filter_map(|path| self.kernel.at_path(path).cloned()).collect();
        Some(Needs { hard, soft })
    }

    fn needs_by_scan(&mut self, module: &ModuleFile, scanned: &Scanned) -> Needs {
        let mut hard = Vec::new();
        match &scanned.info.depends {
            Some(names) => {
                for name in names {
                    match self.find_hard(name) {
                        Some(found) => hard.push(found),
                        None if self.kernel.is_built_in(name) => {}
                        None => {
                            let (module, needs) = (module.name().to_owned(), name.clone());
                            self.missing.push(MissingDependency { module, needs });
                        }
                    }
                }
            }
            None if !scanned.imports.is_empty() => {
                let exporters = self.kernel.exporters();
                for symbol in &scanned.imports {
                    if let Some(found) = exporters.get(symbol)
                        && found != module
                        && !hard.contains(found)
                    {
                        hard.push(found.clone());
                    }
                }
            }
            None => {}
        }
        // As modprobe: the first line counts.
        let soft =
            scanned.info.softdeps.first().map(|text| SoftDependencies::parse(text)).unwrap_or_default();
        Needs { hard, soft }
    }

    fn find_hard(&self, name: &str) -> Option<ModuleFile> {
        self.outside.get(name).or_else(|| self.kernel.module(name)).cloned()
    }

    fn find_soft(&self, name: &str) -> Vec<ModuleFile> {
        match self.outside.get(&crate::modinfo::normal_name(name)) {
            Some(module) => vec![module.clone()],
            None => self.kernel.find_soft(name),
        }
    }

    /// Plans a module with all that belongs to it, as kmod's `__kmod_module_get_probe_list` does.
    fn probe(&mut self, module: &ModuleFile, why: &Why, depth: usize) -> Result<(), Error> {
        if depth > MAX_SOFT_DEPTH || !self.probed.insert(module.clone()) {
            return Ok(());
        }
        for (dependency, why) in self.hard_closure(module)? {
            self.place(&dependency, &why, depth)?;
        }
        self.place(module, why, depth)
    }

    /// Plans a module between its soft dependencies.
    fn place(&mut self, module: &ModuleFile, why: &Why, depth: usize) -> Result<(), Error> {
        let soft = self.needs.get(module).map(|needs| needs.soft.clone()).unwrap_or_default();
        let wanted = Why::SoftDependencyOf(module.name().to_owned());
        for before in soft.pre.iter().flat_map(|name| self.find_soft(name)).collect::<Vec<_>>() {
            self.probe(&before, &wanted, depth + 1)?;
        }
        if self.planned.insert(module.clone()) {
            let why = if self.requested.contains(module) { Why::Requested } else { why.clone() };
            self.order.push((module.clone(), why));
        }
        for after in soft.post.iter().flat_map(|name| self.find_soft(name)).collect::<Vec<_>>() {
            self.probe(&after, &wanted, depth + 1)?;
        }
        Ok(())
    }

    /// Everything that must be there before `module`, in loading order. Not recursive: chains may be as long as a
    /// hostile tree likes.
    fn hard_closure(&self, module: &ModuleFile) -> Result<Vec<(ModuleFile, Why)>, Error> {
        const NONE: &[ModuleFile] = &[];
        let hard_of = |module: &ModuleFile| self.needs.get(module).map_or(NONE, |needs| &needs.hard);
        let mut order = Vec::new();
        let mut done: HashSet<&ModuleFile> = HashSet::new();
        let mut on_path: HashSet<&ModuleFile> = HashSet::from([module]);
        let mut path: Vec<(&ModuleFile, std::slice::Iter<'_, ModuleFile>)> = Vec::new();
        let (start, _) = self.needs.get_key_value(module).map_or((module, ()), |(module, _)| (module, ()));
        path.push((start, hard_of(module).iter()));
        while let Some((current, rest)) = path.last_mut() {
            let current = *current;
            match rest.next() {
                Some(needed) if done.contains(needed) => {}
                Some(needed) if !on_path.insert(needed) => {
                    let mut names: Vec<String> = path
                        .iter()
                        .map(|(module, _)| *module)
                        .skip_while(|module| *module != needed)
                        .map(|module| module.name().to_owned())
                        .collect();
                    names.push(needed.name().to_owned());
                    return Err(Error::Circle { names });
                }
                Some(needed) => path.push((needed, hard_of(needed).iter())),
                None => {
                    path.pop();
                    on_path.remove(current);
                    done.insert(current);
                    if let Some((parent, _)) = path.last() {
                        order.push((current.clone(), Why::DependencyOf(parent.name().to_owned())));
                    }
                }
            }
        }
        Ok(order)
    }

    fn finish(mut self) -> LoadPlan {
        let modules = self
            .order
            .into_iter()
            .map(|(module, why)| PlannedModule { contents: self.kept.remove(&module), module, why })
            .collect();
        LoadPlan { modules, missing: self.missing }
    }
}
