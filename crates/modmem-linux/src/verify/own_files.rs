//! The module files that a snapshot brings along, in the order in which they are wanted.
//!
//! An archive is read from its start, modules are compared in the order of their loading, and all files together may be
//! larger than the memory that they are compared with: they wait in a temporary file.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use crate::Error;
use crate::snapshot::Snapshot;

/// The files of a snapshot's modules, by name.
#[derive(Debug)]
pub struct OwnFiles {
    file: File,
    /// Where in it each module's file begins, and its bytes.
    places: HashMap<String, (u64, usize)>,
}

impl OwnFiles {
    /// Unpacks the files that `snapshot` brings along, if it does.
    ///
    /// # Errors
    /// The archive is damaged, or there is no room for temporary files.
    pub fn of(snapshot: &Snapshot) -> Result<Option<OwnFiles>, Error> {
        let Some(archive) = &snapshot.module_files else { return Ok(None) };
        let mut file = tempfile::tempfile().map_err(Error::write(std::env::temp_dir()))?;
        let mut places = HashMap::new();
        let mut end = 0;
        archive.for_each(|name, contents| {
            file.write_all(&contents).map_err(Error::write(std::env::temp_dir()))?;
            places.insert(name.to_owned(), (end, contents.len()));
            end += contents.len() as u64;
            Ok(())
        })?;
        Ok(Some(OwnFiles { file, places }))
    }

    /// Whether there is a file of this module.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The file of a module.
    ///
    /// # Errors
    /// It cannot be read back.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(&(start, length)) = self.places.get(name) else { return Ok(None) };
        let mut contents = vec![0; length];
        self.file.read_exact_at(&mut contents, start).map_err(Error::read("a temporary file"))?;
        Ok(Some(contents))
    }
}
