//! The cache folder: unpacked packages, and the results of scans that take long.
//!
//! Several processes may use it at once, and any may be killed: whatever has its final name is whole, since it was
//! written under another name first. Nothing in it is needed: it can be removed at any time.

use crate::{Error, memory, module_file::read_file};
use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, SystemTime},
};
use tempfile::{NamedTempFile, TempDir};

/// Names of what is not finished.
const UNFINISHED: &str = ".part-";

/// After so long, what is not finished belongs to a process that died.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the cache is unless [`OpenOptions`](crate::OpenOptions) says otherwise: `modmem` in the user's cache folder.
///
/// `None` if the environment names neither `XDG_CACHE_HOME` nor `HOME`.
pub fn default_cache_folder() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    Some(absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?.join("modmem"))
}

#[derive(Debug)]
pub(crate) struct Cache {
    wanted: Option<PathBuf>,
    /// Stands in where the wanted folder cannot be written; removed with this value.
    temporary: OnceLock<TempDir>,
}

impl Cache {
    pub(crate) fn new(wanted: Option<PathBuf>) -> Cache {
        Cache { wanted, temporary: OnceLock::new() }
    }

    /// A folder in the cache if it is there, whether or not the cache can be written.
    pub(crate) fn existing(&self, kind: &str, name: &str) -> Option<PathBuf> {
        let temporary = self.temporary.get().map(TempDir::path);
        let folders = [self.wanted.as_deref(), temporary];
        folders.into_iter().flatten().map(|root| root.join(kind).join(name)).find(|folder| folder.is_dir())
    }

    /// The names in one folder of the cache.
    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let Some(entries) = self.wanted.as_ref().and_then(|root| fs::read_dir(root.join(kind)).ok()) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// A folder to write to: in the cache, or else one that goes with this value.
    pub(crate) fn writable(&self, kind: &str) -> Result<PathBuf, Error> {
        if let Some(root) = &self.wanted {
            let folder = root.join(kind);
            if fs::create_dir_all(&folder).is_ok() && TempDir::with_prefix_in(UNFINISHED, &folder).is_ok() {
                return Ok(folder);
            }
        }
        let root = match self.temporary.get() {
            Some(root) => root,
            None => {
                let made = TempDir::with_prefix("modmem-").map_err(Error::write(env::temp_dir()))?;
                self.temporary.get_or_init(|| made)
            }
        };
        let folder = root.path().join(kind);
        fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
        Ok(folder)
    }

    /// In words, that nothing is kept, where the wanted folder cannot be written.
    pub(crate) fn remark(&self) -> Option<String> {
        let (wanted, _) = self.wanted.as_ref().zip(self.temporary.get())?;
        Some(format!(
            "the cache folder {} cannot be written: what was downloaded and unpacked is not kept (--cache DIR)",
            wanted.display()
        ))
    }

    /// Makes a folder of the cache by letting `fill` write into it; gives it its name when that is done.
    pub(crate) fn make(
        &self,
        kind: &str,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let folder = self.writable(kind)?;
        sweep(&folder);
        let part = TempDir::with_prefix_in(UNFINISHED, &folder).map_err(Error::write(&folder))?;
        fill(part.path())?;
        let finished = folder.join(name);
        match fs::rename(part.path(), &finished) {
            Ok(()) => {
                // Renamed away: nothing is left to remove.
                let _ = part.keep();
            }
            // Another process was faster; ours is removed with `part`.
            Err(_) if finished.is_dir() => {}
            Err(error) => return Err(Error::write(&finished)(error)),
        }
        Ok(finished)
    }

    /// Removes a folder that turned out to be unusable.
    pub(crate) fn discard(&self, folder: &Path) {
        let _ = fs::remove_dir_all(folder);
    }

    /// A note kept from an earlier run. Whoever reads it must check it.
    pub(crate) fn note(&self, kind: &str, name: &str) -> Option<Vec<u8>> {
        read_file(&self.wanted.as_ref()?.join(kind).join(name), memory::of_file()).ok()
    }

    /// Keeps a note for later runs, if the cache can be written: notes only save time.
    pub(crate) fn keep_note(&self, kind: &str, name: &str, bytes: &[u8]) {
        let Some(root) = &self.wanted else {
            return;
        };
        let folder = root.join(kind);
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&folder)?;
            let mut file = NamedTempFile::with_prefix_in(UNFINISHED, &folder)?;
            file.write_all(bytes)?;
            file.persist(folder.join(name))?;
            Ok(())
        };
        let _ = write();
    }
}

fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if unfinished
            && let Ok(modified) = modified
            && SystemTime::now().duration_since(modified).is_ok_and(|age| age > ABANDONED)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// FNV-1a with 128 bits: names for the cache that stay the same from one build of this program to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint(u128);

impl Fingerprint {
    pub(crate) fn new() -> Fingerprint {
        Fingerprint(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        for &byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    /// Adds what tells one state of a file from another.
    pub(crate) fn add_state(&mut self, path: &Path) {
        self.add(path.as_os_str().as_encoded_bytes());
        if let Ok(metadata) = fs::metadata(path) {
            self.add(&metadata.len().to_le_bytes());
            let modified =
                metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            self.add(&modified.unwrap_or_default().as_nanos().to_le_bytes());
        }
    }

    pub(crate) fn name(self) -> String {
        format!("{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gets_its_name_only_when_it_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(root.path().to_path_buf()));
        let failed = cache.make("deb", "x", |part| {
            fs::write(part.join("half"), "h").unwrap();
            Err(Error::malformed("x", "stopped"))
        });
        assert!(failed.is_err());
        assert!(cache.existing("deb", "x").is_none());
        assert_eq!(fs::read_dir(root.path().join("deb")).unwrap().count(), 0);

        let made = cache
            .make("deb", "x", |part| fs::write(part.join("all"), "a").map_err(Error::write(part)))
            .unwrap();
        assert_eq!(cache.existing("deb", "x"), Some(made.clone()));
        assert_eq!(fs::read(made.join("all")).unwrap(), b"a");
    }

    #[test]
    fn the_second_of_two_processes_uses_what_the_first_made() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(root.path().to_path_buf()));
        let fill = |text: &'static str| {
            move |part: &Path| fs::write(part.join("f"), text).map_err(Error::write(part))
        };
        let outer = cache.make("deb", "x", |part| {
            cache.make("deb", "x", fill("first"))?;
            fill("second")(part)
        });
        assert_eq!(fs::read(outer.unwrap().join("f")).unwrap(), b"first");
        assert_eq!(cache.names("deb"), ["x"]);
    }

    #[test]
    fn without_a_writable_cache_a_temporary_folder_serves_and_goes_away() {
        let cache = Cache::new(Some(PathBuf::from("/proc/no-such-place")));
        assert_eq!(cache.remark(), None);
        let folder = cache.writable("deb").unwrap();
        assert!(folder.is_dir());
        assert!(cache.remark().unwrap().contains("/proc/no-such-place cannot be written"));
        cache.keep_note("index", "x", b"lost");
        drop(cache);
        assert!(!folder.exists());
    }

    #[test]
    fn notes_are_read_back() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(root.path().to_path_buf()));
        assert!(cache.note("index", "x").is_none());
        cache.keep_note("index", "x", b"text");
        assert_eq!(cache.note("index", "x").unwrap(), b"text");
    }
}
