//! s390x modules of our own making, for what real ones rarely show: GOT and PLT, branches out of reach, patched code.

#![cfg(feature = "s390x")]

mod alternatives;
mod guest;
mod linking;
mod module;
mod stack_protector;
mod tables;
mod tracing;
