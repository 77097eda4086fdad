//! What user space of Linux would see of the loaded modules, as the files of `/proc` and `/sys` have it.

use std::io::{self, Write};

use modmem::index::protection::Protection;
use modmem::modules::views::SysfsModule;
use modmem::space::Block;

use crate::args::View;
use crate::session::LoadedModules;

/// Writes a view of all loaded modules.
pub(super) fn write(modules: &LoadedModules, view: View, out: &mut impl Write) -> io::Result<()> {
    match view {
        View::ProcModules => write!(out, "{}", modules.proc_modules()),
        View::Kallsyms => write!(out, "{}", modules.kallsyms()),
        View::Sysfs => {
            let mut shown =
                modules.iter().filter_map(|module| Some((module.name(), modules.sysfs(module.id())?)));
            shown.try_for_each(|(name, module)| write_sysfs(name, &module, out))
        }
    }
}

/// A line a file, as `grep -r "" /sys/module/NAME` prints them; notes in hexadecimal, holders as the empty files that
/// they would be.
fn write_sysfs<B: Block, P: Protection>(
    name: &str,
    module: &SysfsModule<'_, B, P>,
    out: &mut impl Write,
) -> io::Result<()> {
    let folder = format!("/sys/module/{}", crate::output::harmless(name));
    writeln!(out, "{folder}/coresize:{}", module.coresize())?;
    if let Some(size) = module.datasize() {
        writeln!(out, "{folder}/datasize:{size}")?;
    }
    writeln!(out, "{folder}/initsize:{}", module.initsize())?;
    writeln!(out, "{folder}/initstate:{}", module.initstate())?;
    if let Some(count) = module.refcnt() {
        writeln!(out, "{folder}/refcnt:{count}")?;
    }
    writeln!(out, "{folder}/taint:{}", module.taint())?;
    for holder in module.holders() {
        writeln!(out, "{folder}/holders/{}:", crate::output::harmless(holder))?;
    }
    for (section, address) in module.sections() {
        writeln!(out, "{folder}/sections/{section}:{address}")?;
    }
    for (section, bytes) in module.notes() {
        write!(out, "{folder}/notes/{section}:")?;
        bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
        writeln!(out)?;
    }
    Ok(())
}
