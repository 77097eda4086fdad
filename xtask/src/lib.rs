//! Chores of the modmem repository, as a library that its tests use too.

pub mod freestanding;
pub mod goldens;
pub mod oracle;
pub mod whole_package;
