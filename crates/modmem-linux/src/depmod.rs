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
    exact: HashMap<String, Vec<String>>,
    patterns: Vec<(String, String)>,
}

impl Aliases {
    /// Reads `modules.alias`: lines of `alias PATTERN MODULE`.
    pub(crate) fn parse(text: &str) -> Aliases {
        let mut aliases = Aliases::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if words.next() == Some("alias")
                && let (Some(pattern), Some(module)) = (words.next(), words.next())
            {
                aliases.add(pattern, module);
            }
        }
        aliases
    }

    pub(crate) fn add(&mut self, pattern: &str, module: &str) {
        let pattern = normal_alias(pattern);
        let module = normal_name(module);
        if pattern.contains(['*', '?', '[', '\\']) {
            self.patterns.push((pattern, module));
        } else {
            self.exact.entry(pattern).or_default().push(module);
        }
    }

    /// The modules that `name` stands for, each once.
    pub(crate) fn find(&self, name: &str) -> Vec<&str> {
        let name = normal_alias(name);
        let exact = self.exact.get(&name).into_iter().flatten();
        let patterns = self
            .patterns
            .iter()
            .filter(|(pattern, _)| glob::matches(pattern, &name))
            .map(|(_, module)| module);
        let mut seen = HashSet::new();
        exact.chain(patterns).map(String::as_str).filter(|module| seen.insert(*module)).collect()
    }
}

/// `modules.softdep`: the names before and after, by module. As in modprobe, a module's first line counts.
pub(crate) fn softdeps(text: &str) -> HashMap<String, SoftDependencies> {
    let mut found = HashMap::new();
    for line in text.lines() {
        if let Some((module, names)) = line
            .trim_start()
            .strip_prefix("softdep ")
            .and_then(|rest| rest.trim_start().split_once(char::is_whitespace))
        {
            found.entry(normal_name(module)).or_insert_with(|| SoftDependencies::parse(names));
        }
    }
    found
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

/// The aliases in `modules.builtin.modinfo`: `MODULE.alias=PATTERN`, zero-terminated.
pub(crate) fn builtin_aliases(bytes: &[u8]) -> Aliases {
    let mut aliases = Aliases::default();
    for (key, pattern) in fields(bytes) {
        if let Some(module) = key.strip_suffix(".alias") {
            aliases.add(pattern, module);
        }
    }
    aliases
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
    }

    #[test]
    fn the_first_softdep_line_of_a_module_counts() {
        let found =
            softdeps("# Soft\nsoftdep ext4 pre: crc32c post: late\nsoftdep ext4 pre: other\nsoftdep\n");
        assert_eq!(found["ext4"], SoftDependencies::parse("pre: crc32c post: late"));
    }

    #[test]
    fn builtin_modinfo_gives_aliases() {
        let aliases = builtin_aliases(b"hmac.alias=crypto-hmac\0hmac.license=GPL\0");
        assert_eq!(aliases.find("crypto-hmac"), ["hmac"]);
    }
}
