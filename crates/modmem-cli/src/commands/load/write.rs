//! `load --write DIR`: the bytes of each memory as files, and what lies where, for debuggers, disassemblers and emulators.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use modmem::layout::MemoryKind;
use modmem::modules::Module;
use modmem::space::Block;
use modmem_linux::{Output, WriteOptions};
use serde::Serialize;

use super::report::{KernelReport, MachineReport, SectionReport, section_reports, shown};
use crate::output::json::{self, Address, Kind};
use crate::session::Session;

/// The folder, and what was written so far.
pub(super) struct Folder {
    path: PathBuf,
    options: WriteOptions,
    modules: Vec<Written>,
}

/// The document `modmem.memory`.
#[derive(Serialize)]
struct Document<'d> {
    kernel: KernelReport,
    machine: Option<MachineReport>,
    modules: &'d [Written],
}

#[derive(Serialize)]
struct Written {
    name: String,
    /// The module's own file, unpacked, below the folder, as all files here.
    file: String,
    init: Option<Address>,
    exit: Option<Address>,
    percpu: Option<Address>,
    memories: Vec<WrittenMemory>,
    sections: Vec<SectionReport>,
}

#[derive(Serialize)]
struct WrittenMemory {
    #[serde(rename = "type")]
    kind: Kind,
    address: Address,
    size: u64,
    /// Whether it goes when init has run.
    init: bool,
    file: String,
}

impl Folder {
    /// Makes the folder, if it is not there. One that has files in it is refused: what is left of another run would look like
    /// a part of this one.
    pub(super) fn create(path: &Path, options: WriteOptions) -> Result<Folder> {
        fs::create_dir_all(path).with_context(|| format!("--write {}", path.display()))?;
        let mut entries = fs::read_dir(path).with_context(|| format!("--write {}", path.display()))?;
        if entries.next().is_some() {
            anyhow::bail!("--write {}: there is something in it; name a new folder", path.display());
        }
        Ok(Folder { path: path.to_path_buf(), options, modules: Vec::new() })
    }

    /// Writes a module's memories as they are before its init runs.
    pub(super) fn module<B: Block>(&mut self, module: &Module<B>, file: &[u8]) -> Result<()> {
        // A module's name is what its file says.
        let name = shown(module.name());
        let folder: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let folder = if folder.starts_with('.') { format!("_{folder}") } else { folder };
        fs::create_dir(self.path.join(&folder)).with_context(|| format!("--write: folder of {name}"))?;
        let own = format!("{folder}/{folder}.ko");
        self.write(&own, file)?;
        let mut memories = Vec::new();
        for kind in MemoryKind::ALL {
            let Some(address) = module.address(kind) else { continue };
            let bytes = module.bytes(kind);
            let file = format!("{folder}/{kind}.bin");
            self.write(&file, bytes)?;
            let (size, init) = (bytes.len() as u64, kind.is_init());
            memories.push(WrittenMemory { kind: Kind(kind), address: Address(address), size, init, file });
        }
        self.modules.push(Written {
            name,
            file: own,
            init: module.init().map(Address),
            exit: module.exit().map(Address),
            percpu: module.layout().percpu().map(|_| Address(modmem::RunAddr(module.percpu()))),
            memories,
            sections: section_reports(module),
        });
        Ok(())
    }

    /// Writes what lies where: `modules.json`, and `modules.gdb` for gdb.
    pub(super) fn finish(self, session: &Session) -> Result<()> {
        let machine = session.machine.as_ref().map(|machine| MachineReport::of(session, machine));
        let document = Document { kernel: KernelReport::of(session), machine, modules: &self.modules };
        let mut text = Vec::new();
        json::write(&mut text, "memory", &document)?;
        self.write("modules.json", &text)?;
        self.write("modules.gdb", self.gdb().as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        Output::open(&path, self.options)?.write(|out| out.write_all(bytes))?;
        Ok(())
    }

    /// A script that tells gdb where the sections of each module lie.
    fn gdb(&self) -> String {
        let mut script = String::from("# In this folder: gdb -x modules.gdb, with or without vmlinux\n");
        for module in &self.modules {
            let sections = || module.sections.iter().filter(|section| section.name.chars().all(is_plain));
            let text = sections().find(|section| section.name == ".text");
            let _ = write!(script, "add-symbol-file {}", module.file);
            if let Some(text) = text {
                let _ = write!(script, " {:#x}", text.address.0);
            }
            for section in sections().filter(|section| section.name != ".text" && section.size > 0) {
                let _ = write!(script, " -s {} {:#x}", section.name, section.address.0);
            }
            script.push('\n');
        }
        script
    }
}

/// Nothing that a file system, gdb or a shell takes for more than a letter.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+')
}
