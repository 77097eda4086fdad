//! What needs all of the repository at once, recorded kernels among it.
//!
//! One program: linking is what takes long.

mod adversary;
mod alarms;
mod hooks;
mod house;
mod oracle;
mod oracle_addresses;
mod oracle_bytes;
mod oracle_images;
mod oracle_lookups;
mod oracle_mod_tree;
mod oracle_snapshots;
mod oracle_verify;
mod oracle_views;
mod second_linker;
#[path = "../../../crates/modmem/tests/suite/support/mod.rs"]
mod support;
mod tampering;
