//! The library as who embeds it sees it.
//!
//! One program: linking is what takes long.

mod arm64;
mod goldens;
mod growth;
mod hostile;
mod loading;
mod odd;
mod ppc32;
mod readers;
mod s390x;
mod support;
mod verifying;
mod views;
