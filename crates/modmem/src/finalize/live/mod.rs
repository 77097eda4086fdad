//! Text that the kernel writes to while it runs, and which writes are its own.
//!
//! A hypervisor or a monitor traps each write to a module's text and has to say yes or no. Rules note while they finalize
//! a module which [sites](site::Site) may change later, and into what: branches on static keys, entries of functions,
//! static calls, lock prefixes. [`LiveText`] answers from these alone: without memory of its own, without a look at the
//! machine but for its symbols.

mod branch;
mod permit;
pub(crate) mod site;

pub(crate) use permit::Noted;
pub use permit::{LiveText, Permit, Refusal, Step};

pub(crate) use branch::{Branch, Leads};
pub(crate) use site::{Site, Steps};
