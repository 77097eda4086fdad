//! A snapshot as a folder: each member a file, compressed or not.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{
    ModuleFiles, Snapshot,
    lines::broken,
    members::{MEMORY, Members, NOTES, SYMBOLS, TEXT_MEMBERS},
};
use crate::Error;

/// Names of the archive that holds the modules' files.
const MODULE_FILES: [&str; 2] = ["ko.tar", "ko.tar.zst"];
/// Bytes read at once.
const BUFFER: usize = 1 << 16;

pub(crate) fn read(folder: &Path) -> Result<Snapshot, Error> {
    let mut members = Members::default();
    for name in TEXT_MEMBERS.into_iter().chain([SYMBOLS, MEMORY]) {
        if let Some(path) = find(folder, name) {
            members.read(name, &path.display().to_string(), open(&path)?)?;
        }
    }
    let notes = folder.join(NOTES);
    if notes.is_dir() {
        for entry in fs::read_dir(&notes).map_err(Error::read(&notes))? {
            let path = entry.map_err(Error::read(&notes))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            members.read(&format!("{NOTES}{name}"), &path.display().to_string(), open(&path)?)?;
        }
    }
    if let Some(path) = MODULE_FILES.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
        members.set_module_files(ModuleFiles::at(path));
    }
    members.finish(&folder.display().to_string())
}

/// The file of a member, plain or compressed.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let candidates = [folder.join(name), folder.join(format!("{name}.zst"))];
    candidates.into_iter().find(|path| path.is_file())
}

/// Opens a file, decompressing it if it is compressed.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>, Error> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(Error::read(path))?);
    if path.extension().is_none_or(|extension| extension != "zst") {
        return Ok(Box::new(file));
    }
    // An empty file is no empty stream.
    if file.fill_buf().map_err(Error::read(path))?.is_empty() {
        return Err(Error::malformed(path.display().to_string(), "empty"));
    }
    let decoder = zstd::stream::read::Decoder::with_buffer(file);
    let decoder = decoder.map_err(|error| broken(&path.display().to_string(), error))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
}
