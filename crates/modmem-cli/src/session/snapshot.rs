//! A snapshot opened, with the files of its modules.

use std::path::Path;

use anyhow::{Result, bail};
use modmem::profile::Profile;
use modmem::{Image, Layout};
use modmem_linux::Kernel;
use modmem_linux::snapshot::{Locator, Memories, ModuleRecord, Snapshot};
use modmem_linux::verify::OwnFiles;

use super::{doubts, open_files};
use crate::args::KernelArgs;
use crate::output::{self, Bars, harmless};

/// A snapshot and where its modules' files are.
#[derive(Debug)]
pub(crate) struct OpenSnapshot {
    pub(crate) snapshot: Snapshot,
    files: Files,
}

#[derive(Debug)]
enum Files {
    None,
    Kernel(Box<Kernel>),
    /// The snapshot's own.
    Own(OwnFiles),
}

impl OpenSnapshot {
    /// Opens a snapshot to look addresses up: those of `--kernel`, or its own files, tell types of memory.
    pub(crate) fn open(path: &Path, kernel: &KernelArgs) -> Result<OpenSnapshot> {
        let snapshot = Snapshot::open(path)?;
        let needed = |line: &&String| {
            ["sections", "kallsyms", "vmallocinfo", "modules"].iter().any(|name| line.starts_with(name))
        };
        for missing in snapshot.missing.iter().filter(needed) {
            output::tell(&format!("note: not in the snapshot: {}", harmless(missing)));
        }
        let has_sections = snapshot.modules.iter().any(|module| !module.sections.is_empty());
        if !has_sections && snapshot.symbols.is_empty() {
            bail!("{}: neither section addresses nor symbols: nothing can be looked up", path.display());
        }
        let files = match kernel.kernel.is_empty() {
            false => Files::Kernel(Box::new(open_files(kernel, Bars::new())?)),
            true => OwnFiles::of(&snapshot)?.map_or(Files::None, Files::Own),
        };
        Ok(OpenSnapshot { snapshot, files })
    }

    /// Finds what lies at the snapshot's addresses. Files that do not fit are told, and not used.
    pub(crate) fn locator(&self) -> Locator<'_> {
        let profile = match self.snapshot.profile() {
            _ if matches!(self.files, Files::None) => None,
            Ok(profile) => {
                doubts(&profile).for_each(|doubt| output::tell(&format!("note: {}", harmless(&doubt))));
                Some(profile)
            }
            Err(error) => {
                output::tell(&format!("note: memory types are guessed: {error}"));
                None
            }
        };
        Locator::new(&self.snapshot, move |module| {
            let profile = profile.as_ref()?;
            self.memories(module, profile).unwrap_or_else(|problem| {
                let name = harmless(&module.name);
                output::tell(&format!("note: memory types of {name} are guessed: {}", harmless(&problem)));
                None
            })
        })
    }

    fn memories(&self, module: &ModuleRecord, profile: &Profile) -> Result<Option<Memories>, String> {
        let file = match &self.files {
            Files::None => return Ok(None),
            Files::Own(files) => {
                let file = files.get(&module.name).map_err(|error| error.to_string())?;
                file.ok_or("no file in the snapshot")?
            }
            Files::Kernel(kernel) => {
                let file = kernel.module(&module.name).ok_or("no file in the kernel that was given")?;
                file.read().map_err(|error| error.to_string())?
            }
        };
        let image = Image::parse(&file).map_err(|error| error.to_string())?;
        if let (Some(running), Some(ours)) = (&module.build_id, image.build_id())
            && running.as_slice() != ours
        {
            return Err("its file is of another build (the build ids differ)".into());
        }
        let layout = Layout::of(&image, profile).map_err(|error| error.to_string())?;
        Memories::of(module, &image, &layout).map(Some)
    }
}
