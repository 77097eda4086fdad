//! Who else could have written what lies at a path, and how to open it without being led elsewhere.

use crate::{Error, inside::parts};
use rustix::fs::{Mode, OFlags, openat};
use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// Links of links, before a circle is what they are: Linux's MAXSYMLINKS.
const MAX_LINKS: usize = 40;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// The user who runs this program, as files go.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Follows a path from the root, as far as it is there, and refuses it if somebody else than root and `user` can write
/// anywhere on it, or owns a part of it. What is there without links is the result, with what is not there yet behind it.
///
/// In a sticky folder that all can write (`/tmp`) nobody removes or renames what belongs to others.
pub(crate) fn check(path: &Path, user: u32) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path).map_err(Error::read(path))?;
    let refused =
        |at: &Path, why: String| Error::Unsafe { path: path.to_path_buf(), at: at.to_path_buf(), why };
    let mut real = PathBuf::from("/");
    let mut rest = parts(&absolute);
    let mut links = 0;
    loop {
        let metadata = fs::symlink_metadata(&real).map_err(Error::read(&real))?;
        judge(&metadata, user, !rest.is_empty()).map_err(|why| refused(&real, why))?;
        let Some(part) = rest.pop() else { return Ok(real) };
        if part == ".." {
            real.pop();
            continue;
        }
        let here = real.join(&part);
        let metadata = match fs::symlink_metadata(&here) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // What is to be made next must not be made by others first, in a folder where all may make things.
                return Ok(rest.into_iter().rev().fold(here, |path, part| path.join(part)));
            }
            metadata => metadata.map_err(Error::read(&here))?,
        };
        if !metadata.is_symlink() {
            real = here;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(refused(&here, "is a link of links in a circle".into()));
        }
        owned(&metadata, user).map_err(|why| refused(&here, why))?;
        let target = fs::read_link(&here).map_err(Error::read(&here))?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        rest.extend(parts(&target));
    }
}

/// Makes a folder that only its owner can use, and those above it that are not there, and checks what is there then.
pub(crate) fn make(path: &Path, user: u32) -> Result<PathBuf, Error> {
    let real = check(path, user)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&real).map_err(Error::write(&real))?;
    check(&real, user)
}

fn owned(metadata: &Metadata, user: u32) -> Result<(), String> {
    match metadata.uid() {
        owner if owner == user || owner == 0 => Ok(()),
        owner => Err(format!("belongs to user {owner}")),
    }
}

/// `leads_on`: it is a folder on the way, so that its being sticky helps.
fn judge(metadata: &Metadata, user: u32, leads_on: bool) -> Result<(), String> {
    owned(metadata, user)?;
    let mode = metadata.mode();
    if mode & WRITABLE_BY_OTHERS == 0 || (leads_on && metadata.is_dir() && mode & STICKY != 0) {
        return Ok(());
    }
    let who = if mode & 0o002 != 0 { "everybody" } else { "its group" };
    Err(format!("can be written by {who} (mode {:04o})", mode & 0o7777))
}

/// Opens a regular file that a path without links leads to, following none, and waiting for nobody.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    let wrong = |error: rustix::io::Errno| Error::read(path)(error.into());
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut names = parts(path);
    if !path.is_absolute() || names.iter().any(|name| name == "..") {
        return Err(Error::malformed(path.display().to_string(), "no plain path"));
    }
    let mut at = rustix::fs::open("/", folder, Mode::empty()).map_err(wrong)?;
    while let Some(name) = names.pop() {
        let flags = if names.is_empty() { file } else { folder };
        at = openat(&at, &name, flags, Mode::empty()).map_err(wrong)?;
    }
    let opened = File::from(at);
    match opened.metadata().map_err(Error::read(path))?.is_file() {
        true => Ok(opened),
        false => Err(Error::malformed(path.display().to_string(), "no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused_wherever_it_is_on_the_path() {
        let top = tempfile::tempdir().unwrap();
        let middle = top.path().join("middle");
        let end = middle.join("end");
        fs::create_dir_all(&end).unwrap();
        set(&middle, 0o755);
        set(&end, 0o755);
        assert_eq!(check(&end, user()).unwrap(), fs::canonicalize(&end).unwrap());
        for (mode, words) in [(0o777, "everybody"), (0o775, "its group"), (0o757, "everybody")] {
            for folder in [&middle, &end] {
                set(folder, mode);
                let error = check(&end.join("not/there"), user()).unwrap_err().to_string();
                assert!(error.contains(words) && error.contains(folder.to_str().unwrap()), "{error}");
                set(folder, 0o755);
            }
        }
        // Sticky helps on the way, and not in the end.
        set(&middle, 0o1777);
        check(&end, user()).unwrap();
        set(&end, 0o1777);
        assert!(check(&end, user()).is_err());
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused_and_a_link_is_what_it_leads_to() {
        let top = tempfile::tempdir().unwrap();
        let [open_to_all, link] = ["open", "link"].map(|name| top.path().join(name));
        fs::create_dir(&open_to_all).unwrap();
        symlink(&open_to_all, &link).unwrap();
        assert_eq!(
            check(&link.join("x"), user()).unwrap(),
            fs::canonicalize(&open_to_all).unwrap().join("x")
        );
        set(&open_to_all, 0o777);
        assert!(check(&link, user()).is_err());
        if user() == 0 {
            set(&open_to_all, 0o755);
            std::os::unix::fs::chown(&open_to_all, Some(65_534), None).unwrap();
            let error = check(&link, 0).unwrap_err().to_string();
            assert!(error.contains("belongs to user 65534"), "{error}");
            // It is his own.
            std::os::unix::fs::chown(top.path(), Some(65_534), None).unwrap();
            std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
            check(&link, 65_534).unwrap();
        }
    }

    #[test]
    fn nothing_is_opened_through_a_link_and_only_files_are() {
        let top = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(top.path()).unwrap();
        fs::create_dir(top.join("folder")).unwrap();
        fs::write(top.join("folder/file"), "text").unwrap();
        symlink(top.join("folder"), top.join("link")).unwrap();
        symlink(top.join("folder/file"), top.join("folder/other")).unwrap();
        open(&top.join("folder/file")).unwrap();
        for path in ["link/file", "folder/other", "folder", "folder/../folder/file", "none"] {
            assert!(open(&top.join(path)).is_err(), "{path}");
        }
    }
}
