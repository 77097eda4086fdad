//! `/proc/modules` (kernel/module/procfs.c).

use core::fmt;

use modmem_index::protection::Protection;

use super::{pointer, shown_name};
use crate::layout::MemoryKind;
use crate::modules::{Module, Modules, State};
use crate::space::Block;

/// The text of `/proc/modules`, as [`Display`](fmt::Display): a line a module, the newest first.
///
/// A line has the name, bytes of all memories that the module has now, references, users, state, where its text (with
/// one block for a module: that block) starts, and what it tainted the kernel with.
#[derive(Debug)]
pub struct ProcModules<'m, B, P: Protection> {
    modules: &'m Modules<B, P>,
}

impl<'m, B: Block, P: Protection> ProcModules<'m, B, P> {
    pub(super) fn of(modules: &'m Modules<B, P>) -> ProcModules<'m, B, P> {
        ProcModules { modules }
    }

    fn write_users(&self, f: &mut fmt::Formatter<'_>, module: &Module<B>) -> fmt::Result {
        let Some(references) = self.modules.reference_count(module) else { return f.write_str(" - -") };
        write!(f, " {references} ")?;
        let mut users = self.modules.users_newest_first(module.id()).peekable();
        let permanent = module.init().is_some() && module.exit().is_none();
        if users.peek().is_none() && !permanent {
            return f.write_str("-");
        }
        users.try_for_each(|user| write!(f, "{},", shown_name(user)))?;
        if permanent { f.write_str("[permanent],") } else { Ok(()) }
    }

    fn write_line(&self, f: &mut fmt::Formatter<'_>, module: &Module<B>) -> fmt::Result {
        let memories = MemoryKind::ALL.into_iter().filter(|&kind| module.address(kind).is_some());
        let total: u64 = memories.map(|kind| module.layout().memories()[kind].allocated).sum();
        write!(f, "{} {total}", shown_name(module))?;
        self.write_users(f, module)?;
        let (state, mark) = match module.state() {
            State::Coming => ("Loading", "+"),
            State::Live => ("Live", ""),
            State::Going => ("Unloading", "-"),
        };
        write!(f, " {state} 0x{}", pointer(module, module.text_base()))?;
        let taints = module.taints().letters();
        if !taints.is_empty() {
            write!(f, " ({taints}{mark})")?;
        }
        f.write_str("\n")
    }
}

impl<B: Block, P: Protection> fmt::Display for ProcModules<'_, B, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.modules.newest_first().try_for_each(|module| self.write_line(f, module))
    }
}
