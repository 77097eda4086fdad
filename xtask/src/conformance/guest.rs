//! What the guest has: busybox, our script, what records, and the modules in the order of their loading.

use anyhow::Result;

use super::cpio::Archive;
use super::programs::{Program, Programs};

/// The guest's first program.
const INIT: &str = include_str!("../../conformance/init.sh");
/// Folders of its file system.
const FOLDERS: [&str; 8] = ["bin", "boot", "dev", "modules", "out", "proc", "sys", "tmp"];

/// One guest's contents.
#[derive(Debug)]
pub(super) struct Guest<'g> {
    /// What runs.
    pub(super) programs: &'g Programs,
    /// What the dumper is to record of the kernel itself: lines of a symbol and a length.
    pub(super) words: &'g str,
    /// Name and file of each module, in loading order.
    pub(super) modules: &'g [(String, Vec<u8>)],
    /// The file of the module that waits in its init function.
    pub(super) waits: Option<(&'g str, &'g [u8])>,
    /// Commands for when all modules are loaded.
    pub(super) setup: &'g str,
    /// What `kernel.kptr_restrict` is set to; `None`: it is left as the kernel has it.
    pub(super) kptr_restrict: Option<u8>,
    /// The kernel's release and its configuration, which snapshots bring along.
    pub(super) release: &'g str,
    pub(super) config: &'g str,
}

impl Guest<'_> {
    /// The archive to boot from.
    pub(super) fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for folder in FOLDERS {
            archive.folder(folder)?;
        }
        archive.program("init", INIT.as_bytes())?;
        archive.program("bin/busybox", &self.programs.busybox)?;
        archive.program("bin/bpf", &self.programs.bpf)?;
        let recorder = match &self.programs.recorder {
            Program::Modmem(file) => {
                archive.program("bin/modmem", file)?;
                "modmem"
            }
            Program::Dumper(file) => {
                archive.program("bin/dumper", file)?;
                archive.file("words", self.words.as_bytes())?;
                "dumper"
            }
        };
        for (name, file) in self.modules {
            archive.file(&format!("modules/{name}.ko"), file)?;
        }
        if let Some((name, file)) = self.waits {
            archive.file(&format!("modules/{name}.ko"), file)?;
        }
        let order: String = self.modules.iter().map(|(name, _)| format!("{name}\n")).collect();
        archive.file(&format!("boot/config-{}", self.release), self.config.as_bytes())?;
        archive.file("order", order.as_bytes())?;
        archive.file("setup", self.setup.as_bytes())?;
        let waits = if self.waits.is_some() { "yes" } else { "no" };
        let kptr_restrict = self.kptr_restrict.map_or_else(String::new, |setting| setting.to_string());
        let options = format!("recorder={recorder}\nwaits={waits}\nkptr_restrict={kptr_restrict}\n");
        archive.file("options", options.as_bytes())?;
        archive.finish()
    }
}
