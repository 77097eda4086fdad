//! A root with a kernel's modules, over which depmod ran.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use modmem_linux::Kernel;

use crate::command::succeed;

/// Where kmod's tools are besides what PATH says.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/bin"];

/// A folder with `lib/modules/RELEASE`, removed with this value.
#[derive(Debug)]
pub(super) struct DepmodRoot {
    folder: PathBuf,
    release: String,
}

impl DepmodRoot {
    pub(super) fn of(kernel: &Kernel) -> Result<DepmodRoot> {
        let release = kernel.release().to_owned();
        let first = kernel.modules().next().context("a kernel without modules")?;
        let file = first.file().context("a kernel that is part of the program")?;
        let from = file.to_str().and_then(|file| file.strip_suffix(first.path())).context("odd paths")?;
        let folder = std::env::temp_dir().join(format!("modmem-kmod-{}-{release}", std::process::id()));
        let root = DepmodRoot { folder, release };
        fs::create_dir_all(root.no_config())?;
        link_all(Path::new(from), &root.modules())?;
        succeed(tool("depmod")?.arg("-b").arg(&root.folder).arg(&root.release))?;
        Ok(root)
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }

    fn no_config(&self) -> PathBuf {
        self.folder.join("none")
    }

    /// modprobe for this root, without the configuration of the machine that this runs on.
    pub(super) fn modprobe(&self) -> Result<Command> {
        let mut command = tool("modprobe")?;
        command.arg("-d").arg(&self.folder).arg("-S").arg(&self.release).arg("-C").arg(self.no_config());
        Ok(command)
    }
}

impl Drop for DepmodRoot {
    fn drop(&mut self) {
        // A temporary folder that stays is no reason to fail.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Makes a folder like another one, with links to its files, or copies where links cannot be.
fn link_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_all(&entry.path(), &target)?;
        } else if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// A program of kmod.
pub(super) fn tool(name: &str) -> Result<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    match folders.map(|folder| folder.join(name)).find(|path| path.is_file()) {
        Some(path) => Ok(Command::new(path)),
        None => bail!("no {name} here; it is in the package kmod"),
    }
}

/// What a command prints; `whole` says that it must not fail.
pub(super) fn output(command: &mut Command, whole: bool) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() || !whole, "{command:?}: {}: {error}", output.status);
    Ok(output.stdout)
}
