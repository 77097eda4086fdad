//! Odd modules, and what Linux does with them: each answer was read in its source, or given by a kernel that was asked.

#[path = "../support/mod.rs"]
mod support;

mod kernel;
mod versions;
