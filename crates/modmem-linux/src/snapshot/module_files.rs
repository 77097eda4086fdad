//! Module files that a snapshot brings along: `ko.tar.zst`.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use modmem::Visible;

use super::{folder, lines::broken};
use crate::{Error, files::Folder, memory, module_file::module_name};

/// Bytes of all else in the archive: headers and paddings of its files.
const HEADERS: u64 = 64 << 20;

/// An archive of module files, named by their modules. Nothing is read before it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleFiles {
    path: PathBuf,
    /// The folder that it must not lead out of, and its name there.
    inside: (PathBuf, PathBuf),
}

impl ModuleFiles {
    /// An archive in the folder of a snapshot, or of a document.
    pub(crate) fn inside(folder: &Path, name: &str) -> ModuleFiles {
        ModuleFiles { path: folder.join(name), inside: (folder.to_path_buf(), name.into()) }
    }

    /// The archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the archive from its start and calls `each` with every module's name and file.
    pub fn for_each(&self, mut each: impl FnMut(&str, Vec<u8>) -> Result<(), Error>) -> Result<(), Error> {
        let shown = self.path.display().to_string();
        let (folder, name) = &self.inside;
        let file = Folder::open(folder)?.file(name)?;
        let mut archive =
            tar::Archive::new(folder::decompressed(&self.path, file)?.take(memory::of_memory() + HEADERS));
        let (most, most_of_one) = (memory::of_memory(), memory::of_module());
        let mut total = 0;
        for entry in archive.entries().map_err(|error| broken(&shown, error))?.raw(true) {
            let mut entry = entry.map_err(|error| broken(&shown, error))?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(name) = module_name(&path).filter(|_| entry.header().entry_type().is_file()) else {
                continue;
            };
            let size = entry.size();
            if size > most_of_one {
                let file = format!("{shown}: {}", Visible(&path));
                return Err(Error::TooLarge { file, limit: most_of_one });
            }
            total += size;
            if total > most {
                return Err(Error::TooLarge { file: shown, limit: most });
            }
            let mut file = Vec::new();
            entry.read_to_end(&mut file).map_err(|error| broken(&shown, error))?;
            if file.len() as u64 != size {
                return Err(Error::malformed(shown, format!("{} is cut off", Visible(&path))));
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
