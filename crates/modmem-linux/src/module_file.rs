//! One module's file.

use crate::{
    Error, compress, files, memory,
    modinfo::normal_name,
    trust::{digest::Digest, places},
};
use std::{
    borrow::Cow,
    fs::File,
    hash::{Hash, Hasher},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A module's file, in a kernel's tree or outside. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ModuleFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    path: String,
    place: Place,
    outside: bool,
}

/// Where a module's file comes from, which says how far it is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The kernel's package.
    Package,
    /// This program brings it along.
    Program,
    /// Somebody gave it by hand: a file, or a folder that it lies in.
    Given,
    /// The snapshot that is compared with it brings it along.
    Snapshot,
    /// The modules' folder of the machine that runs this program.
    Disk,
}

impl Origin {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Package => "package",
            Origin::Program => "program",
            Origin::Given => "given",
            Origin::Snapshot => "snapshot",
            Origin::Disk => "disk",
        }
    }

    /// What a file that somebody gives by hand is worth: one in this machine's own folders of modules is this machine's.
    pub fn of_given(path: &Path) -> Origin {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if DISK.iter().any(|folder| path.starts_with(folder)) { Origin::Disk } else { Origin::Given }
    }

    /// Whether the file is one of a kernel's package, and not of whoever had it in hands since.
    pub fn is_of_package(self) -> bool {
        matches!(self, Origin::Package | Origin::Program)
    }
}

/// Where a machine has its modules.
const DISK: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];

/// Where a file's bytes are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A file; what it must be, where it is one of ours in the cache.
    Disk { path: PathBuf, kept: Option<Kept> },
    /// Part of the program.
    Static(&'static [u8]),
}

/// What a file of the cache was when it was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

impl ModuleFile {
    /// A module's file that belongs to no kernel's tree.
    pub fn outside(path: impl Into<PathBuf>) -> ModuleFile {
        let path = path.into();
        let shown = path.display().to_string();
        let name = module_name(&shown).unwrap_or_else(|| normal_name(file_name(&shown)));
        ModuleFile(Arc::new(Inner {
            name,
            path: shown,
            place: Place::Disk { path, kept: None },
            outside: true,
        }))
    }

    pub(crate) fn inside(name: String, path: String, place: Place) -> ModuleFile {
        ModuleFile(Arc::new(Inner { name, path, place, outside: false }))
    }

    /// The module's name as the kernel shows it, with `_` for `-`, taken from the file's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The path under the kernel's module folder, such as `kernel/fs/ext4/ext4.ko.xz`; for a file outside, its path.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The file on disk; `None` where the module is part of the program.
    pub fn file(&self) -> Option<&Path> {
        self.0.place.path()
    }

    /// Was this file given by path rather than found in the kernel's tree?
    pub fn is_outside(&self) -> bool {
        self.0.outside
    }

    /// The module's bytes, decompressed.
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        self.read_within(memory::of_module())
    }

    /// The same if there are at most so many.
    pub(crate) fn read_within(&self, most: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.0.place.read()?.into_owned();
        let shown = match &self.0.place {
            Place::Disk { path, .. } => path.display().to_string(),
            Place::Static(_) => self.0.path.clone(),
        };
        compress::decompress(&shown, bytes, most.min(memory::of_module()))
    }
}

impl PartialEq for ModuleFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.outside == other.0.outside && self.0.path == other.0.path)
    }
}

impl Eq for ModuleFile {}

impl Hash for ModuleFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.path.hash(state);
    }
}

impl Place {
    /// The file, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Place::Disk { path, .. } => Some(path),
            Place::Static(_) => None,
        }
    }

    pub(crate) fn read(&self) -> Result<Cow<'static, [u8]>, Error> {
        match self {
            Place::Static(bytes) => Ok(Cow::Borrowed(bytes)),
            Place::Disk { path, kept: None } => read_file(path, memory::of_file()).map(Cow::Owned),
            Place::Disk { path, kept: Some(kept) } => {
                let bytes = read_opened(places::open(path)?, path, memory::of_file())?;
                // A crash of the machine may leave a file empty although its name was written.
                if bytes.len() as u64 == kept.size && Digest::of(&bytes) == kept.digest {
                    return Ok(Cow::Owned(bytes));
                }
                let problem = "not what was unpacked into the cache (damaged, or changed by somebody); remove its folder";
                Err(Error::malformed(path.display().to_string(), problem))
            }
        }
    }
}

/// Reads a whole file of at most `limit` bytes. Works for `/proc` too, where sizes read as zero.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    read_opened(files::open(path)?, path, limit)
}

/// The same of a file that is open.
pub(crate) fn read_opened(file: File, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let expected = file.metadata().map_err(Error::read(path))?.len();
    let too_large = || Error::TooLarge { file: path.display().to_string(), limit };
    if expected > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(expected as usize + 1);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::read(path))?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// Reads a module's file and decompresses it: `.ko`, `.ko.xz`, `.ko.zst` and `.ko.gz`, told apart by their contents.
pub fn read_module_file(path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
    let path = path.as_ref();
    let limit = memory::of_module();
    compress::decompress(&path.display().to_string(), read_file(path, limit)?, limit)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The name of the module in a file of this path; `None` if it is no module.
pub(crate) fn module_name(path: &str) -> Option<String> {
    let file = file_name(path);
    let stem = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|end| file.strip_suffix(end))?;
    (!stem.is_empty()).then(|| normal_name(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_file_names() {
        assert_eq!(module_name("kernel/sound/snd-hda-intel.ko.xz").as_deref(), Some("snd_hda_intel"));
        assert_eq!(module_name("a.ko").as_deref(), Some("a"));
        assert_eq!(module_name("modules.dep"), None);
        assert_eq!(module_name("dir/.ko"), None);
    }

    #[test]
    fn a_file_of_the_cache_is_what_it_was_and_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(folder.path()).unwrap().join("file");
        let place =
            Place::Disk { path: path.clone(), kept: Some(Kept { size: 4, digest: Digest::of(b"text") }) };
        std::fs::write(&path, "text").unwrap();
        assert_eq!(*place.read().unwrap(), *b"text");
        for other in ["", "tex", "texT"] {
            std::fs::write(&path, other).unwrap();
            assert!(place.read().unwrap_err().to_string().contains("not what was unpacked"), "{other}");
        }
        std::fs::write(path.with_file_name("other"), "text").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("other", &path).unwrap();
        assert!(place.read().is_err());
    }
}
