//! arm64 modules of our own making, for what real ones rarely show: stubs, veneers, errata, ranges, patched code.

#![cfg(feature = "arm64")]

mod erratum;
mod guest;
mod linux;
mod module;
mod moves;
mod plt;
mod ranges;
mod unlisted;
mod verifying;
