//! Who runs this program, and which folders only they can change.

use std::{
    env,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, Stat, fstat, openat},
    process::{Gid, Uid, geteuid},
};

use crate::Error;

/// A user who lets this program run as root by sudo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its number.
    pub uid: u32,
    /// That of its group.
    pub gid: u32,
}

/// Who called sudo, where sudo says so and this is root: nobody else's word counts.
pub fn caller() -> Option<Caller> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    let is_user = |number: &u32| *number != 0 && *number != u32::MAX;
    if !geteuid().is_root() {
        return None;
    }
    Some(Caller { uid: number("SUDO_UID").filter(is_user)?, gid: number("SUDO_GID").filter(is_user)? })
}

const WALK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a folder to write in. With `private`, as root, only if nobody but root and who called sudo can write to it or
/// put another folder in its place.
pub(super) fn open_to_write(folder: &Path, private: bool) -> Result<OwnedFd, Error> {
    let named = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let failed = |error: rustix::io::Errno| Error::write(folder)(error.into());
    if !private || !geteuid().is_root() {
        return rustix::fs::open(named, WALK - OFlags::NOFOLLOW, Mode::empty()).map_err(failed);
    }
    // Links are followed once; what they led to is walked without any.
    let real = named.canonicalize().map_err(Error::write(folder))?;
    let mut fd = rustix::fs::open("/", WALK, Mode::empty()).map_err(failed)?;
    let mut walked = PathBuf::from("/");
    for part in real.components().skip(1) {
        check(&walked, &fstat(&fd).map_err(failed)?, true)?;
        fd = openat(&fd, part.as_os_str(), WALK, Mode::empty()).map_err(failed)?;
        walked.push(part);
    }
    check(&walked, &fstat(&fd).map_err(failed)?, false)?;
    Ok(fd)
}

/// Whether others can change what is in a folder; on the way to another, a folder like /tmp keeps each one's own.
fn check(path: &Path, found: &Stat, on_the_way: bool) -> Result<(), Error> {
    let mode = Mode::from_raw_mode(found.st_mode);
    let owner = Uid::from_raw(found.st_uid);
    let is_trusted = owner.is_root() || caller().is_some_and(|caller| caller.uid == found.st_uid);
    let by_group = mode.contains(Mode::WGRP) && !Gid::from_raw(found.st_gid).is_root();
    let is_sticky = on_the_way && mode.contains(Mode::SVTX);
    let who = if !is_trusted {
        format!("it belongs to user {}", found.st_uid)
    } else if mode.contains(Mode::WOTH) && !is_sticky {
        "everybody can write to it".to_owned()
    } else if by_group && !is_sticky {
        format!("group {} can write to it", found.st_gid)
    } else {
        return Ok(());
    };
    Err(Error::SharedFolder { folder: path.to_path_buf(), who })
}
