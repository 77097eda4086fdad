//! The files that `depmod` writes next to the modules, and those that the kernel's build puts there.

use crate::{
    glob,
    modinfo::{fields, normal_alias, normal_name, soft_dependencies},
};
use std::collections::{HashMap, HashSet};

/// `modules.dep`: for each module's path the paths it needs; the last one must be loaded first.
pub(crate) fn dependencies(text: &str) -> HashMap<&str, Vec<&str>> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(module, needs)| (module.trim(), needs.split_whitespace().collect()))
        .collect()
}

/// Names by pattern: `modules.alias`, or what a scan of the modules found.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    /// In the order of depmod's array; each pattern with the place of its entry.
    exact: HashMap<String, Vec<(usize, String)>>,
    patterns: Vec<(usize, String, String)>,
    count: usize,
}

impl Aliases {
    /// Reads `modules.alias`: lines of `alias PATTERN MODULE`.
    pub(crate) fn parse(text: &str) -> Aliases {
        let mut aliases = Aliases::default();
        // An alias may have blanks in it, a module's name has none.
        for line in text.lines().filter_map(|line| line.strip_prefix("alias ")) {
            if let Some((pattern, module)) = line.trim_end().rsplit_once(' ') {
                aliases.add(pattern, module);
            }
        }
        aliases
    }

    pub(crate) fn add(&mut self, pattern: &str, module: &str) {
        let Some(pattern) = normal_alias(pattern) else { return };
        let module = normal_name(module);
        let at = self.count;
        self.count += 1;
        match glob::is_pattern(&pattern) {
            true => self.patterns.push((at, pattern, module)),
            false => self.exact.entry(pattern).or_default().push((at, module)),
        }
    }

    /// The modules that `name` stands for, each once: all that match, in the order of the array.
    pub(crate) fn find(&self, name: &str) -> Vec<&str> {
        let Some(name) = normal_alias(name) else { return Vec::new() };
        let exact = self.exact.get(&name).into_iter().flatten().map(|(at, module)| (*at, module.as_str()));
        let patterns = self.patterns.iter().filter(|(_, pattern, _)| glob::matches(pattern, &name));
        let patterns = patterns.map(|(at, _, module)| (*at, module.as_str()));
        let mut found: Vec<(usize, &str)> = exact.chain(patterns).collect();
        found.sort_unstable();
        let mut seen = HashSet::new();
        found.into_iter().map(|(_, module)| module).filter(|module| seen.insert(*module)).collect()
    }
}

/// `modules.symbols`: lines of `alias symbol:NAME MODULE`. Names are as they are: of one with a dash (the namespace
/// `module:kvm-amd`) kmod finds no owner, since it asks for it with `_`.
pub(crate) fn owners(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("alias symbol:")?.split_once(' '));
    lines.map(|(symbol, module)| (symbol.to_owned(), normal_name(module.trim()))).collect()
}

/// Modules that should be loaded before and after another, if they are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SoftDependencies {
    pub(crate) pre: Vec<String>,
    pub(crate) post: Vec<String>,
}

impl SoftDependencies {
    pub(crate) fn parse(text: &str) -> SoftDependencies {
        let (pre, post) = soft_dependencies(text);
        let own = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        SoftDependencies { pre: own(pre), post: own(post) }
    }
}

/// `modules.order` and `modules.builtin`: a path in each line.
pub(crate) fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// What `modules.builtin.modinfo` says of the modules in the kernel: `MODULE.KEY=VALUE`, zero-terminated.
#[derive(Debug, Default)]
pub(crate) struct BuiltinInfo {
    /// By module, in the order of the file.
    pub(crate) fields: HashMap<String, Vec<(String, String)>>,
    pub(crate) aliases: Aliases,
}

impl BuiltinInfo {
    pub(crate) fn parse(bytes: &[u8]) -> BuiltinInfo {
        let mut info = BuiltinInfo::default();
        for (key, value) in fields(bytes) {
            let Some((module, key)) = key.split_once('.') else { continue };
            let module = normal_name(module);
            if key == "alias" {
                info.aliases.add(value, &module);
            }
            info.fields.entry(module).or_default().push((key.to_owned(), value.to_owned()));
        }
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependency_lines_keep_their_order() {
        let found =
            dependencies("kernel/a.ko.xz: kernel/b.ko.xz kernel/c.ko.xz\nkernel/c.ko.xz:\n\nnonsense\n");
        assert_eq!(found["kernel/a.ko.xz"], ["kernel/b.ko.xz", "kernel/c.ko.xz"]);
        assert!(found["kernel/c.ko.xz"].is_empty());
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn aliases_are_found_by_name_and_by_pattern() {
        let aliases = Aliases::parse(
            "# comment\nalias fs-ext3 ext4\nalias pci:v*d1234* some-driver\nalias pci:v00* other\nalias fs-ext3 ext4\nalias broken\n",
        );
        assert_eq!(aliases.find("fs_ext3"), ["ext4"]);
        assert_eq!(aliases.find("pci:v00d12345"), ["some_driver", "other"]);
        assert!(aliases.find("nothing").is_empty());
        let aliases = Aliases::parse("alias platform: mt8188 mt6359 soc card mt8188-mt6359\n");
        assert_eq!(aliases.find("platform: mt8188 mt6359 soc card"), ["mt8188_mt6359"]);
    }

    #[test]
    fn the_order_of_the_array_counts_and_not_how_well_a_pattern_fits() {
        let aliases =
            Aliases::parse("alias net-pf-* first\nalias net-pf-3 second\nalias net-pf-[3-4] third\n");
        assert_eq!(aliases.find("net-pf-3"), ["first", "second", "third"]);
    }

    #[test]
    fn symbols_have_owners_by_their_very_names() {
        let owners =
            owners("# comment\nalias symbol:f a-b\nalias symbol:module:kvm-amd ccp\nalias other x\n");
        assert_eq!(owners["f"], "a_b");
        assert_eq!(owners["module:kvm-amd"], "ccp");
        assert_eq!(owners.len(), 2);
    }

    #[test]
    fn builtin_modinfo_gives_aliases_and_fields() {
        let info = BuiltinInfo::parse(b"hmac.alias=crypto-hmac\0hmac.license=GPL\0other.parm=a.b:c=d\0");
        assert_eq!(info.aliases.find("crypto-hmac"), ["hmac"]);
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(info.fields["hmac"], [own("alias", "crypto-hmac"), own("license", "GPL")]);
        assert_eq!(info.fields["other"], [own("parm", "a.b:c=d")]);
    }
}
