//! Chores of the modmem repository, as a library that its tests use too.

pub mod adversary;
pub mod bench;
pub mod bench_machines;
pub mod bench_verify;
mod command;
pub mod compare;
pub mod conformance;
pub mod dependencies;
pub mod differential;
pub mod freestanding;
pub mod fuzz;
pub mod goldens;
pub mod kmod;
pub mod loaded;
pub mod loom;
pub mod machine_states;
pub mod machines;
mod marked;
pub mod mod_tree;
pub mod oracle;
pub mod picture;
pub mod pokes;
mod random;
pub mod replay;
pub mod tamper;
pub mod whole_package;
