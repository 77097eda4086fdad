//! Paths inside a root file system that is not ours: every part of a path is looked up as if that root were `/`, as
//! `openat2` does with `RESOLVE_IN_ROOT`. Absolute links start at the root, and no number of `..` leads above it.

use std::{
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

/// Links of links, before a circle is what they are: Linux's MAXSYMLINKS.
const MAX_LINKS: usize = 40;
/// Parts of a path, those of links included.
const MAX_PARTS: usize = 4096;

/// Where `path` leads in `root`, without any link left; `None` if nothing is there. A path that begins with the root
/// itself is taken as one in it.
pub(crate) fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut real = PathBuf::new();
    let mut rest = parts(path.strip_prefix(root).unwrap_or(path));
    let (mut links, mut looked_up) = (0, 0);
    while let Some(part) = rest.pop() {
        looked_up += 1;
        if looked_up > MAX_PARTS {
            return None;
        }
        if part == ".." {
            real.pop();
            continue;
        }
        let here = root.join(&real).join(&part);
        if !fs::symlink_metadata(&here).ok()?.is_symlink() {
            real.push(part);
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        let target = fs::read_link(&here).ok()?;
        if target.is_absolute() {
            real.clear();
        }
        rest.extend(parts(&target));
    }
    Some(root.join(real))
}

/// As [`resolve`], of a file.
pub(crate) fn file(root: &Path, path: &Path) -> Option<PathBuf> {
    resolve(root, path).filter(|path| path.is_file())
}

/// As [`resolve`], of a folder.
pub(crate) fn folder(root: &Path, path: &Path) -> Option<PathBuf> {
    resolve(root, path).filter(|path| path.is_dir())
}

/// The parts of a path, the first one last.
pub(crate) fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_leads_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "f").unwrap();
        for (link, target) in [
            ("absolute", "/a/file"),
            ("a/relative", "../a/file"),
            ("a/b/folder", "/a"),
            ("up", "../../../../../../secret"),
            ("host", outside.path().join("secret").to_str().unwrap()),
            ("circle", "circle"),
            ("back", "b2/../a/file"),
            ("b2", "/a/b"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let found = |path: &str| file(&root, Path::new(path));
        let file = Some(root.join("a/file"));
        for path in ["absolute", "/a/relative", "a/b/folder/file", "a/b/../file", "../../a/file"] {
            assert_eq!(found(path), file, "{path}");
        }
        for path in ["up", "host", "circle", "none", "../secret"] {
            assert_eq!(found(path), None, "{path}");
        }
        // Of a link's target, `..` is the folder above: of a/b that is a, where no a/file is.
        assert_eq!(found("back"), None);
        assert_eq!(resolve(&root, &root.join("absolute")), file, "a path on the host that lies in the root");
        assert_eq!(folder(&root, Path::new("a/b/folder")), Some(root.join("a")));
    }
}
