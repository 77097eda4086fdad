//! What to load, and in which order.

mod before;

use crate::{
    Error, Kernel, ModuleFile, Wanted, config::Rule, depmod::SoftDependencies, modinfo::normal_name,
};
use before::Before;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
};

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
    /// Its parameters in modprobe.d and on the kernel's command line: `name=value`, or a name alone.
    pub options: Vec<String>,
    contents: Option<Vec<u8>>,
}

impl PlannedModule {
    /// The module's bytes, decompressed: those that planning read (of files from elsewhere), or read now.
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

    /// The same of a file that has at most so many bytes, unpacked; others are [`Error::TooLarge`].
    pub fn into_contents_within(self, most: u64) -> Result<Vec<u8>, Error> {
        match self.contents {
            Some(bytes) => Ok(bytes),
            None => self.module.read_within(most),
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
    /// Names are what [`Kernel::find_to_load`] understands. Soft dependencies that are not there are passed over, as are
    /// those built into the kernel. Hard dependencies come from `modules.dep`; where nobody ran depmod they are what it
    /// would have written there, from the symbols of all modules. A module from elsewhere goes before the kernel's own of
    /// the same name.
    pub fn load_order(&self, requested: &[&str]) -> Result<LoadPlan, Error> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for name in requested {
            wanted.extend(self.find_to_load(name)?);
        }
        self.load_order_for(&wanted)
    }

    /// As [`Kernel::load_order`], for modules that were found before.
    pub fn load_order_of(&self, requested: &[ModuleFile]) -> Result<LoadPlan, Error> {
        let wanted: Vec<Wanted> = requested.iter().cloned().map(Wanted::from).collect();
        self.load_order_for(&wanted)
    }

    /// As [`Kernel::load_order_of`], for modules that were asked for by aliases too.
    pub fn load_order_for(&self, requested: &[Wanted]) -> Result<LoadPlan, Error> {
        let mut planner = Planner::new(self, requested);
        for wanted in requested {
            // Each is asked for alone; what is there already counts as loaded.
            planner.visited.clear();
            planner.get(&wanted.module, &Why::Requested, 0)?;
        }
        Ok(planner.finish())
    }
}

struct Planner<'k> {
    kernel: &'k Kernel,
    /// The requested modules, each with the alias by which it was asked for.
    requested: HashMap<&'k ModuleFile, Option<&'k str>>,
    before: Before<'k>,
    visited: HashSet<ModuleFile>,
    planned: HashSet<ModuleFile>,
    order: Vec<PlannedModule>,
}

impl<'k> Planner<'k> {
    fn new(kernel: &'k Kernel, requested: &'k [Wanted]) -> Self {
        // Who loads nothing need not know.
        let tree = &kernel.tree;
        tree.modprobe_d.bad.iter().chain(&tree.depmod_d.bad).for_each(|line| kernel.remark(line.clone()));
        Planner {
            kernel,
            requested: requested.iter().map(|wanted| (&wanted.module, wanted.alias.as_deref())).collect(),
            before: Before::new(kernel, requested.iter().map(|wanted| &wanted.module)),
            visited: HashSet::new(),
            planned: HashSet::new(),
            order: Vec::new(),
        }
    }

    /// Plans a module with all that belongs to it (libkmod-module.c:__kmod_module_get_probe_list).
    fn get(&mut self, module: &ModuleFile, why: &Why, depth: usize) -> Result<(), Error> {
        if depth > MAX_SOFT_DEPTH || !self.visited.insert(module.clone()) {
            return Ok(());
        }
        for (dependency, why) in self.before.of(module)? {
            self.fill(&dependency, &why, depth)?;
        }
        self.fill(module, why, depth)
    }

    /// Plans a module between its soft dependencies (libkmod-module.c:__kmod_module_fill_softdep).
    fn fill(&mut self, module: &ModuleFile, why: &Why, depth: usize) -> Result<(), Error> {
        let (soft, file) = match self.kernel.softdeps().of_module(module.name()) {
            Some((soft, file)) => (soft.clone(), file.to_owned()),
            None => (SoftDependencies::default(), String::new()),
        };
        let (before, after) = (self.find_soft(&soft.pre), self.find_soft(&soft.post));
        if !file.is_empty() {
            self.say_wanted(module, &file, [("before", &before), ("after", &after)]);
        }
        let wanted = Why::SoftDependencyOf(module.name().to_owned());
        for module in &before {
            self.get(module, &wanted, depth + 1)?;
        }
        // Whoever has soft dependencies is loaded without its command.
        self.place(module, why, before.is_empty() && after.is_empty());
        for module in &after {
            self.get(module, &wanted, depth + 1)?;
        }
        Ok(())
    }

    fn find_soft(&self, names: &[String]) -> Vec<ModuleFile> {
        let find = |name: &String| match self.before.given(&normal_name(name)) {
            Some(module) => vec![module.clone()],
            None => self.kernel.find_soft(name),
        };
        names.iter().flat_map(find).collect()
    }

    fn say_wanted(&self, module: &ModuleFile, file: &str, lists: [(&str, &Vec<ModuleFile>); 2]) {
        for (when, modules) in lists.into_iter().filter(|(_, modules)| !modules.is_empty()) {
            let names: Vec<&str> = modules.iter().map(ModuleFile::name).collect();
            self.kernel.remark(format!("{file}: {} {when} {}", names.join(", "), module.name()));
        }
    }

    /// Puts a module into the plan, unless it is there, the kernel has it built in, or a command stands in for it.
    fn place(&mut self, module: &ModuleFile, why: &Why, with_command: bool) {
        if !self.planned.insert(module.clone()) {
            return;
        }
        let name = module.name();
        if !module.is_outside() {
            if self.kernel.is_built_in(name) {
                let path = module.path();
                return self.kernel.remark(format!("{name} is built into the kernel: {path} is left out"));
            }
            let command = with_command.then(|| self.kernel.tree.modprobe_d.install_of(name)).flatten();
            if let Some(Rule { text, file, .. }) = command {
                if !loads_itself(text, name) {
                    let what =
                        format!("{file}: instead of loading {name}, \"{text}\" is run: it is left out");
                    return self.kernel.remark(what);
                }
                self.kernel.remark(format!("{file}: {name} is loaded by \"{text}\""));
            }
        }
        let requested = self.requested.get(module).copied();
        let options = self.options(name, requested.flatten());
        let why = if requested.is_some() { Why::Requested } else { why.clone() };
        let contents = self.before.take_contents(module);
        self.order.push(PlannedModule { module: module.clone(), why, options, contents });
    }

    /// What modprobe.d and the command line have for a module (libkmod-module.c:kmod_module_get_options).
    fn options(&self, name: &str, alias: Option<&str>) -> Vec<String> {
        let mut options = Vec::new();
        for rule in &self.kernel.tree.modprobe_d.options {
            if rule.name == name || alias == Some(&*rule.name) {
                self.kernel.remark(format!("{}: options of {name}: {}", rule.file, rule.text));
                options.extend(words(&rule.text));
            }
        }
        options
    }

    fn finish(self) -> LoadPlan {
        let missing = self.before.missing(self.order.iter().map(|planned| &planned.module));
        LoadPlan { modules: self.order, missing }
    }
}

/// Does a command of modprobe.d load the module that it stands in for, among other things that it does?
fn loads_itself(command: &str, module: &str) -> bool {
    let words = || command.split([' ', '\t', ';', '&', '|', '(', ')']);
    words().any(|word| matches!(word, "-i" | "--ignore-install"))
        && words().any(|word| normal_name(word) == module)
}

/// The words of a line of options: blanks between quotes are part of a word.
fn words(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for character in text.chars() {
        quoted ^= character == '"';
        match character.is_ascii_whitespace() && !quoted {
            true if word.is_empty() => {}
            true => all.push(std::mem::take(&mut word)),
            false => word.push(character),
        }
    }
    all.extend((!word.is_empty()).then_some(word));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_load_the_module_itself() {
        assert!(loads_itself("/sbin/modprobe --ignore-install my-mod $CMDLINE_OPTS && echo", "my_mod"));
        assert!(loads_itself("modprobe -i a; modprobe b", "a"));
        assert!(!loads_itself("/bin/true", "a"));
        assert!(!loads_itself("modprobe --ignore-install b", "a"));
    }

    #[test]
    fn options_are_words() {
        assert_eq!(words(" a=1  b=\"x y\" c "), ["a=1", "b=\"x y\"", "c"]);
        assert!(words("").is_empty());
    }
}
