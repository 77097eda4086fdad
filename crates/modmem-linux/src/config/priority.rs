//! Which of two files of one module depmod takes.

use super::{DepmodD, depmod_d::Search};

/// A module's file, as far as the choice goes.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'p> {
    /// The path below the kernel's folder, or an absolute one.
    pub(crate) path: &'p str,
}

impl Candidate<'_> {
    /// The path below the kernel's folder without the file's ending.
    fn below(&self) -> Option<&str> {
        let path = (!self.path.starts_with('/')).then_some(self.path)?;
        let file = path.rfind('/').map_or(0, |slash| slash + 1);
        Some(path[file..].find('.').map_or(path, |dot| &path[..file + dot]))
    }

    fn is_in(&self, folder: &str) -> bool {
        self.below().and_then(|path| path.strip_prefix(folder)).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl DepmodD {
    /// Does `new` take the place of `old`, which was met before it (depmod.c:depmod_module_is_higher_priority)?
    pub(crate) fn prefers(&self, new: &Candidate<'_>, old: &Candidate<'_>) -> bool {
        for wanted in &self.overrides {
            if new.below() == Some(wanted) {
                return true;
            }
            if old.below() == Some(wanted) {
                return false;
            }
        }
        let (mut built_in, mut of_new, mut of_old) = (None, None, None);
        let mut rank = 0;
        for search in &self.searches {
            match search {
                Search::BuiltIn => built_in = Some(rank),
                Search::External => {
                    for folder in &self.externals {
                        let inside = |path: &str| {
                            path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
                        };
                        if inside(new.path) {
                            of_new = Some(rank);
                        }
                        if inside(old.path) {
                            of_old = Some(rank);
                        }
                        rank += 1;
                    }
                }
                Search::Folder(folder) => {
                    if new.is_in(folder) {
                        of_new = Some(rank);
                    }
                    if old.is_in(folder) {
                        of_old = Some(rank);
                    }
                }
            }
            rank += 1;
        }
        of_new.or(built_in) > of_old.or(built_in)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ConfigFile, *};

    fn prefers(config: &str, new: &str, old: &str) -> bool {
        let file = ConfigFile { name: "x.conf".into(), path: String::new(), text: config.into() };
        let config = DepmodD::read(vec![file], "6.12");
        config.prefers(&Candidate { path: new }, &Candidate { path: old })
    }

    #[test]
    fn updates_go_first_where_nothing_is_said() {
        assert!(prefers("", "updates/dkms/a.ko", "kernel/a.ko.xz"));
        assert!(!prefers("", "kernel/a.ko.xz", "updates/a.ko"));
        assert!(!prefers("", "extra/a.ko", "kernel/a.ko"), "the one met first");
        assert!(!prefers("", "updates-of-mine/a.ko", "kernel/a.ko"));
    }

    #[test]
    fn searches_externals_and_overrides_rank() {
        let config = "search extra updates built-in external\nexternal * /lib/ext\n";
        assert!(prefers(config, "extra/a.ko", "updates/a.ko"));
        assert!(prefers(config, "kernel/a.ko", "/lib/ext/a.ko"));
        assert!(!prefers(config, "/lib/ext/a.ko", "kernel/a.ko"));
        assert!(prefers("search external built-in\nexternal * /lib/ext\n", "/lib/ext/a.ko", "kernel/a.ko"));
        let config = format!("{config}override a * kernel/sub\n");
        assert!(prefers(&config, "kernel/sub/a.ko.zst", "extra/a.ko"));
        assert!(!prefers(&config, "extra/a.ko", "kernel/sub/a.ko.zst"));
    }
}
