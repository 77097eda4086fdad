//! What a kernel's files rest on: packages of an archive, or what somebody gave by hand.

use crate::{deb::Package, trust::digest::Digest};
use std::path::PathBuf;

/// One thing that a kernel's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ground {
    /// A package of an archive, which the archive's key vouches for.
    Archive(Package),
    /// A package's file that somebody gave by hand.
    File {
        /// Where it was.
        path: PathBuf,
        /// What it was.
        digest: Digest,
    },
    /// A folder that somebody gave by hand, or this machine's own.
    Folder(PathBuf),
    /// Files that the program brings along.
    Program,
}
