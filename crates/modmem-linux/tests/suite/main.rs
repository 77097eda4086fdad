//! Kernels, packages, roots and snapshots, as who reads them by this crate sees them.
//!
//! One program: linking is what takes long.

mod capture;
mod growth;
mod growth_of_kernels;
mod images;
mod packages;
mod plans;
mod roots;
mod snapshots;
mod support;
mod symbols;
