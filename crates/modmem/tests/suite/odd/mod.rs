//! Odd modules, and what Linux does with them: each answer was read in its source, or given by a kernel that was asked.

mod api;
mod kernel;
mod livepatch;
mod names;
mod sections;
mod symbols;
mod versions;
