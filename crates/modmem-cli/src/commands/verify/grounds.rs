//! What a verdict rests on: packages, files by hand, and the machine's own word.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use modmem_linux::verify::{OwnSymbols, Verification};
use modmem_linux::{Digest, Error, Ground, Origin};
use serde::Serialize;

use super::input::Input;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Grounds {
    /// Packages of an archive.
    pub(super) packages: Vec<PackageReport>,
    /// What somebody gave by hand.
    pub(super) given: Vec<GivenReport>,
    /// Whether files count that this program brings along.
    pub(super) program: bool,
    /// What came from the machine itself, in words.
    pub(super) machine: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct PackageReport {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) sha256: String,
    pub(super) origin: String,
    pub(super) key: String,
}

#[derive(Debug, Serialize)]
pub(super) struct GivenReport {
    pub(super) path: String,
    /// Of the file; of a folder, that of a line for each file of it that was used, as sha256sum prints them, by path.
    pub(super) sha256: String,
    /// Files of a folder that were used.
    pub(super) files: Option<usize>,
}

impl Grounds {
    pub(super) fn of(input: &Input, verification: &Verification) -> Result<Grounds, Error> {
        let mut grounds =
            Grounds { packages: Vec::new(), given: Vec::new(), program: false, machine: Vec::new() };
        let mut used = BTreeMap::new();
        let mut own = 0;
        for checked in &verification.modules {
            let Some(file) = input.file_report(&checked.name)? else { continue };
            own += usize::from(file.is_own(input.live));
            if matches!(file.origin, Origin::Given | Origin::Disk) {
                let digest = hash(Path::new(&file.path))?;
                used.insert(file.path, digest);
            }
        }
        let (all, image) = input.files.grounds();
        for ground in all {
            match ground {
                Ground::Archive(package) => grounds.packages.push(PackageReport {
                    name: package.name.clone(),
                    version: package.version.clone(),
                    sha256: package.digest.to_string(),
                    origin: package.origin.clone(),
                    key: package.key.clone(),
                }),
                Ground::File { path, digest } => grounds.given.push(GivenReport {
                    path: path.display().to_string(),
                    sha256: digest.to_string(),
                    files: None,
                }),
                Ground::Folder(path) => {
                    let mut inside = take(&mut used, path);
                    if let Some(image) = image.filter(|image| image.starts_with(path)) {
                        inside.insert(image.display().to_string(), hash(image)?);
                    }
                    grounds.given.push(together(path.display().to_string(), &inside));
                }
                _ => grounds.program = true,
            }
        }
        for path in input.files.named() {
            let inside = take(&mut used, path);
            if path.is_dir() {
                grounds.given.push(together(path.display().to_string(), &inside));
            } else if let Some(sha256) = inside.into_values().next() {
                grounds.given.push(GivenReport { path: path.display().to_string(), sha256, files: None });
            }
        }
        // By another way to the same folder.
        grounds.given.extend(used.into_iter().map(|(path, sha256)| GivenReport {
            path,
            sha256,
            files: None,
        }));
        if own > 0 {
            grounds.machine.push(format!("the files of {own} of its modules"));
        }
        grounds.machine.push(match verification.own_symbols {
            OwnSymbols::AsImage { .. } => {
                "its list of symbols (the kernel's own are those of the image)".to_owned()
            }
            _ => "its list of symbols".to_owned(),
        });
        if input.snapshot.config.is_some() && !input.options.own_config {
            grounds.machine.push("its kernel's configuration".to_owned());
        }
        grounds.machine.push("its lists of modules, sections and areas, and its memory".to_owned());
        Ok(grounds)
    }
}

fn hash(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
    Ok(Digest::of(&bytes).to_string())
}

/// Those files that lie in a folder or are it.
fn take(used: &mut BTreeMap<String, String>, path: &Path) -> BTreeMap<String, String> {
    let (inside, rest) =
        std::mem::take(used).into_iter().partition(|(file, _)| Path::new(file).starts_with(path));
    *used = rest;
    inside
}

fn together(path: String, files: &BTreeMap<String, String>) -> GivenReport {
    let lines: String = files.iter().map(|(path, sha256)| format!("{sha256}  {path}\n")).collect();
    GivenReport { path, sha256: Digest::of(lines.as_bytes()).to_string(), files: Some(files.len()) }
}
