//! From what a user calls a module to files, in the order in which modprobe looks (libkmod.c:kmod_module_new_from_lookup):
//! aliases of modprobe.d, modules' names, symbols, commands of modprobe.d, modules' aliases, what is built in.

use crate::{
    Error, Kernel, ModuleFile,
    config::Rule,
    glob,
    modinfo::{normal_alias, normal_name},
    module_file::module_name,
    suggest,
};
use std::{fs, path::Path};

/// A module that is to be loaded, and the alias by which it was asked for, if it was by one: options in modprobe.d may be
/// the alias's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The module.
    pub module: ModuleFile,
    /// The alias, as kmod compares it.
    pub alias: Option<String>,
}

impl From<ModuleFile> for Wanted {
    fn from(module: ModuleFile) -> Wanted {
        Wanted { module, alias: None }
    }
}

/// What a name stands for.
enum Named<'k> {
    Modules(Vec<Wanted>),
    BuiltIn,
    /// An alias of modprobe.d for what is no module.
    AliasOf(&'k Rule),
    /// A command of modprobe.d.
    Command(&'k Rule),
    Nothing,
}

impl Kernel {
    /// The modules that `name` stands for, as modprobe understands names: an alias of modprobe.d, a module's name (`-` and
    /// `_` are the same), `symbol:NAME`, else a module's alias such as `fs-ext4` or `pci:v00008086d...`; aliases may stand
    /// for several. Beyond modprobe, a path: of a module in this kernel (`kernel/fs/ext4/ext4.ko.xz`) or of a file
    /// elsewhere; and where nobody ran depmod, the name that a module itself has, which its file's need not be.
    pub fn find(&self, name: &str) -> Result<Vec<ModuleFile>, Error> {
        Ok(self.find_named(name)?.into_iter().map(|wanted| wanted.module).collect())
    }

    /// As [`Kernel::find`], of modules that are to be loaded: without those on a blacklist if `name` is an alias, as
    /// modprobe does it.
    pub fn find_to_load(&self, name: &str) -> Result<Vec<Wanted>, Error> {
        let (mut found, mut listed) = (Vec::new(), Vec::new());
        for wanted in self.find_named(name)? {
            let rule = wanted.alias.as_ref().and(self.tree.modprobe_d.blacklisted(wanted.module.name()));
            match rule {
                Some(rule) => listed.push((wanted, &rule.file)),
                None => found.push(wanted),
            }
        }
        if found.is_empty()
            && let Some((wanted, file)) = listed.first()
        {
            let (module, file) = (wanted.module.name().to_owned(), (*file).clone());
            return Err(Error::Blacklisted { name: name.to_owned(), module, file });
        }
        for (wanted, file) in listed {
            let module = wanted.module.name();
            self.remark(format!("{name}: {module} is left out, which is on the blacklist of {file}"));
        }
        Ok(found)
    }

    fn find_named(&self, name: &str) -> Result<Vec<Wanted>, Error> {
        if let Some(module) = self.find_path(name)? {
            return Ok(vec![module.into()]);
        }
        let named = match self.look_up(name) {
            // `ext4.ko` where no such file is: the module's name is clear all the same.
            Named::Nothing => self.look_up(&module_name(name).unwrap_or_else(|| name.to_owned())),
            named => named,
        };
        let release = || self.release().to_owned();
        match named {
            Named::Modules(mut found) => {
                // The kernel has them already, whatever files there are (libkmod-module.c:module_is_inkernel).
                found.retain(|wanted| !self.is_built_in(wanted.module.name()));
                match found.is_empty() {
                    true => Err(Error::BuiltIn { name: name.to_owned(), release: release() }),
                    false => Ok(found),
                }
            }
            Named::BuiltIn => Err(Error::BuiltIn { name: name.to_owned(), release: release() }),
            Named::AliasOf(rule) => Err(Error::AliasOfNothing {
                name: name.to_owned(),
                target: rule.text.clone(),
                file: rule.file.clone(),
                release: release(),
            }),
            Named::Command(rule) => Err(Error::Command {
                name: name.to_owned(),
                command: rule.text.clone(),
                file: rule.file.clone(),
            }),
            Named::Nothing => self.find_by_own_name(name),
        }
    }

    fn look_up(&self, name: &str) -> Named<'_> {
        let Some(normal) = normal_alias(name) else { return Named::Nothing };
        let modprobe_d = &self.tree.modprobe_d;
        let aliases = modprobe_d.aliases.iter().filter(|rule| glob::matches(&rule.name, &normal));
        let aliases: Vec<&Rule> = aliases.collect();
        if let Some(&first) = aliases.first() {
            let mut found: Vec<Wanted> = Vec::new();
            for rule in &aliases {
                let Some(module) = self.module(&rule.text) else { continue };
                if found.iter().all(|wanted| wanted.module != *module) {
                    found.push(Wanted { module: module.clone(), alias: Some(rule.name.clone()) });
                    self.remark(format!("{name} stands for {} in {}", rule.text, rule.file));
                }
            }
            return match found.is_empty() {
                false => Named::Modules(found),
                true if aliases.iter().any(|rule| self.is_built_in(&rule.text)) => Named::BuiltIn,
                true => Named::AliasOf(first),
            };
        }
        if !normal.contains(':')
            && let Some(module) = self.module(&normal)
        {
            return Named::Modules(vec![module.clone().into()]);
        }
        let by_alias = |modules: Vec<ModuleFile>| {
            let wanted = |module| Wanted { module, alias: Some(normal.clone()) };
            Named::Modules(modules.into_iter().map(wanted).collect())
        };
        if let Some(owner) = normal.strip_prefix("symbol:").and_then(|symbol| self.owner_of(symbol)) {
            return by_alias(vec![owner]);
        }
        let commands = modprobe_d.install.iter().chain(&modprobe_d.remove);
        if let Some(rule) = commands.into_iter().find(|rule| rule.name == normal) {
            return Named::Command(rule);
        }
        // Before the built-ins: `crc32` is a library in the kernel, and an alias of two modules.
        let found = self.named(self.aliases().find(&normal));
        if !found.is_empty() {
            return by_alias(found);
        }
        match self.is_built_in(&normal) || self.is_alias_of_built_in(&normal) {
            true => Named::BuiltIn,
            false => Named::Nothing,
        }
    }

    /// The module that calls itself so: distributions rename files (`nvidia-current.ko` is nvidia).
    fn find_by_own_name(&self, name: &str) -> Result<Vec<Wanted>, Error> {
        let normal = normal_name(&module_name(name).unwrap_or_else(|| name.to_owned()));
        if let Some(module) = self.by_own_name(&normal) {
            self.remark(format!("{name} is the name of the module in {}", module.path()));
            return Ok(vec![module.clone().into()]);
        }
        let names = self.names();
        let suggestions = suggest::closest(&normal, names.iter().map(String::as_str));
        Err(Error::UnknownModule { name: name.to_owned(), release: self.release().to_owned(), suggestions })
    }

    fn find_path(&self, name: &str) -> Result<Option<ModuleFile>, Error> {
        if !name.contains('/') && module_name(name).is_none() {
            return Ok(None);
        }
        if let Some(module) = self.at_path(name) {
            return Ok(Some(module.clone()));
        }
        let path = Path::new(name);
        match fs::canonicalize(path) {
            Ok(full) if full.is_file() => {
                // A module of this kernel, given by its full path, stays one.
                let own = module_name(name).and_then(|name| self.module(&name).cloned());
                let same = |own: &ModuleFile| {
                    own.file().and_then(|file| fs::canonicalize(file).ok()).is_some_and(|file| file == full)
                };
                Ok(Some(own.filter(same).unwrap_or_else(|| ModuleFile::outside(path))))
            }
            // An alias may have slashes too: `devname:net/tun`.
            _ if !is_meant_as_path(name) => Ok(None),
            Ok(_) => Err(Error::malformed(name, "not a file")),
            Err(error) => Err(Error::read(path)(error)),
        }
    }

    /// The modules that a soft dependency names; none if it is not there, which is no error.
    pub(crate) fn find_soft(&self, name: &str) -> Vec<ModuleFile> {
        match self.look_up(name) {
            Named::Modules(found) => found.into_iter().map(|wanted| wanted.module).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn named(&self, names: Vec<&str>) -> Vec<ModuleFile> {
        names.into_iter().filter_map(|name| self.module(name).cloned()).collect()
    }
}

/// A name with slashes that nothing else could be meant by.
fn is_meant_as_path(name: &str) -> bool {
    let starts = ["/", "./", "../", "~"];
    name.contains('/') && (module_name(name).is_some() || starts.iter().any(|start| name.starts_with(start)))
}
