//! One place that holds a kernel's files, with one set of names whatever the place looks like.
//!
//! | Name here            | On disk                                                                    |
//! |----------------------|----------------------------------------------------------------------------|
//! | `modules/...`        | `lib/modules/RELEASE/...`, `usr/lib/modules/RELEASE/...`, a folder of `.ko` |
//! | `boot/config`        | `boot/config-RELEASE`                                                      |
//! | `boot/vmlinuz`       | `boot/vmlinuz-RELEASE`, `boot/vmlinux-RELEASE`, else as [`boot_image`] finds it |
//! | `boot/System.map`    | `boot/System.map-RELEASE`                                                  |
//! | `symvers`            | `Module.symvers` of the headers package or the build folder                |

use crate::{
    Error,
    boot_image::{self, within},
    deb::FileList,
    module_file::{Place, module_name},
    source::Sample,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A folder with more files than this, or deeper than this, is not a kernel's.
const MAX_ENTRIES: usize = 1_000_000;
const MAX_DEPTH: usize = 24;

#[derive(Debug)]
pub(crate) enum Root {
    /// A root file system, or a part of one. The list is there for what we unpacked ourselves.
    System { folder: PathBuf, list: Option<FileList> },
    /// `lib/modules/RELEASE` itself.
    Modules { folder: PathBuf, release: String },
    /// A folder of modules: a build folder, or some files.
    Plain { folder: PathBuf },
    /// Part of the program.
    Static(Sample),
}

/// The kernels in a root: those with modules, and those with only an image or a configuration.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    pub(crate) with_modules: BTreeSet<String>,
    pub(crate) boot_only: BTreeSet<String>,
}

impl Root {
    /// Finds out what a folder is.
    pub(crate) fn of_folder(folder: &Path) -> Result<Root, Error> {
        fs::read_dir(folder).map_err(Error::read(folder))?;
        let has = |name: &str| folder.join(name).exists();
        if let Some(list) = FileList::load(folder) {
            return Ok(Root::System { folder: folder.to_path_buf(), list: Some(list) });
        }
        let folder = folder.to_path_buf();
        let boots = || !boot_releases(&names_in(&folder.join("boot"))).is_empty();
        if has("lib/modules") || has("usr/lib/modules") || boots() {
            return Ok(Root::System { folder, list: None });
        }
        let full = fs::canonicalize(&folder).map_err(Error::read(&folder))?;
        let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let under_modules = full.parent().is_some_and(|parent| parent.ends_with("lib/modules"));
        let like_release = name.starts_with(|c: char| c.is_ascii_digit());
        let build_folder = has("Makefile") && has("scripts");
        if under_modules || (like_release && !build_folder && (has("kernel") || has("modules.order"))) {
            return Ok(Root::Modules { folder: full, release: name });
        }
        Ok(Root::Plain { folder })
    }

    /// The folder, if it is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Root::System { folder, .. } | Root::Modules { folder, .. } | Root::Plain { folder } => {
                Some(folder)
            }
            Root::Static(_) => None,
        }
    }

    pub(crate) fn releases(&self) -> Releases {
        match self {
            Root::System { list: Some(list), .. } => {
                releases_of(list.files.iter().map(|(name, _)| name.as_str()))
            }
            Root::System { folder, list: None } => {
                let mut releases = Releases::default();
                for modules in module_folders(folder) {
                    for name in names_in(&modules) {
                        let one = modules.join(&name);
                        // What `apt remove` leaves of a kernel is only a few files of depmod.
                        if ["kernel", "updates", "extra", "modules.order"]
                            .iter()
                            .any(|part| one.join(part).exists())
                        {
                            releases.with_modules.insert(name);
                        }
                    }
                }
                releases.boot_only = boot_releases(&names_in(&folder.join("boot")));
                releases
            }
            Root::Modules { release, .. } => {
                Releases { with_modules: BTreeSet::from([release.clone()]), boot_only: BTreeSet::new() }
            }
            Root::Plain { .. } => Releases::default(),
            Root::Static(files) => releases_of(files.iter().map(|(name, _)| *name)),
        }
    }

    /// All files of one kernel, by their names here.
    pub(crate) fn files(&self, release: &str) -> Result<Vec<(String, Place)>, Error> {
        let mut found = Vec::new();
        match self {
            Root::System { folder, list: Some(list) } => {
                for (name, size) in &list.files {
                    if let Some(key) = key(name, release) {
                        found.push((key, Place::Disk { path: folder.join(name), size: Some(*size) }));
                    }
                }
            }
            Root::System { folder, list: None } => {
                for modules in module_folders(folder) {
                    walk_modules(folder, &modules.join(release), &mut found)?;
                }
                boot_files(folder, release, &mut found);
                let headers = folder.join(format!("usr/src/linux-headers-{release}/Module.symvers"));
                add_file("symvers", headers, &mut found);
            }
            Root::Modules { folder, .. } => {
                let root = root_above(folder);
                walk_modules(root, folder, &mut found)?;
                boot_files(root, release, &mut found);
            }
            Root::Plain { folder } => {
                walk(folder, folder, &mut found)?;
                let known = [
                    ("boot/config", ".config"),
                    ("boot/config", "config"),
                    ("boot/vmlinuz", "vmlinux"),
                    ("boot/vmlinuz", "vmlinuz"),
                    ("boot/vmlinuz", "arch/x86/boot/bzImage"),
                    ("boot/System.map", "kallsyms"),
                    ("boot/System.map", "System.map"),
                    ("symvers", "Module.symvers"),
                ];
                for (key, name) in known {
                    add_file(key, folder.join(name), &mut found);
                }
            }
            Root::Static(files) => {
                for (name, bytes) in *files {
                    if let Some(key) = key(name, release) {
                        found.push((key, Place::Static(bytes)));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// A path in a root file system by its name here; `None` if it belongs to another kernel or to none.
fn key(path: &str, release: &str) -> Option<String> {
    let plain = path.strip_prefix("usr/").unwrap_or(path);
    if let Some(rest) = plain.strip_prefix("lib/modules/") {
        return Some(format!("modules/{}", rest.strip_prefix(release)?.strip_prefix('/')?));
    }
    if let Some(name) = path.strip_prefix("boot/") {
        return boot_key(name, release);
    }
    let headers = plain.strip_prefix("src/")?.strip_suffix("/Module.symvers")?;
    headers.ends_with(release).then(|| "symvers".to_owned())
}

fn boot_key(name: &str, release: &str) -> Option<String> {
    let (kind, of) = name.split_once('-')?;
    if of != release {
        return None;
    }
    match kind {
        "config" => Some("boot/config".to_owned()),
        "vmlinuz" | "vmlinux" => Some("boot/vmlinuz".to_owned()),
        "System.map" => Some("boot/System.map".to_owned()),
        _ => None,
    }
}

fn releases_of<'n>(names: impl Iterator<Item = &'n str>) -> Releases {
    let mut releases = Releases::default();
    let mut boot = Vec::new();
    for name in names {
        if let Some(rest) = name.strip_prefix("usr/").unwrap_or(name).strip_prefix("lib/modules/") {
            if let Some((release, _)) = rest.split_once('/')
                && !releases.with_modules.contains(release)
            {
                releases.with_modules.insert(release.to_owned());
            }
        } else if let Some(file) = name.strip_prefix("boot/") {
            boot.push(file.to_owned());
        }
    }
    releases.boot_only = boot_releases(&boot);
    releases
}

fn boot_releases(names: &[String]) -> BTreeSet<String> {
    let starts = ["vmlinuz-", "vmlinux-", "config-"];
    let releases = names.iter().filter_map(|name| starts.iter().find_map(|start| name.strip_prefix(start)));
    releases.filter(|release| release.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

/// `lib/modules` and `usr/lib/modules`; only one where the first is a link to the second.
fn module_folders(root: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for name in ["usr/lib/modules", "lib/modules"] {
        if let Ok(folder) = fs::canonicalize(root.join(name))
            && !folders.contains(&folder)
        {
            folders.push(folder);
        }
    }
    folders
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| !name.contains(char::is_control)).collect()
}

/// The root file system that has `ROOT/lib/modules/RELEASE` or `ROOT/usr/lib/modules/RELEASE`.
fn root_above(modules: &Path) -> &Path {
    let root = modules.ancestors().nth(3).unwrap_or(modules);
    match root.file_name() {
        Some(name) if name == "usr" => root.parent().unwrap_or(root),
        _ => root,
    }
}

fn boot_files(root: &Path, release: &str, found: &mut Vec<(String, Place)>) {
    let boot = root.join("boot");
    for name in names_in(&boot) {
        if let Some(key) = boot_key(&name, release) {
            add_file(&key, in_root(root, boot.join(name)), found);
        }
    }
    if !found.iter().any(|(key, _)| key == "boot/vmlinuz")
        && let Some(path) = boot_image::find(root, release)
    {
        add_file("boot/vmlinuz", path, found);
    }
}

/// Where a link in a root leads to; outside, where nothing is there in the root: a folder of links is a root too.
fn in_root(root: &Path, path: PathBuf) -> PathBuf {
    within(root, &path).unwrap_or(path)
}

fn add_file(key: &str, path: PathBuf, found: &mut Vec<(String, Place)>) {
    if path.is_file() {
        found.push((key.to_owned(), Place::Disk { path, size: None }));
    }
}

/// A release's module folder: the modules, and every file of depmod and of the kernel's build at its top.
fn walk_modules(root: &Path, folder: &Path, found: &mut Vec<(String, Place)>) -> Result<(), Error> {
    if folder.is_dir() {
        walk(root, folder, found)?;
        // `build` is a link to the headers, where they are installed.
        add_file("symvers", folder.join("build/Module.symvers"), found);
    }
    Ok(())
}

/// Collects modules below `top`, and all files right in it. Does not follow links to folders.
fn walk(root: &Path, top: &Path, found: &mut Vec<(String, Place)>) -> Result<(), Error> {
    let mut folders = vec![(top.to_path_buf(), String::from("modules"), 0)];
    let mut entries = 0;
    while let Some((folder, name, depth)) = folders.pop() {
        let reading = fs::read_dir(&folder);
        // A folder below that only root may enter is none of our business.
        let reading = if depth == 0 {
            reading.map_err(Error::read(&folder))?
        } else if let Ok(r) = reading {
            r
        } else {
            continue;
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
            if file.contains(char::is_control) {
                continue;
            }
            let key = format!("{name}/{file}");
            if kind.is_dir() {
                if depth < MAX_DEPTH && !file.starts_with('.') {
                    folders.push((entry.path(), key, depth + 1));
                }
            } else if depth == 0 || module_name(&file).is_some() {
                // Links to modules are what weak-updates folders consist of.
                if kind.is_file() {
                    found.push((key, Place::Disk { path: entry.path(), size: None }));
                } else if let Some(path) = within(root, &entry.path()) {
                    found.push((key, Place::Disk { path, size: None }));
                } else if kind.is_symlink() && module_name(&file).is_some() {
                    add_file(&key, entry.path(), found);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_release_get_one_set_of_names() {
        let name = |path| key(path, "6.12-amd64");
        assert_eq!(name("lib/modules/6.12-amd64/kernel/a.ko").as_deref(), Some("modules/kernel/a.ko"));
        assert_eq!(name("usr/lib/modules/6.12-amd64/modules.dep").as_deref(), Some("modules/modules.dep"));
        assert_eq!(name("boot/vmlinuz-6.12-amd64").as_deref(), Some("boot/vmlinuz"));
        assert_eq!(name("usr/src/linux-headers-6.12-amd64/Module.symvers").as_deref(), Some("symvers"));
        assert_eq!(name("boot/vmlinuz-6.12-amd64-old"), None);
        assert_eq!(name("lib/modules/6.12-amd64-x/kernel/a.ko"), None);
    }

    #[test]
    fn a_static_root_lists_its_releases() {
        static FILES: Sample = &[
            ("lib/modules/6.12/kernel/a.ko", b"a"),
            ("boot/config-6.12", b"c"),
            ("boot/vmlinuz-6.13", b"v"),
        ];
        let root = Root::Static(FILES);
        let releases = root.releases();
        assert_eq!(Vec::from_iter(releases.with_modules), ["6.12"]);
        assert_eq!(Vec::from_iter(releases.boot_only), ["6.12", "6.13"]);
        let names: Vec<_> = root.files("6.12").unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["modules/kernel/a.ko", "boot/config"]);
    }

    #[test]
    fn a_release_folder_finds_its_boot_files() {
        let root = tempfile::tempdir().unwrap();
        let modules = root.path().join("usr/lib/modules/6.12-x");
        fs::create_dir_all(modules.join("kernel")).unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        fs::write(root.path().join("boot/config-6.12-x"), "").unwrap();
        fs::write(modules.join("kernel/a.ko.zst"), "").unwrap();
        let root = Root::of_folder(&modules).unwrap();
        assert!(matches!(&root, Root::Modules { release, .. } if release == "6.12-x"));
        let mut names: Vec<_> = root.files("6.12-x").unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["boot/config", "modules/kernel/a.ko.zst"]);
    }
}
