//! 32-bit PowerPC on made-up modules and machines: what recorded kernels rarely show.
#![cfg(feature = "ppc32")]

#[cfg(feature = "verify")]
mod guest;
mod module;
#[cfg(feature = "verify")]
mod patching;
mod ranges;
mod stubs;
