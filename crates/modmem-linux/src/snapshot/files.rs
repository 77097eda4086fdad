//! Module files that a snapshot brings along: `ko.tar.zst`.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{folder, lines::broken};
use crate::{Error, module_file::module_name};

/// Bytes of all modules' files together.
const MOST_BYTES: u64 = 2 << 30;

/// An archive of module files, named by their modules. Nothing is read before it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleFiles {
    path: PathBuf,
}

impl ModuleFiles {
    pub(crate) fn at(path: PathBuf) -> ModuleFiles {
        ModuleFiles { path }
    }

    /// The archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the archive from its start and calls `each` with every module's name and file.
    pub fn for_each(&self, mut each: impl FnMut(&str, Vec<u8>) -> Result<(), Error>) -> Result<(), Error> {
        let shown = self.path.display().to_string();
        let mut archive = tar::Archive::new(folder::open(&self.path)?);
        let mut total = 0;
        for entry in archive.entries().map_err(|error| broken(&shown, error))?.raw(true) {
            let mut entry = entry.map_err(|error| broken(&shown, error))?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(name) = module_name(&path).filter(|_| entry.header().entry_type().is_file()) else {
                continue;
            };
            let size = entry.size();
            total += size.min(MOST_BYTES);
            if total > MOST_BYTES {
                return Err(Error::TooLarge { file: shown, limit: MOST_BYTES });
            }
            let mut file = Vec::new();
            entry.read_to_end(&mut file).map_err(|error| broken(&shown, error))?;
            if file.len() as u64 != size {
                return Err(Error::malformed(shown, format!("{} is cut off", path.escape_debug())));
            }
            each(&name, file)?;
        }
        Ok(())
    }

    /// Reads all files.
    pub fn read(&self) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let mut files = BTreeMap::new();
        self.for_each(|name, file| {
            files.insert(name.to_owned(), file);
            Ok(())
        })?;
        Ok(files)
    }
}
