//! `.modinfo`: the `key=value` strings of a module.

/// What dependency resolution needs of a module's `.modinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modinfo {
    /// The module's own name, which its file's need not be.
    pub(crate) name: Option<String>,
    pub(crate) vermagic: Option<String>,
    /// `None` where the module does not say: the field is there but empty in a module that needs nothing.
    pub(crate) depends: Option<Vec<String>>,
    /// Each `softdep` as it stands, such as `pre: crypto-crc32c post: other`.
    pub(crate) softdeps: Vec<String>,
    pub(crate) aliases: Vec<String>,
}

impl Modinfo {
    pub(crate) fn parse(section: &[u8]) -> Modinfo {
        let mut info = Modinfo::default();
        for (key, value) in fields(section) {
            match key {
                "name" => info.name = Some(value.to_owned()),
                "vermagic" => info.vermagic = Some(value.to_owned()),
                "depends" => {
                    let names = info.depends.get_or_insert_default();
                    names.extend(
                        value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(normal_name),
                    );
                }
                "softdep" => info.softdeps.push(value.to_owned()),
                "alias" => info.aliases.push(value.to_owned()),
                _ => {}
            }
        }
        info
    }
}

/// The strings of a `.modinfo` section; those that are not UTF-8 or hold no `=` are passed over.
pub(crate) fn fields(section: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    section.split(|&byte| byte == 0).filter_map(|field| std::str::from_utf8(field).ok()?.split_once('='))
}

/// A module's name as the kernel has it: `-` becomes `_`.
pub(crate) fn normal_name(name: &str) -> String {
    name.replace('-', "_")
}

/// An alias as kmod compares it: `-` becomes `_`, except between brackets, where it makes a range. `None` where a bracket
/// has no other half: kmod takes no such alias (shared/util.c:alias_normalize).
pub(crate) fn normal_alias(alias: &str) -> Option<String> {
    let mut inside = false;
    let mut normal = String::with_capacity(alias.len());
    for c in alias.chars() {
        match c {
            ']' if !inside => return None,
            ']' => inside = false,
            '[' => inside = true,
            _ => {}
        }
        normal.push(if c == '-' && !inside { '_' } else { c });
    }
    (!inside).then_some(normal)
}

/// The names before and after, of a soft dependency such as `pre: a b post: c`.
pub(crate) fn soft_dependencies(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut pre, mut post) = (Vec::new(), Vec::new());
    // modprobe.d wants `pre:` or `post:` first; names before either mean nothing.
    let mut list: Option<&mut Vec<&str>> = None;
    for word in text.split([' ', '\t', '\n', '\r', '\x0b', '\x0c']).filter(|word| !word.is_empty()) {
        match word {
            "pre:" => list = Some(&mut pre),
            "post:" => list = Some(&mut post),
            name => {
                if let Some(list) = &mut list {
                    list.push(name);
                }
            }
        }
    }
    (pre, post)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_between_any_number_of_zeros() {
        let info = Modinfo::parse(
            b"vermagic=6.12 SMP \0\0\0depends=jbd2,mb-cache\0softdep=pre: crc32c\0alias=fs-ext4\0x\0\xff=1",
        );
        assert_eq!(info.vermagic.as_deref(), Some("6.12 SMP "));
        assert_eq!(info.depends, Some(vec!["jbd2".to_owned(), "mb_cache".to_owned()]));
        assert_eq!(info.softdeps, ["pre: crc32c"]);
        assert_eq!(info.aliases, ["fs-ext4"]);
    }

    #[test]
    fn needing_nothing_differs_from_not_saying() {
        assert_eq!(Modinfo::parse(b"depends=\0").depends, Some(Vec::new()));
        assert_eq!(Modinfo::parse(b"license=GPL\0").depends, None);
    }

    #[test]
    fn dashes_in_brackets_stay() {
        assert_eq!(normal_alias("usb:v[0-9]-a-b").as_deref(), Some("usb:v[0-9]_a_b"));
        assert_eq!(normal_alias("usb:v[0-9"), None);
        assert_eq!(normal_alias("usb:v0-9]"), None);
    }

    #[test]
    fn soft_dependencies_come_before_and_after() {
        assert_eq!(soft_dependencies("lost pre: a b post: c"), (vec!["a", "b"], vec!["c"]));
    }
}
