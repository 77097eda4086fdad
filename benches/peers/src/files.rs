//! The modules, in memory.

use std::fs;
use std::io;
use std::path::Path;

/// A module file's bytes, aligned as mapped files are.
#[derive(Debug)]
pub(crate) struct File {
    /// File name without `.ko`.
    pub(crate) name: String,
    words: Vec<u64>,
    len: usize,
}

impl File {
    /// The whole file.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `words` holds at least `len` initialised bytes, and any byte is a valid `u8`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }
}

/// Reads every `*.ko` of a folder, in the order of their names.
pub(crate) fn read_all(folder: &Path) -> io::Result<Vec<File>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| entry.map(|e| e.path()))
        .filter(|path| path.as_ref().map_or(true, |p| p.extension().is_some_and(|e| e == "ko")))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> io::Result<File> {
    let bytes = fs::read(path)?;
    let words = bytes
        .chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        })
        .collect();
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(File { name, words, len: bytes.len() })
}
