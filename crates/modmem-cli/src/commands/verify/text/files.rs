//! Which file each module was compared with, and what that proves.

use modmem_linux::Origin;

use super::counted;
use super::page::Page;
use crate::commands::verify::report::{ModuleReport, Report};
use crate::output::harmless;

/// The files of all modules, or of those that the kernel's package did not bring, by where they come from.
pub(super) fn show(page: &mut Page, report: &Report, verbose: bool) {
    let with_file = |origin: Origin| -> Vec<&ModuleReport> {
        let is = |module: &&ModuleReport| module.file.as_ref().is_some_and(|file| file.origin == origin);
        report.modules.iter().filter(is).collect()
    };
    let shown = |origin: &Origin| verbose || !origin.is_of_package();
    let origins =
        [Origin::Given, Origin::Snapshot, Origin::Disk, Origin::Package, Origin::Program].into_iter();
    let groups = origins.filter(shown).map(|origin| (origin, with_file(origin)));
    let groups: Vec<(Origin, Vec<&ModuleReport>)> =
        groups.filter(|(_, modules)| !modules.is_empty()).collect();
    if groups.is_empty() {
        return;
    }
    page.title(if verbose { "Files" } else { "Files that are not of the kernel's package" });
    for (origin, modules) in groups {
        let heading = format!("{}, {}", counted(modules.len(), "module"), trust(origin, report.live));
        // One file each, that somebody chose; of the rest the names will do.
        if verbose || origin == Origin::Given {
            page.paragraph(&format!("{heading}:"));
            let width = modules.iter().map(|module| harmless(&module.name).len()).max().unwrap_or_default();
            for module in modules {
                let path = module.file.as_ref().map(|file| harmless(&file.path)).unwrap_or_default();
                page.line(&format!("    {:<width$}  {path}", harmless(&module.name)));
            }
        } else if modules.len() == report.verdict.modules {
            page.paragraph(&format!("all of them, {}", trust(origin, report.live)));
        } else {
            let names: Vec<String> = modules.iter().map(|module| harmless(&module.name)).collect();
            page.paragraph(&format!("{heading}: {}", names.join(", ")));
        }
    }
}

/// Where files come from, and how far they are to be trusted.
fn trust(origin: Origin, live: bool) -> &'static str {
    match origin {
        Origin::Package => "from the kernel's package",
        Origin::Program => "brought by modmem itself",
        Origin::Given => "given by hand: they prove as much as the place that they were taken from",
        Origin::Snapshot => {
            "brought by the snapshot itself: whoever changed memory may have changed them too"
        }
        Origin::Disk if live => {
            "read from this machine's disk: whoever changed its memory may have changed them too"
        }
        Origin::Disk => "read from the disk of the machine that verifies",
    }
}
