//! modprobe.d: aliases, options, soft dependencies, blacklists and commands.

use super::{ConfigFile, cmdline, lines::lines, lines::word};
use crate::{depmod::SoftDependencies, glob, modinfo::normal_alias};
use std::collections::HashMap;

/// The name by which depmod's file of soft dependencies is sorted among those of modprobe.d.
const SOFTDEP_FILE: &str = "modules.softdep";

/// Where options on the kernel's command line come from, in words.
const COMMAND_LINE: &str = "the kernel's command line";

/// One line: whom it is about, what it says, and in which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// A module's name, or a pattern where kmod takes one.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) file: String,
}

/// All that modprobe.d and the command line say, in the order in which it counts.
#[derive(Debug, Default)]
pub(crate) struct ModprobeD {
    pub(crate) aliases: Vec<Rule>,
    pub(crate) blacklist: Vec<Rule>,
    pub(crate) options: Vec<Rule>,
    pub(crate) install: Vec<Rule>,
    pub(crate) remove: Vec<Rule>,
    softdeps: Vec<Rule>,
    /// Those of `softdeps` that go before what depmod found in the modules.
    softdeps_before: usize,
    /// Lines that say nothing.
    pub(crate) bad: Vec<String>,
}

impl ModprobeD {
    /// Reads files, and the kernel's command line if there is one.
    pub(crate) fn read(mut files: Vec<ConfigFile>, command_line: Option<&str>) -> ModprobeD {
        files.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        let mut config = ModprobeD::default();
        for file in &files {
            config.add(file);
            if file.name.as_str() < SOFTDEP_FILE {
                config.softdeps_before = config.softdeps.len();
            }
        }
        for (module, option) in cmdline::options(command_line.unwrap_or_default()) {
            let rule = |name: String, text: String| Rule { name, text, file: COMMAND_LINE.to_owned() };
            if module == "modprobe"
                && let Some(names) = option.strip_prefix("blacklist=")
            {
                let names = names.split(',');
                config.blacklist.extend(names.map(|name| rule(name.to_owned(), String::new())));
            } else if let Some(module) = normal_alias(&module) {
                config.options.push(rule(module, option));
            }
        }
        config
    }

    fn add(&mut self, file: &ConfigFile) {
        for (number, line) in lines(&file.text) {
            let Some((command, rest)) = word(&line) else { continue };
            let name = word(rest).and_then(|(name, rest)| Some((normal_alias(name)?, rest)));
            let whole = name.filter(|(_, rest)| command == "blacklist" || !rest.is_empty());
            let list = match command {
                "alias" => &mut self.aliases,
                "blacklist" => &mut self.blacklist,
                "options" => &mut self.options,
                "install" => &mut self.install,
                "remove" => &mut self.remove,
                "softdep" => &mut self.softdeps,
                // Hints for those who make initrds.
                "weakdep" => continue,
                _ => {
                    self.bad.push(format!("{} line {number}: \"{command}\" is no command of it", file.path));
                    continue;
                }
            };
            let rule = whole.and_then(|(name, rest)| {
                let text = match command {
                    "alias" => normal_alias(word(rest)?.0)?,
                    "options" => rest.replace('\t', " ").trim().to_owned(),
                    _ => rest.trim().to_owned(),
                };
                Some(Rule { name, text, file: file.path.clone() })
            });
            match rule {
                Some(rule) => list.push(rule),
                None => self.bad.push(format!("{} line {number}: not a whole \"{command}\"", file.path)),
            }
        }
    }

    /// The first command that stands in for a module's loading.
    pub(crate) fn install_of(&self, module: &str) -> Option<&Rule> {
        self.install.iter().find(|rule| glob::matches(&rule.name, module))
    }

    pub(crate) fn blacklisted(&self, module: &str) -> Option<&Rule> {
        self.blacklist.iter().find(|rule| rule.name == module)
    }

    /// All soft dependencies, with those that depmod found in the modules, or would, where its file counts.
    pub(crate) fn softdeps(&self, of_modules: &str) -> Softdeps {
        let (before, after) = self.softdeps.split_at(self.softdeps_before);
        let mut depmod = ModprobeD::default();
        let (name, path) = (SOFTDEP_FILE.to_owned(), String::new());
        depmod.add(&ConfigFile { name, path, text: of_modules.to_owned() });
        Softdeps::of(before.iter().chain(&depmod.softdeps).chain(after))
    }
}

/// Soft dependencies by module: as in modprobe, the first line that speaks of it counts.
#[derive(Debug, Default)]
pub(crate) struct Softdeps {
    all: Vec<(SoftDependencies, String)>,
    /// The first line for each plain name, and all patterns.
    plain: HashMap<String, usize>,
    patterns: Vec<(String, usize)>,
}

impl Softdeps {
    fn of<'r>(rules: impl Iterator<Item = &'r Rule>) -> Softdeps {
        let mut softdeps = Softdeps::default();
        for (at, rule) in rules.enumerate() {
            softdeps.all.push((SoftDependencies::parse(&rule.text), rule.file.clone()));
            match glob::is_pattern(&rule.name) {
                true => softdeps.patterns.push((rule.name.clone(), at)),
                false => {
                    softdeps.plain.entry(rule.name.clone()).or_insert(at);
                }
            }
        }
        softdeps
    }

    /// What a module wants, and which file says so: empty for what depmod found.
    pub(crate) fn of_module(&self, module: &str) -> Option<(&SoftDependencies, &str)> {
        let plain = self.plain.get(module).copied();
        let pattern = self.patterns.iter().find(|(pattern, _)| glob::matches(pattern, module));
        let first = plain.into_iter().chain(pattern.map(|(_, at)| *at)).min()?;
        self.all.get(first).map(|(softdeps, file)| (softdeps, file.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> ConfigFile {
        ConfigFile { name: name.to_owned(), path: format!("etc/modprobe.d/{name}"), text: text.to_owned() }
    }

    fn texts(rules: &[Rule]) -> Vec<(&str, &str)> {
        rules.iter().map(|rule| (rule.name.as_str(), rule.text.as_str())).collect()
    }

    #[test]
    fn each_command_is_read() {
        let text = "alias net-pf-[0-9] my-mod\nblacklist snd-pcsp\noptions\tloop\tmax_loop=8\tx=\"a b\"\n\
                    install usb-storage /bin/true $CMDLINE_OPTS\nremove x rmmod x\nweakdep a b\nalias half\n\
                    include /x\noptions [a b\n";
        let config =
            ModprobeD::read(vec![file("a.conf", text)], Some("loop.max_part=4 modprobe.blacklist=p,q"));
        assert_eq!(texts(&config.aliases), [("net_pf_[0-9]", "my_mod")]);
        assert_eq!(texts(&config.blacklist), [("snd_pcsp", ""), ("p", ""), ("q", "")]);
        assert_eq!(texts(&config.options), [("loop", "max_loop=8 x=\"a b\""), ("loop", "max_part=4")]);
        assert_eq!(config.install_of("usb_storage").unwrap().text, "/bin/true $CMDLINE_OPTS");
        assert_eq!(texts(&config.remove), [("x", "rmmod x")]);
        assert_eq!(config.bad.len(), 3, "{:?}", config.bad);
        assert_eq!(config.bad[0], "etc/modprobe.d/a.conf line 7: not a whole \"alias\"");
    }

    #[test]
    fn files_count_by_name_and_depmod_s_is_one_of_them() {
        let files = vec![
            file("z.conf", "softdep a pre: z\nsoftdep b* pre: z"),
            file("a.conf", "softdep c* pre: first"),
        ];
        let softdeps = ModprobeD::read(files, None).softdeps("softdep a pre: own\nsoftdep c1\tpre: own\n");
        let pre = |module| softdeps.of_module(module).map(|(softdeps, _)| softdeps.pre.join(" "));
        assert_eq!(pre("a").as_deref(), Some("own"));
        assert_eq!(pre("b2").as_deref(), Some("z"));
        assert_eq!(pre("c1").as_deref(), Some("first"));
        assert_eq!(pre("d"), None);
        assert_eq!(softdeps.of_module("b").unwrap().1, "etc/modprobe.d/z.conf");
    }
}
