//! One place that holds a kernel's files, with one set of names whatever the place looks like.
//!
//! | Name here            | On disk                                                                    |
//! |----------------------|----------------------------------------------------------------------------|
//! | `modules/...`        | `lib/modules/RELEASE/...`, `usr/lib/modules/RELEASE/...`, a folder of `.ko` |
//! | `/...`               | modules elsewhere in the root, which depmod's files name by their full paths |
//! | `boot/config`        | `boot/config-RELEASE`                                                      |
//! | `boot/vmlinuz`       | `boot/vmlinuz-RELEASE`, `boot/vmlinux-RELEASE`, else as [`boot_image`] finds it |
//! | `boot/System.map`    | `boot/System.map-RELEASE`                                                  |
//! | `symvers`            | `Module.symvers` of the headers package or the build folder                |

mod config;
mod walk;

use crate::{
    Error, boot_image,
    deb::FileList,
    inside,
    module_file::{Place, module_name},
    source::Sample,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use walk::walk;

/// Files of a root by their names here.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) files: Vec<(String, Place)>,
    /// What could not be looked at, in words.
    pub(crate) remarks: Vec<String>,
}

impl Found {
    fn add(&mut self, key: &str, path: Option<PathBuf>) {
        if let Some(path) = path.filter(|path| path.is_file()) {
            self.files.push((key.to_owned(), Place::Disk { path, kept: None }));
        }
    }
}

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

/// The kernels in a root: those with modules, those of which only modules of others are left (a package of a vendor's,
/// to which weak-updates of newer kernels lead), and those with only an image or a configuration.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    pub(crate) with_modules: BTreeSet<String>,
    pub(crate) extra_only: BTreeSet<String>,
    pub(crate) boot_only: BTreeSet<String>,
}

impl Root {
    /// A folder that we unpacked, with the list of what is in it.
    pub(crate) fn unpacked(folder: PathBuf, list: FileList) -> Root {
        Root::System { folder, list: Some(list) }
    }

    /// Finds out what a folder is.
    pub(crate) fn of_folder(folder: &Path) -> Result<Root, Error> {
        fs::read_dir(folder).map_err(Error::read(folder))?;
        let has = |name: &str| inside::resolve(folder, Path::new(name)).is_some();
        let boots = || !boot_releases(&boot_names(folder)).is_empty();
        if has("lib/modules") || has("usr/lib/modules") || boots() {
            return Ok(Root::System { folder: folder.to_path_buf(), list: None });
        }
        let folder = folder.to_path_buf();
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
                        let has =
                            |part: &&str| inside::resolve(folder, &modules.join(&name).join(part)).is_some();
                        // What `apt remove` leaves of a kernel is only a few files of depmod.
                        if ["kernel", "modules.order"].iter().any(has) {
                            releases.with_modules.insert(name);
                        } else if ["updates", "extra"].iter().any(has) {
                            releases.extra_only.insert(name);
                        }
                    }
                }
                releases.boot_only = boot_releases(&boot_names(folder));
                releases
            }
            Root::Modules { release, .. } => {
                Releases { with_modules: BTreeSet::from([release.clone()]), ..Releases::default() }
            }
            Root::Plain { .. } => Releases::default(),
            Root::Static(files) => releases_of(files.iter().map(|(name, _)| *name)),
        }
    }

    /// All files of one kernel, by their names here.
    pub(crate) fn files(&self, release: &str) -> Result<Found, Error> {
        let mut found = Found::default();
        match self {
            Root::System { folder, list: Some(list) } => {
                for (name, kept) in &list.files {
                    if let Some(key) = key(name, release) {
                        found.files.push((key, Place::Disk { path: folder.join(name), kept: Some(*kept) }));
                    }
                }
            }
            Root::System { folder, list: None } => {
                for modules in module_folders(folder) {
                    if let Some(modules) = inside::folder(folder, &modules.join(release)) {
                        walk_modules(folder, &modules, &mut found)?;
                    }
                }
                boot_files(folder, release, &mut found);
                let headers = format!("usr/src/linux-headers-{release}/Module.symvers");
                found.add("symvers", inside::file(folder, Path::new(&headers)));
            }
            Root::Modules { folder, .. } => {
                let root = root_above(folder);
                walk_modules(root.unwrap_or(folder), folder, &mut found)?;
                if let Some(root) = root {
                    boot_files(root, release, &mut found);
                }
            }
            Root::Plain { folder } => {
                walk(None, folder, "modules", &[], &mut found)?;
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
                    found.add(key, Some(folder.join(name)));
                }
            }
            Root::Static(files) => {
                for (name, bytes) in *files {
                    if let Some(key) = key(name, release) {
                        found.files.push((key, Place::Static(bytes)));
                    }
                }
            }
        }
        Ok(found)
    }

    /// The root file system that this is, or is a part of: where links lead, and configuration lies.
    fn system(&self) -> Option<&Path> {
        match self {
            Root::System { folder, list: None } => Some(folder),
            Root::Modules { folder, .. } => root_above(folder),
            Root::System { .. } | Root::Plain { .. } | Root::Static(_) => None,
        }
    }

    /// The file at a full path.
    pub(crate) fn file_at(&self, path: &str) -> Option<Place> {
        if let Root::Static(files) = self {
            let name = path.trim_start_matches('/');
            return files.iter().find(|(other, _)| *other == name).map(|(_, bytes)| Place::Static(bytes));
        }
        let path = inside::file(self.system()?, Path::new(path.trim_start_matches('/')))?;
        Some(Place::Disk { path, kept: None })
    }

    /// The modules in a folder elsewhere in the root, by their full paths.
    pub(crate) fn external(&self, folder: &str, excludes: &[String], found: &mut Found) -> Result<(), Error> {
        let name = folder.trim_end_matches('/');
        if let Root::Static(files) = self {
            let inside = files.iter().filter(|(path, _)| {
                let rest = path.strip_prefix(name.trim_start_matches('/'));
                rest.is_some_and(|rest| rest.starts_with('/')) && module_name(path).is_some()
            });
            found.files.extend(inside.map(|(path, bytes)| (format!("/{path}"), Place::Static(bytes))));
        }
        let Some(root) = self.system() else { return Ok(()) };
        match inside::folder(root, Path::new(name.trim_start_matches('/'))) {
            Some(top) => walk(Some(root), &top, name, excludes, found),
            None => Ok(()),
        }
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
        if let Some(folder) = inside::folder(root, Path::new(name))
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

fn boot_names(root: &Path) -> Vec<String> {
    inside::folder(root, Path::new("boot")).map(|folder| names_in(&folder)).unwrap_or_default()
}

/// The root file system that has `ROOT/lib/modules/RELEASE` or `ROOT/usr/lib/modules/RELEASE`.
fn root_above(modules: &Path) -> Option<&Path> {
    let above = modules.parent().filter(|above| above.ends_with("lib/modules"))?;
    let root = above.ancestors().nth(2)?;
    match root.file_name() {
        Some(name) if name == "usr" => root.parent(),
        _ => Some(root),
    }
}

fn boot_files(root: &Path, release: &str, found: &mut Found) {
    for name in boot_names(root) {
        if let Some(key) = boot_key(&name, release) {
            found.add(&key, inside::file(root, &Path::new("boot").join(name)));
        }
    }
    if !found.files.iter().any(|(key, _)| key == "boot/vmlinuz") {
        found.add("boot/vmlinuz", boot_image::find(root, release));
    }
}

/// A release's module folder: the modules, and every file of depmod and of the kernel's build at its top.
fn walk_modules(root: &Path, folder: &Path, found: &mut Found) -> Result<(), Error> {
    if folder.is_dir() {
        walk(Some(root), folder, "modules", &[], found)?;
        // `build` is a link to the headers, where they are installed.
        found.add("symvers", inside::file(root, &folder.join("build/Module.symvers")));
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
        let names: Vec<_> = root.files("6.12").unwrap().files.into_iter().map(|(name, _)| name).collect();
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
        let mut names: Vec<_> =
            root.files("6.12-x").unwrap().files.into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["boot/config", "modules/kernel/a.ko.zst"]);
    }
}
