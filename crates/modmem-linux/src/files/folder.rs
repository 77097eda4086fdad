//! A folder that somebody else filled: what is read in it is reached by names alone, never through a link, so that
//! nothing outside of it is read and shown.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};

use super::open::{READ, checked, regular};
use crate::Error;

/// A folder, opened.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Folder {
    /// Opens the folder that a user named, through links if need be.
    pub(crate) fn open(path: &Path) -> Result<Folder, Error> {
        let named = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let fd = rustix::fs::open(named, FOLDER, Mode::empty())
            .map_err(|error| Error::read(named)(error.into()))?;
        Ok(Folder { fd, path: path.to_path_buf() })
    }

    /// Opens a file in it.
    pub(crate) fn file(&self, name: &Path) -> Result<File, Error> {
        let shown = self.path.join(name);
        let (above, last) = self.walk(name)?;
        let above = above.as_ref().unwrap_or(&self.fd);
        let failed = |error: Errno| Error::read(&shown)(error.into());
        let found = statat(above, last, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        regular(&shown, found.st_mode)?;
        let file = openat(above, last, READ | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?;
        checked(&shown, file.into())
    }

    /// Whether it has anything but a folder of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        let found = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) != FileType::Directory)
    }

    /// The names in a folder in it, sorted; `None` if there is no such folder.
    pub(crate) fn names(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        let shown = self.path.join(name);
        let failed = |error: Errno| Error::read(&shown)(error.into());
        let folder = match openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(Error::NotAFile {
                    path: shown,
                    what: "a link or a file where a folder should be",
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            names.extend(
                entry
                    .file_name()
                    .to_str()
                    .ok()
                    .filter(|name| !matches!(*name, "." | ".."))
                    .map(str::to_owned),
            );
        }
        names.sort_unstable();
        Ok(Some(names))
    }

    /// The folder that a name's last part is in, if it is not this one, and that part.
    fn walk<'n>(&self, name: &'n Path) -> Result<(Option<OwnedFd>, &'n Path), Error> {
        let shown = || self.path.join(name).display().to_string();
        let mut parts = name.components().filter(|part| *part != Component::CurDir).peekable();
        let mut above: Option<OwnedFd> = None;
        while let Some(part) = parts.next() {
            let Component::Normal(part) = part else {
                return Err(Error::malformed(shown(), "leads out of its folder"));
            };
            if parts.peek().is_none() {
                return Ok((above, Path::new(part)));
            }
            let next =
                openat(above.as_ref().unwrap_or(&self.fd), part, FOLDER | OFlags::NOFOLLOW, Mode::empty());
            above = Some(match next {
                Ok(next) => next,
                // With NOFOLLOW and DIRECTORY a link is no folder.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(Error::malformed(
                        shown(),
                        "a link or a file is on the way, where a folder should be",
                    ));
                }
                Err(error) => return Err(Error::read(shown())(error.into())),
            });
        }
        Err(Error::malformed(shown(), "names no file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Read as _, os::unix::fs::symlink};

    #[test]
    fn no_link_and_no_name_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/file"), "f").unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("sub", root.join("notes")).unwrap();
        let folder = Folder::open(&root).unwrap();
        let mut text = String::new();
        folder.file(Path::new("./sub/file")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "f");
        assert_eq!(folder.names("sub").unwrap().unwrap(), ["file"]);
        assert_eq!(folder.names("none").unwrap(), None);
        assert!(folder.names("notes").unwrap_err().to_string().contains("a link"));
        for (name, why) in [
            ("link", "a link"),
            ("up/secret", "a link"),
            ("../secret", "leads out"),
            ("/etc/passwd", "leads out"),
            ("sub", "a folder"),
            ("", "names no file"),
        ] {
            let error = folder.file(Path::new(name)).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert!(folder.has("link") && !folder.has("sub") && !folder.has("none"));
    }
}
