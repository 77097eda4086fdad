//! What has to be there before one module: its line of `modules.dep`, or the one that depmod would write.

use super::{MissingDependency, Why};
use crate::{Error, Kernel, ModuleFile, index::Facts, kernel::stem, order::Order};
use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeSet, HashMap},
};

/// Hard dependencies of modules of a kernel and of files from elsewhere.
pub(super) struct Before<'k> {
    kernel: &'k Kernel,
    /// Requested files that the kernel's own of the same names do not count beside.
    given: Vec<Given>,
    /// The order of all modules with the given ones among them.
    together: OnceCell<Together>,
    /// Paths in `modules.dep` where nothing is.
    absent: RefCell<BTreeSet<(String, String)>>,
}

struct Given {
    module: ModuleFile,
    facts: Facts,
    contents: RefCell<Option<Vec<u8>>>,
}

/// All modules, the given ones in place of those of their names.
struct Together {
    /// As depmod's array would have them; by their places in the index.
    array: Vec<usize>,
    order: Order,
    places: HashMap<ModuleFile, usize>,
}

impl<'k> Before<'k> {
    pub(super) fn new(kernel: &'k Kernel, requested: impl Iterator<Item = &'k ModuleFile>) -> Before<'k> {
        let mut given: Vec<Given> = Vec::new();
        for module in requested {
            let own = kernel.module(module.name()).is_some_and(|own| own == module);
            if own || given.iter().any(|other| other.module == *module) {
                continue;
            }
            // What cannot be read needs nothing; loading it says why, and may go on without it.
            let contents = module.read().ok();
            let facts = contents.as_deref().map(Facts::of).unwrap_or_default();
            given.push(Given { module: module.clone(), facts, contents: RefCell::new(contents) });
        }
        Before { kernel, given, together: OnceCell::new(), absent: RefCell::default() }
    }

    /// The given module of this name.
    pub(super) fn given(&self, name: &str) -> Option<&ModuleFile> {
        self.given.iter().map(|given| &given.module).find(|module| module.name() == name)
    }

    /// The bytes of a given module, once.
    pub(super) fn take_contents(&self, module: &ModuleFile) -> Option<Vec<u8>> {
        self.given.iter().find(|given| given.module == *module)?.contents.borrow_mut().take()
    }

    /// All that must be there before a module, in loading order, each with what it is for.
    pub(super) fn of(&self, module: &ModuleFile) -> Result<Vec<(ModuleFile, Why)>, Error> {
        match self.kernel.dependencies() {
            Some(_) => match self.written(module) {
                Some(line) => Ok(line),
                None => self.by_owners(module, &mut Vec::new()),
            },
            None => self.computed(module),
        }
    }

    /// What depmod wrote about a module. Its line is complete: dependencies of dependencies are in it.
    fn written(&self, module: &ModuleFile) -> Option<Vec<(ModuleFile, Why)>> {
        if module.is_outside() {
            return None;
        }
        let line = self.kernel.dependencies()?.get(stem(module.path()))?;
        let mut before = Vec::with_capacity(line.len());
        for path in line.iter().rev() {
            match self.kernel.at_path(path) {
                Some(found) => {
                    let found = self.given(found.name()).unwrap_or(found);
                    before.push((found.clone(), Why::DependencyOf(module.name().to_owned())));
                }
                None => {
                    self.absent.borrow_mut().insert((module.name().to_owned(), path.clone()));
                }
            }
        }
        Some(before)
    }

    /// What a module needs of which depmod has no line, though it ran: the owners of its symbols in the order of its
    /// file, each behind its own line.
    fn by_owners(
        &self,
        module: &ModuleFile,
        path: &mut Vec<ModuleFile>,
    ) -> Result<Vec<(ModuleFile, Why)>, Error> {
        if path.contains(module) {
            let circle = path.iter().skip_while(|other| *other != module).chain([module]);
            return Err(Error::Circle { names: circle.map(|module| module.name().to_owned()).collect() });
        }
        path.push(module.clone());
        let facts = match self.given.iter().find(|given| given.module == *module) {
            Some(given) => given.facts.clone(),
            None => module.read().ok().as_deref().map(Facts::of).unwrap_or_default(),
        };
        let mut before: Vec<(ModuleFile, Why)> = Vec::new();
        for symbol in &facts.imports {
            let exports = |given: &&Given| given.facts.exports.contains(symbol);
            let owner = self.given.iter().find(exports).map(|given| given.module.clone());
            let Some(owner) = owner.or_else(|| self.kernel.owner_of(symbol)) else { continue };
            if owner == *module || before.iter().any(|(other, _)| *other == owner) {
                continue;
            }
            let line = match self.written(&owner) {
                Some(line) => line,
                None => self.by_owners(&owner, path)?,
            };
            for (other, why) in line.into_iter().chain([(owner, Why::DependencyOf(module.name().to_owned()))])
            {
                if before.iter().all(|(known, _)| *known != other) {
                    before.push((other, why));
                }
            }
        }
        path.pop();
        Ok(before)
    }

    /// What depmod would write about a module.
    fn computed(&self, module: &ModuleFile) -> Result<Vec<(ModuleFile, Why)>, Error> {
        let together = (!self.given.is_empty()).then(|| self.together());
        let (order, place) = match together {
            Some(together) => (&together.order, together.places.get(module).copied()),
            None => (self.kernel.order(), self.kernel.place_of(module)),
        };
        // A file that another one of its name was given in place of needs nothing: it is not loaded.
        let Some(place) = place else { return Ok(Vec::new()) };
        let file = |place: usize| match together {
            Some(together) => self.file(together, place),
            None => &self.kernel.modules[self.kernel.array[place]],
        };
        let before = order.before(place).map_err(|circle| Error::Circle {
            names: circle.into_iter().map(|place| file(place).name().to_owned()).collect(),
        })?;
        let user = |at: usize| {
            let needs = |user: &usize| order.needs(*user).any(|needed| needed == before[at]);
            let direct = Some(place).filter(needs);
            direct.or_else(|| before[at + 1..].iter().copied().find(needs)).unwrap_or(place)
        };
        let why = |at: usize| Why::DependencyOf(file(user(at)).name().to_owned());
        Ok((0..before.len()).map(|at| (file(before[at]).clone(), why(at))).collect())
    }

    fn file<'s>(&'s self, together: &Together, place: usize) -> &'s ModuleFile {
        let at = together.array[place];
        match at.checked_sub(self.kernel.modules.len()) {
            Some(given) => &self.given[given].module,
            None => &self.kernel.modules[at],
        }
    }

    fn together(&self) -> &Together {
        self.together.get_or_init(|| {
            let kernel = self.kernel;
            let index = kernel.index().with(self.given.iter().map(|given| given.facts.clone()).collect());
            let own = kernel.array.iter().copied();
            let own = own.filter(|&at| self.given(kernel.modules[at].name()).is_none());
            // Nobody lists them: they come last.
            let array: Vec<usize> = own.chain(kernel.modules.len()..index.modules.len()).collect();
            let order = Order::of(&index, &array);
            let mut together = Together { array, order, places: HashMap::new() };
            let places = (0..together.array.len()).map(|place| (self.file(&together, place).clone(), place));
            together.places = places.collect();
            together
        })
    }

    /// What planned modules say that they need, and nobody has.
    pub(super) fn missing<'m>(
        &self,
        planned: impl Iterator<Item = &'m ModuleFile>,
    ) -> Vec<MissingDependency> {
        let absent = self.absent.borrow();
        let absent = absent.iter();
        let mut missing: Vec<MissingDependency> = absent
            .map(|(module, needs)| MissingDependency { module: module.clone(), needs: needs.clone() })
            .collect();
        for module in planned {
            let given = self.given.iter().find(|given| given.module == *module);
            let info = match given {
                Some(given) => &given.facts.info,
                None if self.kernel.dependencies().is_some() => continue,
                None => match self.kernel.place_of(module) {
                    Some(place) => &self.kernel.index().modules[self.kernel.array[place]].info,
                    None => continue,
                },
            };
            for name in info.depends.iter().flatten() {
                let there = self.given(name).is_some()
                    || self.kernel.module(name).is_some()
                    || self.kernel.is_built_in(name)
                    || self.kernel.by_own_name(name).is_some();
                if !there {
                    missing.push(MissingDependency { module: module.name().to_owned(), needs: name.clone() });
                }
            }
        }
        missing
    }
}
