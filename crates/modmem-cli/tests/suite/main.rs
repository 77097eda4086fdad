//! The command as a user types it.
//!
//! One program: linking is what takes long.

mod cli;
mod hostile;
mod machine;
mod snapshots;
mod verify;
