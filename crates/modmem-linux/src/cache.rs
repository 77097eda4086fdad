//! The cache folder: unpacked packages, and the results of scans that take long.
//!
//! Several processes may use it at once, and any may be killed: whatever has its final name is whole, since it was
//! written under another name first. Nothing in it is needed: it can be removed at any time.
//!
//! Nothing in it is believed either: nobody else may write to it or on the path to it, what is kept carries a seal that
//! only the user's own key makes ([`key`](crate::trust::key)), and files are checked against the sealed list of what was
//! unpacked when they are read. No link in it is followed.

use crate::{
    Error,
    deb::FileList,
    memory,
    module_file::read_opened,
    trust::{digest::Hasher, key::Key, places},
};
use std::{
    env, fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, SystemTime},
};
use tempfile::{NamedTempFile, TempDir};

/// The list of unpacked files in a folder, written last.
const LIST: &str = ".modmem-files";

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
    /// A path without links, on which nobody else can write.
    wanted: Option<PathBuf>,
    /// Seals what is kept.
    key: Key,
    /// Stands in where the wanted folder cannot be written; removed with this value.
    temporary: OnceLock<TempDir>,
}

impl Cache {
    /// `state`: where the key is.
    ///
    /// # Errors
    /// Somebody else could have written what lies there.
    pub(crate) fn new(wanted: Option<&Path>, state: Option<&Path>) -> Result<Cache, Error> {
        let checked = |path: &Path| match places::check(path, places::user()) {
            // Of no use to this user, as if it could not be written.
            Err(Error::Read { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                Ok(path.to_owned())
            }
            checked => checked,
        };
        let wanted = wanted.map(checked).transpose()?;
        Ok(Cache { key: Key::of(state.filter(|_| wanted.is_some()))?, wanted, temporary: OnceLock::new() })
    }

    /// A folder of the cache, if it is there and nobody else can write to it.
    fn safe(&self, root: &Path, kind: &str) -> Option<PathBuf> {
        let folder = root.join(kind);
        (folder.is_dir() && places::check(&folder, places::user()).ok()? == folder).then_some(folder)
    }

    /// What was unpacked into a folder of the cache, if it is there and this program wrote the list of it.
    pub(crate) fn unpacked(&self, kind: &str, name: &str) -> Option<(PathBuf, FileList)> {
        let temporary = self.temporary.get().and_then(|root| fs::canonicalize(root.path()).ok());
        let roots = self.wanted.iter().chain(&temporary);
        roots.into_iter().find_map(|root| {
            let folder = self.safe(root, kind)?.join(name);
            let text =
                read_opened(places::open(&folder.join(LIST)).ok()?, &folder, memory::of_file()).ok()?;
            let list = FileList::parse(&String::from_utf8(self.unsealed(kind, name, text)?).ok()?)?;
            Some((folder, list))
        })
    }

    /// The bytes behind a seal, if it is ours.
    fn unsealed(&self, kind: &str, name: &str, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let rest = bytes.split_off(end + 1);
        let seal = std::str::from_utf8(&bytes[..end]).ok()?;
        self.key.is_sealed(kind, name, &rest, seal).then_some(rest)
    }

    fn sealed(&self, kind: &str, name: &str, bytes: &[u8]) -> Vec<u8> {
        [self.key.seal(kind, name, bytes).as_bytes(), b"\n", bytes].concat()
    }

    /// The names in one folder of the cache.
    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let folder = self.wanted.as_ref().and_then(|root| self.safe(root, kind));
        let Some(entries) = folder.and_then(|folder| fs::read_dir(folder).ok()) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// A folder to write to: in the cache, or else one that goes with this value.
    pub(crate) fn writable(&self, kind: &str) -> Result<PathBuf, Error> {
        if let Some(root) = &self.wanted {
            match places::make(&root.join(kind), places::user()) {
                Ok(folder) if folder != root.join(kind) => {
                    let why = "is a link".to_owned();
                    return Err(Error::Unsafe { path: root.clone(), at: root.join(kind), why });
                }
                Ok(folder) if TempDir::with_prefix_in(UNFINISHED, &folder).is_ok() => return Ok(folder),
                Err(error @ Error::Unsafe { .. }) => return Err(error),
                _ => {}
            }
        }
        let root = match self.temporary.get() {
            Some(root) => root,
            None => {
                // All may write to it if it is sticky: what we make there is ours.
                let above = env::temp_dir();
                places::check(&above.join("modmem"), places::user())?;
                let made = TempDir::with_prefix("modmem-").map_err(Error::write(above))?;
                self.temporary.get_or_init(|| made)
            }
        };
        let root = fs::canonicalize(root.path()).map_err(Error::read(root.path()))?;
        places::make(&root.join(kind), places::user())
    }

    /// In words, that nothing is kept, where the wanted folder cannot be written.
    pub(crate) fn remark(&self) -> Option<String> {
        let (wanted, _) = self.wanted.as_ref().zip(self.temporary.get())?;
        Some(format!(
            "the cache folder {} cannot be written: what was downloaded and unpacked is not kept (--cache DIR)",
            wanted.display()
        ))
    }

    /// Makes a folder of the cache by letting `fill` write into it and list what it wrote; gives it its name when that is
    /// done.
    pub(crate) fn make(
        &self,
        kind: &str,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<FileList, Error>,
    ) -> Result<(PathBuf, FileList), Error> {
        let folder = self.writable(kind)?;
        sweep(&folder);
        let part = TempDir::with_prefix_in(UNFINISHED, &folder).map_err(Error::write(&folder))?;
        let list = fill(part.path())?;
        let text = self.sealed(kind, name, list.to_text().as_bytes());
        fs::write(part.path().join(LIST), text).map_err(Error::write(part.path()))?;
        let finished = folder.join(name);
        if fs::rename(part.path(), &finished).is_err() {
            // Another process was faster; ours is removed with `part`.
            if let Some(unpacked) = self.unpacked(kind, name) {
                return Ok(unpacked);
            }
            // Of an earlier version, damaged, or somebody's.
            let _ = fs::remove_dir_all(&finished).or_else(|_| fs::remove_file(&finished));
            fs::rename(part.path(), &finished).map_err(Error::write(&finished))?;
        }
        // Renamed away: nothing is left to remove.
        let _ = part.keep();
        Ok((finished, list))
    }

    /// A note kept from an earlier run, as it was kept.
    pub(crate) fn note(&self, kind: &str, name: &str) -> Option<Vec<u8>> {
        let path = self.safe(self.wanted.as_ref()?, kind)?.join(name);
        let bytes = read_opened(places::open(&path).ok()?, &path, memory::of_file()).ok()?;
        self.unsealed(kind, name, bytes)
    }

    /// Keeps a note for later runs, if the cache can be written: notes only save time.
    pub(crate) fn keep_note(&self, kind: &str, name: &str, bytes: &[u8]) {
        let Some(root) = &self.wanted else {
            return;
        };
        let write = || -> Option<()> {
            let folder = places::make(&root.join(kind), places::user()).ok()?;
            let mut file = NamedTempFile::with_prefix_in(UNFINISHED, &folder).ok()?;
            file.write_all(&self.sealed(kind, name, bytes)).ok()?;
            file.persist(folder.join(name)).ok()?;
            Some(())
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

/// Names for the cache that stay the same from one build of this program to the next, and that nobody can make two of.
#[derive(Default)]
pub(crate) struct Fingerprint(Hasher);

impl Fingerprint {
    pub(crate) fn new() -> Fingerprint {
        Fingerprint::default()
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        self.0.add(&(bytes.len() as u64).to_le_bytes());
        self.0.add(bytes);
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
        self.0.digest().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{module_file::Kept, trust::digest::Digest};

    fn cache(root: &Path) -> Cache {
        Cache::new(Some(&root.join("cache")), Some(&root.join("state"))).unwrap()
    }

    fn fill(text: &'static str) -> impl Fn(&Path) -> Result<FileList, Error> {
        move |part| {
            fs::write(part.join("file"), text).map_err(Error::write(part))?;
            let kept = Kept { size: text.len() as u64, digest: Digest::of(text.as_bytes()) };
            Ok(FileList { files: vec![("file".to_owned(), kept)], ..FileList::default() })
        }
    }

    #[test]
    fn a_folder_gets_its_name_only_when_it_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        let failed = cache.make("deb", "x", |part| {
            fs::write(part.join("half"), "h").unwrap();
            Err(Error::malformed("x", "stopped"))
        });
        assert!(failed.is_err());
        assert!(cache.unpacked("deb", "x").is_none());
        assert_eq!(fs::read_dir(root.path().join("cache/deb")).unwrap().count(), 0);
        let (made, list) = cache.make("deb", "x", fill("all")).unwrap();
        let (found, again) = cache.unpacked("deb", "x").unwrap();
        assert_eq!((found, again.files), (made, list.files));
    }

    #[test]
    fn the_second_of_two_processes_uses_what_the_first_made() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        let outer = cache.make("deb", "x", |part| {
            cache.make("deb", "x", fill("first"))?;
            fill("second")(part)
        });
        let (folder, list) = outer.unwrap();
        assert_eq!(fs::read(folder.join("file")).unwrap(), b"first");
        assert_eq!(list.files[0].1.digest, Digest::of(b"first"));
        assert_eq!(cache.names("deb"), ["x"]);
    }

    #[test]
    fn a_folder_that_somebody_planted_or_moved_is_none_of_ours() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        let (folder, list) = cache.make("deb", "x", fill("ours")).unwrap();
        let list_of = |folder: &Path| folder.join(LIST);
        // As the file's own text says, with another key's seal, or of another name.
        let planted = root.path().join("cache/deb/planted");
        fs::create_dir(&planted).unwrap();
        fs::write(list_of(&planted), list.to_text()).unwrap();
        assert!(cache.unpacked("deb", "planted").is_none());
        fs::copy(list_of(&folder), list_of(&planted)).unwrap();
        assert!(cache.unpacked("deb", "planted").is_none());
        let other = Cache::new(Some(&root.path().join("cache")), Some(&root.path().join("other"))).unwrap();
        assert!(other.unpacked("deb", "x").is_none());
        other.keep_note("index", "n", b"theirs");
        assert_eq!(cache.note("index", "n"), None);
        // A list that was changed, and one behind a link.
        let text = fs::read_to_string(list_of(&folder)).unwrap();
        fs::write(list_of(&folder), text.replace(" 4 file", " 5 file")).unwrap();
        assert!(cache.unpacked("deb", "x").is_none());
        fs::write(list_of(&planted), &text).unwrap();
        fs::remove_file(list_of(&folder)).unwrap();
        std::os::unix::fs::symlink(list_of(&planted), list_of(&folder)).unwrap();
        assert!(cache.unpacked("deb", "x").is_none());
        fs::remove_file(list_of(&folder)).unwrap();
        fs::write(list_of(&folder), text).unwrap();
        assert!(cache.unpacked("deb", "x").is_some());
    }

    #[test]
    fn a_cache_that_others_can_write_is_refused_with_words() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let set =
            |folder: &Path, mode| fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        let ours = cache(root.path());
        ours.make("deb", "x", fill("ours")).unwrap();
        let kind = root.path().join("cache/deb");
        set(&kind, 0o777);
        assert!(ours.unpacked("deb", "x").is_none());
        let error = ours.make("deb", "y", fill("ours")).unwrap_err().to_string();
        assert!(error.contains("everybody") && error.contains("--cache DIR"), "{error}");
        set(&kind, 0o755);
        set(&root.path().join("cache"), 0o777);
        let error = Cache::new(Some(&root.path().join("cache")), None).unwrap_err().to_string();
        assert!(error.contains("can be written by everybody (mode 0777)"), "{error}");
    }

    #[test]
    fn nothing_is_written_through_a_link_in_the_cache() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        cache.keep_note("index", "x", b"text");
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "precious").unwrap();
        std::os::unix::fs::symlink(outside.join("file"), root.path().join("cache/index/link")).unwrap();
        cache.keep_note("index", "link", b"text");
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"precious");
        assert_eq!(cache.note("index", "link").unwrap(), b"text");
        std::os::unix::fs::symlink(&outside, root.path().join("cache/deb")).unwrap();
        assert!(cache.make("deb", "x", fill("ours")).unwrap_err().to_string().contains("is a link"));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn without_a_writable_cache_a_temporary_folder_serves_and_goes_away() {
        let cache = Cache::new(Some(Path::new("/proc/no-such-place")), None).unwrap();
        assert_eq!(cache.remark(), None);
        let (folder, _) = cache.make("deb", "x", fill("ours")).unwrap();
        assert!(folder.is_dir() && cache.unpacked("deb", "x").is_some());
        assert!(cache.remark().unwrap().contains("/proc/no-such-place cannot be written"));
        cache.keep_note("index", "x", b"lost");
        drop(cache);
        assert!(!folder.exists());
    }

    #[test]
    fn notes_are_read_back() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        assert!(cache.note("index", "x").is_none());
        cache.keep_note("index", "x", b"text");
        assert_eq!(cache.note("index", "x").unwrap(), b"text");
    }
}
