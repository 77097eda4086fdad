//! Opening a file to read it.

use std::{fs, fs::File, path::Path};

use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat};

use crate::Error;

/// What an open never does: wait for somebody to open the other end of a pipe, become the terminal of the process, or
/// leak into programs that are run.
pub(super) const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// Opens a regular file. What else has a name (pipes, sockets, devices) would wait for ever, never end, or do something
/// when it is opened.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    // Opening alone starts some devices: what is none is known before.
    let found = fs::metadata(path).map_err(Error::read(path))?;
    regular(path, std::os::unix::fs::MetadataExt::mode(&found))?;
    let file =
        rustix::fs::open(path, READ, Mode::empty()).map_err(|error| Error::read(path)(error.into()))?;
    checked(path, file.into())
}

/// The same of what was opened with [`READ`]: another file may have come to its place.
pub(super) fn checked(path: &Path, file: File) -> Result<File, Error> {
    let failed = |error: rustix::io::Errno| Error::read(path)(error.into());
    regular(path, fstat(&file).map_err(failed)?.st_mode)?;
    let flags = fcntl_getfl(&file).map_err(failed)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(failed)?;
    Ok(file)
}

/// Whether a mode is that of a regular file.
pub(super) fn regular(path: &Path, mode: u32) -> Result<(), Error> {
    let what = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a folder",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::Symlink => "a link",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    };
    Err(Error::NotAFile { path: path.to_path_buf(), what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mknodat};
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        fs::write(path("file"), "f").unwrap();
        std::os::unix::fs::symlink("pipe", path("to-pipe")).unwrap();
        std::os::unix::fs::symlink("file", path("to-file")).unwrap();
        for (name, what) in
            [("pipe", "a pipe"), ("socket", "a socket"), ("to-pipe", "a pipe"), (".", "a folder")]
        {
            let error = open(&path(name)).unwrap_err().to_string();
            assert!(error.contains(what), "{name}: {error}");
        }
        assert!(open(Path::new("/dev/zero")).unwrap_err().to_string().contains("a device"));
        for name in ["file", "to-file"] {
            let file = open(&path(name)).unwrap();
            assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::NONBLOCK), "{name}");
        }
        assert!(open(Path::new("/proc/self/status")).is_ok());
    }
}
