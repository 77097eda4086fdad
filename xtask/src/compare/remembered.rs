//! Init functions that ftrace remembers.
//!
//! While functions are traced, ftrace keeps the names of a module's init functions when their memory is given back, and
//! /proc/kallsyms shows them behind all modules (kernel/trace/ftrace.c:save_ftrace_mod_rec,
//! ftrace_mod_get_kallsym), as if they were global.

use anyhow::{Context as _, Result};
use modmem::image::{Image, SymbolPlace};
use modmem::layout::{Layout, MemoryKind};
use modmem::profile::Profile;

use crate::oracle::Oracle;

/// Whether these lines, which stand behind those about modules, are about init functions that were freed, each where
/// it was.
///
/// # Errors
/// A module's file cannot be read.
pub(super) fn are_init_functions(oracle: &Oracle, profile: &Profile, lines: &[&str]) -> Result<bool> {
    for line in lines {
        let Some((address, "T", name, module)) = super::symbol_of(line) else { return Ok(false) };
        let Some(file) = oracle.files.get(module) else { return Ok(false) };
        let image = Image::parse(file).with_context(|| module.to_owned())?;
        let layout = Layout::of(&image, profile).with_context(|| module.to_owned())?;
        let is_it = |symbol: modmem::image::Symbol<'_>| {
            let SymbolPlace::Section(index) = symbol.place else { return false };
            let in_init = layout.place(index).is_some_and(|place| place.kind == MemoryKind::InitText);
            let section = image.sections().get(index).map(|section| section.name().to_text());
            let start = section.and_then(|section| oracle.sections.get(module)?.get(&section).copied());
            in_init && symbol.name == name && start.map(|start| start + symbol.value) == Some(address)
        };
        if !image.symbols().iter().any(is_it) {
            return Ok(false);
        }
    }
    Ok(true)
}
