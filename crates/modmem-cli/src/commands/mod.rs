//! The commands, one a file.

pub(crate) mod footprint;
pub(crate) mod info;
pub(crate) mod load;
pub(crate) mod lookup;
pub(crate) mod map;
pub(crate) mod snapshot;
pub(crate) mod symbolize;
pub(crate) mod verify;
