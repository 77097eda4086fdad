//! depmod.d: which of several files of one module counts, and where modules lie besides.

use super::{ConfigFile, lines::lines, lines::word};
use regex_lite::Regex;

/// A folder to search, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// A folder below the kernel's.
    Folder(String),
    /// `built-in`: what no other entry names.
    BuiltIn,
    /// `external`: the folders of `external` lines.
    External,
}

/// What depmod.d says of one kernel.
#[derive(Debug)]
pub(crate) struct DepmodD {
    /// depmod's list has what it read last first (depmod.c:cfg_search_add), and so a higher place is a higher rank.
    pub(super) searches: Vec<Search>,
    /// Paths without extension below the kernel's folder.
    pub(super) overrides: Vec<String>,
    /// Absolute folders.
    pub(crate) externals: Vec<String>,
    pub(crate) excludes: Vec<String>,
    /// Lines that say nothing.
    pub(crate) bad: Vec<String>,
}

impl DepmodD {
    pub(crate) fn read(mut files: Vec<ConfigFile>, release: &str) -> DepmodD {
        files.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        let none = Vec::new;
        let mut config = DepmodD {
            searches: Vec::new(),
            overrides: none(),
            externals: none(),
            excludes: none(),
            bad: none(),
        };
        for file in &files {
            for (number, line) in lines(&file.text) {
                let Some((command, rest)) = word(&line) else { continue };
                if config.add(command, rest, release).is_none() {
                    config.bad.push(format!("{} line {number}: not a whole \"{command}\"", file.path));
                }
            }
        }
        if config.searches.is_empty() {
            config.searches.push(Search::Folder("updates".to_owned()));
        }
        // Both lists are built from their ends.
        config.searches.reverse();
        config.overrides.reverse();
        config.externals.reverse();
        config
    }

    fn add(&mut self, command: &str, mut rest: &str, release: &str) -> Option<()> {
        let mut next = || {
            let (word, behind) = word(rest)?;
            rest = behind;
            Some(word)
        };
        match command {
            "search" => {
                while let Some(folder) = next() {
                    self.searches.push(match folder {
                        "built-in" => Search::BuiltIn,
                        "external" => Search::External,
                        folder => Search::Folder(folder.to_owned()),
                    });
                }
            }
            "override" => {
                let (module, version, folder) = (next()?, next()?, next()?);
                if is_for(version, release) {
                    self.overrides.push(format!("{folder}/{module}"));
                }
            }
            "external" => {
                let (version, folder) = (next()?, next()?);
                if is_for(version, release) {
                    self.externals.push(folder.to_owned());
                }
            }
            "exclude" => {
                while let Some(name) = next() {
                    self.excludes.push(name.to_owned());
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// Does a line's version mean this release? A regular expression that may match anywhere, or `*` for all.
fn is_for(version: &str, release: &str) -> bool {
    version == "*" || Regex::new(version).is_ok_and(|version| version.is_match(release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_for_one_release() {
        let text = "search updates extra built-in external\noverride a * extra\noverride b 5\\.10 extra\n\
                    external ^6\\.12 /lib/modules-external\nexternal 6.1[01] /lib/other\noverride half\n\
                    exclude .tmp\nmake_map_files no\n";
        let file =
            ConfigFile { name: "x.conf".into(), path: "etc/depmod.d/x.conf".into(), text: text.into() };
        let config = DepmodD::read(vec![file], "6.12.1-test");
        let folder = |name: &str| Search::Folder(name.to_owned());
        assert_eq!(config.searches, [Search::External, Search::BuiltIn, folder("extra"), folder("updates")]);
        assert_eq!(config.overrides, ["extra/a"]);
        assert_eq!(config.externals, ["/lib/modules-external"]);
        assert_eq!(config.excludes, [".tmp"]);
        assert_eq!(config.bad.len(), 2, "{:?}", config.bad);
        assert_eq!(DepmodD::read(Vec::new(), "6.12").searches, [folder("updates")]);
    }
}
