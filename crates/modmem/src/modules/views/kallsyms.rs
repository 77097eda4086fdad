//! The modules' part of `/proc/kallsyms` (kernel/module/kallsyms.c:module_get_kallsym, kernel/kallsyms.c:s_show).

use core::fmt;

use modmem_index::protection::Protection;

use super::{pointer, shown_name};
use crate::address::RunAddr;
use crate::modules::{ModuleSymbol, Modules};
use crate::name::Name;
use crate::space::Block;

/// Bytes that are left of a longer name (include/linux/kallsyms.h:KSYM_NAME_LEN, less the NUL).
const LONGEST_NAME: usize = 511;

/// The lines of `/proc/kallsyms` that are about modules, as [`Display`](fmt::Display): a line a symbol, the newest
/// module first, its symbols in the order of its table.
///
/// While a module's init has not returned, its whole table is there, then its core symbols. The type letter is upper
/// case for what the module exports by `__ksymtab`: not for GPL-only exports where these have a table of their own,
/// but for them too where they are flagged in `__kflagstab`.
#[derive(Debug)]
pub struct Kallsyms<'m, B, P: Protection> {
    modules: &'m Modules<B, P>,
}

impl<'m, B: Block, P: Protection> Kallsyms<'m, B, P> {
    pub(super) fn of(modules: &'m Modules<B, P>) -> Kallsyms<'m, B, P> {
        Kallsyms { modules }
    }
}

impl<B: Block, P: Protection> fmt::Display for Kallsyms<'_, B, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for module in self.modules.newest_first() {
            for ModuleSymbol { name, value, letter, .. } in module.symbols() {
                let name = Name(&name.bytes()[..name.len().min(LONGEST_NAME)]);
                let letter = match module.has_plain_export(name, value) {
                    true => letter.to_ascii_uppercase(),
                    false => letter.to_ascii_lowercase(),
                };
                let address = pointer(module, RunAddr(value));
                writeln!(f, "{address} {} {name}\t[{}]", char::from(letter), shown_name(module))?;
            }
        }
        Ok(())
    }
}
