//! What user space of Linux sees of the loaded modules: `/proc/modules`, `/sys/module`, the modules' part of
//! `/proc/kallsyms`.
//!
//! A view is what a reader with all rights gets at this moment: addresses are shown, not zeroed. It borrows the table
//! and is written piece by piece, so that it needs no memory of its own. Names are those of the files, except that
//! what could steer a terminal is shown escaped; Linux prints it as it is.
//!
//! # Reference counts
//!
//! Linux counts three kinds of reference to a module, and a table of modules knows two: one for each module that uses
//! its symbols, and one that the loader holds until init has returned. The third kind is what a running kernel adds:
//! open devices, mounted file systems, algorithms and protocols in use. Nothing runs here, so there are none, and the
//! count shown is the one that loading alone makes.

mod kallsyms;
mod proc_modules;
mod sysfs;

use core::fmt;

use modmem_index::protection::Protection;

pub use kallsyms::Kallsyms;
pub use proc_modules::ProcModules;
pub use sysfs::SysfsModule;

use super::{Module, ModuleId, Modules, State};
use crate::address::RunAddr;
use crate::image::elf::Class;
use crate::name::Name;
use crate::space::Block;

impl<B: Block, P: Protection> Modules<B, P> {
    /// The text of `/proc/modules`.
    pub fn proc_modules(&self) -> ProcModules<'_, B, P> {
        ProcModules::of(self)
    }

    /// The lines of `/proc/kallsyms` that are about modules.
    pub fn kallsyms(&self) -> Kallsyms<'_, B, P> {
        Kallsyms::of(self)
    }

    /// The folder of a module in `/sys/module`.
    pub fn sysfs(&self, id: ModuleId) -> Option<SysfsModule<'_, B, P>> {
        Some(SysfsModule::of(self, self.get(id)?))
    }

    /// All modules in the order in which Linux lists them (main.c:add_unformed_module puts the new one in front).
    fn newest_first(&self) -> impl Iterator<Item = &Module<B>> {
        self.order.iter().rev().filter_map(|&id| self.get(id))
    }

    /// The modules that use that one in the order in which Linux lists them (main.c:add_module_usage).
    fn users_newest_first(&self, id: ModuleId) -> impl Iterator<Item = &Module<B>> {
        self.users(id).iter().rev().filter_map(|&id| self.get(id))
    }

    /// References that loading makes, as main.c:module_refcount counts; none where modules are never unloaded.
    fn reference_count(&self, module: &Module<B>) -> Option<i64> {
        let users = self.users(module.id()).len() as i64;
        let count = match module.state() {
            State::Coming => users + 1,
            State::Live => users,
            // Whoever unloads takes the last reference, which is not counted, as well.
            State::Going => users - 1,
        };
        self.switches.module_unload.then_some(count)
    }
}

/// An address as the kernel's `%px` prints it: as many digits as the machine's addresses have.
fn pointer<B: Block>(module: &Module<B>, address: RunAddr) -> impl fmt::Display {
    let digits = match module.format().class {
        Class::Elf64 => 16,
        Class::Elf32 => 8,
    };
    Pointer { address, digits }
}

struct Pointer {
    address: RunAddr,
    digits: usize,
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0digits$x}", self.address, digits = self.digits)
    }
}

/// A module's name for showing.
fn shown_name<B: Block>(module: &Module<B>) -> Name<'_> {
    Name(module.name().as_bytes())
}
