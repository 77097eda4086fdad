//! Making a file.

use std::{
    ffi::OsString,
    fs::{self, File},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::FileTypeExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, fchmod, openat, renameat, unlinkat},
    io::Errno,
};

use super::shared::open_to_write;
use crate::Error;

/// How often another random name is tried.
const ATTEMPTS: usize = 16;

/// Who may read and change what is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Nobody else may read it, whatever the umask.
    pub private: bool,
    /// As root too, write to a folder that others can write to.
    pub in_shared_folders: bool,
}

/// A file in the making. It has a random name in the folder of its target, and becomes the target when it is
/// [kept](NewFile::keep): whoever had the target open has the old one, and a link is replaced and not followed. Dropped
/// before, nothing of it is left.
#[derive(Debug)]
pub struct NewFile {
    folder: OwnedFd,
    draft: Option<String>,
    name: OsString,
    file: File,
    shown: PathBuf,
}

impl NewFile {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// The folder cannot be written to, or, as root, others can write to it.
    pub fn create(path: &Path, options: WriteOptions) -> Result<NewFile, Error> {
        let failed = |error: Errno| Error::write(path)(error.into());
        let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir();
        let Some(name) = path.file_name().filter(|_| !is_folder) else {
            return Err(Error::write(path)(io::ErrorKind::IsADirectory.into()));
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = open_to_write(folder, !options.in_shared_folders).map_err(|error| match error {
            Error::Write { source, .. } => Error::write(path)(source),
            other => other,
        })?;
        let mode = match options.private {
            true => Mode::RUSR | Mode::WUSR,
            false => Mode::from_raw_mode(0o666),
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            let draft = random_name();
            let file = match openat(&folder, draft.as_str(), flags, mode) {
                Err(Errno::EXIST) => continue,
                file => File::from(file.map_err(failed)?),
            };
            let name = name.to_owned();
            let new = NewFile { folder, draft: Some(draft), name, file, shown: path.to_path_buf() };
            if options.private {
                // Some umasks take away what the owner needs.
                fchmod(&new.file, mode).map_err(failed)?;
            }
            return Ok(new);
        }
        Err(failed(Errno::EXIST))
    }

    /// Where to write.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// It cannot be written to the end, or there is a folder of that name.
    pub fn keep(mut self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::write(&self.shown))?;
        if let Some(draft) = self.draft.take() {
            let renamed = renameat(&self.folder, draft.as_str(), &self.folder, self.name.as_os_str());
            if let Err(error) = renamed {
                self.draft = Some(draft);
                return Err(Error::write(&self.shown)(error.into()));
            }
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(draft) = self.draft.take() {
            // Nobody is left to be told.
            let _ = unlinkat(&self.folder, draft.as_str(), AtFlags::empty());
        }
    }
}

/// A name that nobody can know before: each of these hashers is keyed by the system's random numbers.
fn random_name() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!(".modmem-{:016x}{:016x}", number(), number())
}

/// Where a user wants something written.
#[derive(Debug)]
pub enum Output {
    /// Standard output, `-` or `/dev/stdout`.
    Stdout,
    /// A pipe or device that is there: it cannot be replaced.
    Special(File, PathBuf),
    /// A file.
    File(NewFile),
}

impl Output {
    /// Opens what a user named.
    ///
    /// # Errors
    /// As of [`NewFile::create`].
    pub fn open(path: &Path, options: WriteOptions) -> Result<Output, Error> {
        if Output::is_stdout(path) {
            return Ok(Output::Stdout);
        }
        // Names such as /dev/fd/3 are links that stand for what is open, and must not be replaced.
        let is_open = ["/dev/fd", "/dev/stderr", "/proc"].iter().any(|start| path.starts_with(start));
        let found = if is_open { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let is_special = found.is_ok_and(|found| {
            let kind = found.file_type();
            kind.is_fifo() || kind.is_char_device() || (is_open && !kind.is_dir())
        });
        if !is_special {
            return NewFile::create(path, options).map(Output::File);
        }
        if !is_open {
            // Who can put a pipe there can read what comes out of it.
            open_to_write(path.parent().unwrap_or(Path::new("")), !options.in_shared_folders)?;
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let flags = if is_open { flags } else { flags | OFlags::NOFOLLOW };
        let file =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| Error::write(path)(error.into()))?;
        Ok(Output::Special(file.into(), path.to_path_buf()))
    }

    /// Whether that is one of the names of standard output.
    pub fn is_stdout(path: &Path) -> bool {
        ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path.as_os_str() == *name)
    }

    /// Lets `write` write it, and keeps it if that succeeds.
    ///
    /// # Errors
    /// What went wrong in writing. Of standard output it is the plain error, so that a reader who hung up can be told.
    pub fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
        match self {
            Output::Stdout => {
                let mut out = io::stdout().lock();
                write(&mut out).and_then(|()| out.flush()).map_err(Error::Stdout)
            }
            Output::Special(mut file, path) => write(&mut file).map_err(Error::write(path)),
            Output::File(mut new) => {
                write(new.file()).map_err(Error::write(&new.shown))?;
                new.keep()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{fs::FileType, process::geteuid};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn write(path: &Path, options: WriteOptions, text: &str) -> Result<(), Error> {
        Output::open(path, options)?.write(|out| out.write_all(text.as_bytes()))
    }

    const PRIVATE: WriteOptions = WriteOptions { private: true, in_shared_folders: false };

    fn names(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_link_is_replaced_and_what_it_names_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("precious"), "old").unwrap();
        symlink("precious", path("out")).unwrap();
        write(&path("out"), PRIVATE, "new").unwrap();
        assert_eq!(fs::read_to_string(path("precious")).unwrap(), "old");
        assert_eq!(fs::read_to_string(path("out")).unwrap(), "new");
        assert!(fs::symlink_metadata(path("out")).unwrap().is_file());
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn who_had_the_old_file_open_does_not_see_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.mms");
        fs::write(&path, "mine").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let open = fs::File::open(&path).unwrap();
        write(&path, PRIVATE, "secret").unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "mine");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn nothing_is_left_of_what_failed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let output = Output::open(&path, PRIVATE).unwrap();
        assert!(output.write(|_| Err(io::Error::other("stopped"))).is_err());
        assert!(names(folder.path()).is_empty());
        let error = Output::open(folder.path(), PRIVATE).unwrap_err().to_string();
        assert!(error.contains("directory"), "{error}");
        assert!(
            write(&folder.path().join("absent/out"), PRIVATE, "")
                .unwrap_err()
                .to_string()
                .contains("absent/out")
        );
    }

    #[test]
    fn pipes_and_devices_are_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        write(&pipe, PRIVATE, "through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        write(Path::new("/dev/null"), PRIVATE, "gone").unwrap();
    }

    #[test]
    fn root_writes_to_shared_folders_only_if_asked() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        let inner = shared.join("inner");
        fs::create_dir(&inner).unwrap();
        for mode in [0o777, 0o1777] {
            fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
            let written = write(&shared.join("out"), PRIVATE, "new");
            match geteuid().is_root() {
                true => assert!(written.unwrap_err().to_string().contains("everybody can write"), "{mode:o}"),
                false => written.unwrap(),
            }
            // In a folder such as /tmp nobody can replace another one's folder.
            let below = write(&inner.join("out"), PRIVATE, "new");
            assert_eq!(below.is_err(), geteuid().is_root() && mode == 0o777, "{mode:o}");
        }
        let asked = WriteOptions { in_shared_folders: true, ..PRIVATE };
        write(&shared.join("out"), asked, "new").unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::chown(&inner, Some(12345), None).unwrap();
            let error = write(&inner.join("out"), PRIVATE, "new").unwrap_err().to_string();
            assert!(error.contains("--allow-shared-folder"), "{error}");
        }
    }
}
