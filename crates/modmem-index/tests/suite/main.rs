//! The index as who embeds it sees it. What needs a process of its own is beside this program.
//!
//! One program: linking is what takes long.

mod model;
mod ppc32_words;
mod registry;
