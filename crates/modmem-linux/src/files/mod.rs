//! How files are opened and made, everywhere in this crate: what is read may have been put there by an enemy, and what is
//! written may be written as root.
//!
//! Reading: only regular files, never waiting ([`open`]); of a snapshot's folder, nothing through a link ([`Folder`]).
//! Writing: a new file of a random name in the target's folder, renamed when it is whole ([`NewFile`]).

mod folder;
mod open;
mod shared;
mod write;

pub(crate) use self::{folder::Folder, open::open};
pub use self::{
    shared::{Caller, caller},
    write::{NewFile, Output, WriteOptions},
};
