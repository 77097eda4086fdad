//! The modules below a folder.

use super::Found;
use crate::{
    Error, inside,
    module_file::{Place, module_name},
};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// A folder with more files than this, or deeper than this, is not a kernel's.
const MAX_ENTRIES: usize = 1_000_000;
const MAX_DEPTH: usize = 24;

/// Where a kernel's build and sources are, which depmod does not look into (depmod.c:should_exclude_dir).
const NOT_MODULES: [&str; 2] = ["build", "source"];

/// Collects modules below `top`, and all files right in a folder `modules`.
///
/// In a `root` links are followed as if it were `/`, those to folders too: weak-updates and /nix/store consist of them.
/// Without one `top` is a folder of somebody's own: links to modules may lead anywhere, those to folders are not followed.
pub(super) fn walk(
    root: Option<&Path>,
    top: &Path,
    name: &str,
    excludes: &[String],
    found: &mut Found,
) -> Result<(), Error> {
    let whole = name == "modules";
    let mut folders = vec![(top.to_path_buf(), name.to_owned(), 0)];
    let mut linked: HashSet<PathBuf> = HashSet::new();
    let mut entries = 0;
    while let Some((folder, name, depth)) = folders.pop() {
        let reading = match fs::read_dir(&folder) {
            Ok(reading) => reading,
            Err(error) if depth == 0 => return Err(Error::read(&folder)(error)),
            Err(error) => {
                found.remarks.push(format!(
                    "{}: {error}: what modules there are in it is not known",
                    folder.display()
                ));
                continue;
            }
        };
        for entry in reading.flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                let problem = "more than a million files in it; give the folder of one kernel";
                return Err(Error::malformed(top.display().to_string(), problem));
            }
            let (Ok(kind), Ok(file)) = (entry.file_type(), entry.file_name().into_string()) else {
                continue;
            };
            if file.contains(char::is_control) || excludes.contains(&file) {
                continue;
            }
            let key = format!("{name}/{file}");
            let wanted = (whole && depth == 0) || module_name(&file).is_some();
            let not_modules = NOT_MODULES.contains(&file.as_str()) && root.is_some();
            if not_modules || depth >= MAX_DEPTH && kind.is_dir() {
                continue;
            }
            if kind.is_dir() {
                if root.is_some() || !file.starts_with('.') {
                    folders.push((entry.path(), key, depth + 1));
                }
                continue;
            }
            if kind.is_file() {
                if wanted {
                    found.files.push((key, Place::Disk { path: entry.path(), kept: None }));
                }
                continue;
            }
            if !kind.is_symlink() {
                continue;
            }
            let Some(root) = root else {
                if wanted {
                    found.add(&key, Some(entry.path()));
                }
                continue;
            };
            match inside::resolve(root, &entry.path()) {
                // Each folder once, and none that this one lies in.
                Some(real)
                    if real.is_dir()
                        && depth < MAX_DEPTH
                        && !folder.starts_with(&real)
                        && linked.insert(real.clone()) =>
                {
                    folders.push((real, key, depth + 1));
                }
                Some(real) if wanted => found.add(&key, Some(real)),
                None if module_name(&file).is_some() => found.remarks.push(format!(
                    "{}: a link to where nothing is in {}",
                    entry.path().display(),
                    root.display()
                )),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(found: &Found) -> Vec<&str> {
        let mut names: Vec<&str> = found.files.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn links_lead_to_modules_inside_the_root_alone() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        let top = root.join("lib/modules/6.12");
        for folder in [top.join("weak-updates"), root.join("nix/store/x/kernel"), top.join("build")] {
            fs::create_dir_all(folder).unwrap();
        }
        for file in
            [root.join("nix/store/x/kernel/a.ko"), top.join("build/b.ko"), outside.path().join("h.ko")]
        {
            fs::write(file, "").unwrap();
        }
        symlink("/nix/store/x/kernel", top.join("kernel")).unwrap();
        symlink("/lib/modules/6.12", top.join("weak-updates/circle")).unwrap();
        symlink("/nix/store/x/kernel/a.ko", top.join("weak-updates/l.ko")).unwrap();
        symlink("../../../../../h.ko", top.join("weak-updates/h.ko")).unwrap();
        symlink(outside.path().join("h.ko"), top.join("weak-updates/i.ko")).unwrap();
        symlink("/usr/src/headers", top.join("source")).unwrap();
        let mut found = Found::default();
        walk(Some(&root), &top, "modules", &[], &mut found).unwrap();
        assert_eq!(names(&found), ["modules/kernel/a.ko", "modules/weak-updates/l.ko"]);
        found.remarks.sort();
        assert_eq!(found.remarks.len(), 2, "{:?}", found.remarks);
        assert!(found.remarks[0].contains("h.ko: a link to where nothing is"), "{:?}", found.remarks);
        let mut found = Found::default();
        walk(Some(&root), &root.join("nix"), "/nix", &["kernel".to_owned()], &mut found).unwrap();
        assert_eq!(names(&found), [""; 0]);
    }

    #[test]
    fn folders_that_may_not_be_entered_are_told() {
        let top = tempfile::tempdir().unwrap();
        let closed = top.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
        if fs::read_dir(&closed).is_ok() {
            return; // Nothing is closed to root.
        }
        let mut found = Found::default();
        walk(None, top.path(), "modules", &[], &mut found).unwrap();
        assert!(found.remarks[0].contains("closed: Permission denied"), "{:?}", found.remarks);
    }
}
