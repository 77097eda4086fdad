//! The sample kernel that is part of the program, so that every command works without a package or a network.

/// Path and contents of each file; the sources are in `samples/`.
pub(crate) const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sample.rs"));
