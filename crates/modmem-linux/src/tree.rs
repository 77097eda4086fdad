//! Several roots seen as one kernel.

use crate::{
    Error, OpenOptions,
    cache::Fingerprint,
    config::{ConfigFile, DepmodD, ModprobeD},
    depmod,
    index::vermagic_release,
    module_file::{ModuleFile, Place, module_name},
    root::{Found, Releases, Root},
    trust::digest::Digest,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Modules that are asked for which kernel they are, where no folder's name says it.
const MODULES_ASKED: usize = 64;

/// One kernel's files by the names that [`root`](crate::root) gives them.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) release: String,
    files: BTreeMap<String, Place>,
    pub(crate) modprobe_d: ModprobeD,
    pub(crate) depmod_d: DepmodD,
}

impl Tree {
    /// Where two roots have the same file, the later one's counts.
    pub(crate) fn merge(
        roots: &[Root],
        described: &str,
        options: &OpenOptions,
        remarks: &mut Vec<String>,
    ) -> Result<Tree, Error> {
        let mut kinds = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for root in roots {
            let Releases { with_modules, extra_only, boot_only } = root.releases();
            for (all, some) in kinds.iter_mut().zip([with_modules, extra_only, boot_only]) {
                all.extend(some);
            }
        }
        let candidates = kinds.into_iter().find(|kind| !kind.is_empty()).unwrap_or_default();
        if candidates.len() > 1 {
            return Err(Error::SeveralKernels { releases: candidates.into_iter().collect() });
        }
        let mut release = candidates.into_iter().next().unwrap_or_default();
        let mut files = BTreeMap::new();
        for root in roots {
            let found = root.files(&release)?;
            files.extend(found.files);
            remarks.extend(found.remarks);
        }
        if !files.keys().any(|name| name == "boot/vmlinuz" || module_name(name).is_some()) {
            return Err(Error::NoKernel { described: described.to_owned() });
        }
        if release.is_empty() {
            // Only plain folders: the modules themselves say for which kernel they are.
            // The first that can be read and says so: one damaged file does not hide the others.
            let modules = files.iter().filter_map(|(name, place)| Some((module_name(name)?, name, place)));
            let vermagic = modules.take(MODULES_ASKED).find_map(|(module, name, place)| {
                vermagic_release(&ModuleFile::inside(module, name.clone(), place.clone()).read().ok()?)
            });
            release = vermagic.unwrap_or_else(|| "unknown".to_owned());
        }
        let modprobe_d = ModprobeD::read(
            config(roots, "modprobe.d", options, remarks),
            command_line(roots, options).as_deref(),
        );
        let depmod_d = DepmodD::read(config(roots, "depmod.d", options, remarks), &release);
        let mut tree = Tree { release, files, modprobe_d, depmod_d };
        tree.add_external(roots, remarks)?;
        Ok(tree)
    }

    /// Adds modules outside the kernel's folder: those that depmod listed, else those where it would look.
    fn add_external(&mut self, roots: &[Root], remarks: &mut Vec<String>) -> Result<(), Error> {
        match self.text("modules.dep").and_then(Result::ok) {
            Some(text) => {
                let lines = depmod::dependencies(&text);
                let named = lines.iter().flat_map(|(module, needs)| needs.iter().chain([module]));
                for path in named.filter(|path| path.starts_with('/') && module_name(path).is_some()) {
                    if let Some(place) = roots.iter().rev().find_map(|root| root.file_at(path)) {
                        self.files.insert((*path).to_owned(), place);
                    }
                }
            }
            None => {
                let excluded =
                    |name: &str| name.split('/').any(|part| self.depmod_d.excludes.iter().any(|e| e == part));
                self.files.retain(|name, _| module_name(name).is_none() || !excluded(name));
                for folder in self.depmod_d.externals.iter().filter(|folder| folder.starts_with('/')) {
                    for root in roots {
                        let mut found = Found::default();
                        root.external(folder, &self.depmod_d.excludes, &mut found)?;
                        self.files.extend(found.files);
                        remarks.extend(found.remarks);
                    }
                }
            }
        }
        Ok(())
    }

    /// The names and places below `modules/`, in order of their names, then those elsewhere by their full paths.
    pub(crate) fn modules(&self) -> impl Iterator<Item = (&str, &Place)> {
        let inside =
            self.files.iter().filter_map(|(name, place)| Some((name.strip_prefix("modules/")?, place)));
        let elsewhere = self.files.iter().filter(|(name, _)| name.starts_with('/'));
        inside.chain(elsewhere.map(|(name, place)| (name.as_str(), place)))
    }

    pub(crate) fn place(&self, name: &str) -> Option<&Place> {
        self.files.get(name)
    }

    /// The first of these files that is there.
    pub(crate) fn read_first(&self, names: &[&str]) -> Option<Result<Cow<'static, [u8]>, Error>> {
        names.iter().find_map(|name| self.files.get(*name)).map(Place::read)
    }

    /// Where the first of these files is on disk.
    pub(crate) fn path_of_first(&self, names: &[&str]) -> Option<&Path> {
        match names.iter().find_map(|name| self.files.get(*name))? {
            Place::Disk { path, .. } => Some(path),
            Place::Static(_) => None,
        }
    }

    /// What the first of these files that is on disk holds, by its content alone; `None` if it cannot be read.
    pub(crate) fn digest_of_first(&self, names: &[&str]) -> Option<Digest> {
        let place = names.iter().find_map(|name| self.files.get(*name))?;
        match place {
            Place::Disk { kept: Some(kept), .. } => Some(kept.digest),
            Place::Disk { kept: None, .. } => Some(Digest::of(&place.read().ok()?)),
            Place::Static(_) => None,
        }
    }

    /// The text of a file of depmod, if it is there.
    pub(crate) fn text(&self, name: &str) -> Option<Result<String, Error>> {
        let bytes = self.place(&format!("modules/{name}"))?.read();
        Some(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A name for the present state of all modules, for results kept in the cache.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        for (name, place) in &self.files {
            if module_name(name).is_none() {
                continue;
            }
            fingerprint.add(name.as_bytes());
            match place {
                Place::Disk { kept: Some(kept), .. } => fingerprint.add(kept.digest.as_bytes()),
                Place::Disk { path, kept: None } => fingerprint.add_state(path),
                Place::Static(bytes) => fingerprint.add(bytes),
            }
        }
        fingerprint
    }
}

/// Configuration of all roots; of files with one name that of the last root counts.
fn config(roots: &[Root], kind: &str, options: &OpenOptions, remarks: &mut Vec<String>) -> Vec<ConfigFile> {
    let mut files: Vec<ConfigFile> = Vec::new();
    for root in roots.iter().rev().filter(|_| options.config) {
        for file in root.config(kind, remarks) {
            if !files.iter().any(|other| other.name == file.name) {
                files.push(file);
            }
        }
    }
    files
}

/// The kernel's command line: the one that was given, else that of a root.
fn command_line(roots: &[Root], options: &OpenOptions) -> Option<String> {
    let of_roots = || roots.iter().rev().filter(|_| options.config).find_map(Root::command_line);
    options.command_line.clone().or_else(of_roots)
}
