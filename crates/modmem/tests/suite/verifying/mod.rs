//! Verifying modules of made-up machines: what each rule makes of code and tables, written by hand from the
//! instruction set manual or assembled with GNU as, and that anything else is found.

#![cfg(feature = "verify")]

mod alternatives;
mod call_thunks;
mod ftrace;
mod guest;
mod its;
mod live_text;
mod livepatch;
mod loader;
mod machine_state;
mod module;
mod old_kernels;
mod paravirt;
mod refusals;
mod retpolines;
mod returns;
mod small;
mod small_module;
mod static_calls;
mod static_keys;
mod tables;
mod unloaded;
mod whole;
