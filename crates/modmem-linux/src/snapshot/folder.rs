//! A snapshot as a folder: each member a file, compressed or not.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use super::{
    ModuleFiles, Snapshot,
    lines::broken,
    members::{MEMORY, Members, NOTES, SYMBOLS, TEXT_MEMBERS},
};
use crate::{Error, files::Folder};

/// Names of the archive that holds the modules' files.
const MODULE_FILES: [&str; 2] = ["ko.tar", "ko.tar.zst"];
/// Bytes read at once.
const BUFFER: usize = 1 << 16;

pub(crate) fn read(path: &Path) -> Result<Snapshot, Error> {
    let mut members = Members::default();
    let folder = Folder::open(path)?;
    let mut member = |name: &str, file: &str| -> Result<(), Error> {
        let shown = path.join(file);
        let input = decompressed(&shown, folder.file(Path::new(file))?)?;
        members.read(name, &shown.display().to_string(), input).map(drop)
    };
    for name in TEXT_MEMBERS.into_iter().chain([SYMBOLS, MEMORY]) {
        // Plain or compressed.
        let candidates = [name.to_owned(), format!("{name}.zst")];
        if let Some(file) = candidates.iter().find(|file| folder.has(file)) {
            member(name, file)?;
        }
    }
    for name in folder.names(NOTES.trim_end_matches('/'))?.into_iter().flatten() {
        let name = format!("{NOTES}{name}");
        member(&name, &name)?;
    }
    if let Some(name) = MODULE_FILES.iter().find(|name| folder.has(name)) {
        members.set_module_files(ModuleFiles::inside(path, name));
    }
    members.finish(&path.display().to_string())
}

/// What is in a file, decompressed if its name says that it is compressed.
pub(crate) fn decompressed(path: &Path, file: File) -> Result<Box<dyn BufRead>, Error> {
    let mut file = BufReader::with_capacity(BUFFER, file);
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
