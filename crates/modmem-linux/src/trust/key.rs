//! A key of the user's own: what this program keeps for itself carries a code that only who has the key can make.

use super::{digest::Digest, places};
use crate::Error;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::{
    env,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// The file's name.
const NAME: &str = "key";

/// Where the key is unless [`OpenOptions`](crate::OpenOptions) says otherwise: `modmem` in the user's folder for state.
///
/// `None` if the environment names neither `XDG_STATE_HOME` nor `HOME`.
pub fn default_state_folder() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("modmem"))
}

/// The key, which is never shown.
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key in a folder, which is made if it is not there. Where nothing can be kept, one for this run alone.
    pub(crate) fn of(folder: Option<&Path>) -> Result<Key, Error> {
        let Some(folder) = folder else { return Key::random() };
        let folder = match places::make(folder, places::user()) {
            Ok(folder) => folder,
            Err(Error::Write { .. }) => return Key::random(),
            // Another user's folder, after rights were given up.
            Err(Error::Read { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                return Key::random();
            }
            Err(error) => return Err(error),
        };
        let path = folder.join(NAME);
        if let Some(key) = Key::read(&path)? {
            return Ok(key);
        }
        let key = Key::random()?;
        // Its mode is 0600 from the beginning. Another process may be faster: then its key counts.
        let Ok(mut file) = NamedTempFile::with_prefix_in(".part-", &folder) else { return Ok(key) };
        file.write_all(&key.0).and_then(|()| file.as_file().sync_all()).map_err(Error::write(&path))?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(key),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                Key::read(&path)?.map_or_else(Key::random, Ok)
            }
            Err(error) => Err(Error::write(&path)(error.error)),
        }
    }

    fn random() -> Result<Key, Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| Error::malformed("random numbers", error.to_string()))?;
        Ok(Key(key))
    }

    /// `None` if there is none yet.
    fn read(path: &Path) -> Result<Option<Key>, Error> {
        let mut file = match places::open(path) {
            Err(Error::Read { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata().map_err(Error::read(path))?;
        let wrong = |why: &str| {
            let advice = "remove it: packages are then fetched and unpacked again";
            Error::malformed(path.display().to_string(), format!("{why}; {advice}"))
        };
        if metadata.uid() != places::user() || metadata.mode() & 0o077 != 0 {
            return Err(wrong("this key is not its owner's alone"));
        }
        let mut key = [0; 32];
        if metadata.len() != key.len() as u64 || file.read_exact(&mut key).is_err() {
            return Err(wrong("no key (another length)"));
        }
        Ok(Some(Key(key)))
    }

    fn code(&self, kind: &str, name: &str, bytes: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let mut code = Hmac::new_from_slice(&self.0).unwrap_or_else(|_| Hmac::new(&[0; 64].into()));
        for part in [kind.as_bytes(), name.as_bytes(), bytes] {
            code.update(&(part.len() as u64).to_le_bytes());
            code.update(part);
        }
        code
    }

    /// What proves that who had the key wrote these bytes, under this name.
    pub(crate) fn seal(&self, kind: &str, name: &str, bytes: &[u8]) -> String {
        let code: [u8; 32] = self.code(kind, name, bytes).finalize().into_bytes().into();
        code.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a seal is that of these bytes; it takes as long whatever it is.
    pub(crate) fn is_sealed(&self, kind: &str, name: &str, bytes: &[u8], seal: &str) -> bool {
        let seal = Digest::parse(seal);
        seal.is_some_and(|seal| self.code(kind, name, bytes).verify_slice(seal.as_bytes()).is_ok())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn a_seal_is_of_one_key_name_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let [own, other] = ["own", "other"].map(|name| Key::of(Some(&folder.path().join(name))).unwrap());
        let again = Key::of(Some(&folder.path().join("own"))).unwrap();
        let seal = own.seal("kind", "name", b"bytes");
        assert!(again.is_sealed("kind", "name", b"bytes", &seal));
        assert!(!other.is_sealed("kind", "name", b"bytes", &seal));
        for (kind, name, bytes) in
            [("kin", "dname", "bytes"), ("kind", "nam", "bytes"), ("kind", "name", "byte")]
        {
            assert!(!own.is_sealed(kind, name, bytes.as_bytes(), &seal));
        }
        assert!(!own.is_sealed("kind", "name", b"bytes", &seal[1..]));
    }

    #[test]
    fn the_key_is_its_owner_s_alone_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        Key::of(Some(folder.path())).unwrap();
        let path = folder.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Key::of(Some(folder.path())).unwrap_err().to_string().contains("remove it"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(Key::of(Some(folder.path())).is_err());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Key::of(Some(folder.path())).unwrap_err().to_string().contains("everybody"));
    }
}
