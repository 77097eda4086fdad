//! What runs in the guest: busybox, our script, modmem itself, and the modules in the order of their loading.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::cpio::Archive;
use super::packages;
use crate::command;

/// The guest's first program.
const INIT: &str = include_str!("../../conformance/init.sh");
/// Folders of its file system.
const FOLDERS: [&str; 8] = ["bin", "boot", "dev", "modules", "out", "proc", "sys", "tmp"];
/// For whom the static program is built. With a target, build scripts and macros are not built statically.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// One guest's contents.
#[derive(Debug)]
pub(super) struct Guest<'g> {
    /// busybox, statically linked.
    pub(super) busybox: &'g [u8],
    /// modmem, statically linked; `None` if no snapshot is to be taken.
    pub(super) modmem: Option<&'g [u8]>,
    /// Name and file of each module, in loading order.
    pub(super) modules: &'g [(String, Vec<u8>)],
    /// The file of the module that waits in its init function.
    pub(super) waits: Option<(&'g str, &'g [u8])>,
    /// Commands for when all modules are loaded.
    pub(super) setup: &'g str,
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
        archive.program("bin/busybox", self.busybox)?;
        if let Some(modmem) = self.modmem {
            archive.program("bin/modmem", modmem)?;
        }
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
        let yes = |yes| if yes { "yes" } else { "no" };
        let options =
            format!("snapshots={}\nwaits={}\n", yes(self.modmem.is_some()), yes(self.waits.is_some()));
        archive.file("options", options.as_bytes())?;
        archive.finish()
    }
}

/// busybox without need for libraries: the installed one if it is so, else from its package.
pub(super) fn busybox(work: &Path) -> Result<Vec<u8>> {
    let installed = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let is_static = |file: &Vec<u8>| is_static(file);
    if let Some(file) = installed.iter().filter_map(|path| std::fs::read(path).ok()).find(is_static) {
        return Ok(file);
    }
    let folder = packages::unpacked(&work.join("busybox-static"), &["busybox-static"])?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|path| folder.join(path));
    let found = places.iter().find_map(|path| std::fs::read(path).ok()).filter(is_static);
    found.context("package busybox-static has no static busybox")
}

/// Builds modmem so that it needs no libraries, in a target folder of its own: flags for the linker would otherwise
/// make cargo build everything anew, here and the next time.
pub(super) fn modmem(target: &Path) -> Result<Vec<u8>> {
    let folder = target.join("static");
    let mut build = command::cargo();
    build
        .args(["build", "--quiet", "--release", "--locked", "--package", "modmem-cli", "--target", TARGET])
        .arg("--target-dir")
        .arg(&folder)
        // Cargo tells these to whoever it runs, and they would go before what is said here.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    command::succeed(&mut build)?;
    let path = folder.join(TARGET).join("release/modmem");
    let file = std::fs::read(&path).with_context(|| path.display().to_string())?;
    if !is_static(&file) {
        bail!("{} needs libraries, which the guest does not have", path.display());
    }
    Ok(file)
}

/// Does a program need no loader? One that does names it in a program header.
fn is_static(file: &[u8]) -> bool {
    const INTERPRETER: usize = 3;
    let number = |at: usize, size: usize| {
        let bytes = file.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0usize, |number, &byte| number << 8 | usize::from(byte)))
    };
    let headers = || -> Option<bool> {
        let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let kinds = (0..count).map(|index| number(start.checked_add(index * size)?, 4));
        kinds.collect::<Option<Vec<usize>>>().map(|kinds| !kinds.contains(&INTERPRETER))
    };
    file.starts_with(b"\x7fELF\x02\x01") && headers().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_a_loader_and_rubbish_is_no_program() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&own));
        assert!(!is_static(b"\x7fELF\x02\x01"));
        assert!(!is_static(b"#!/bin/sh"));
    }
}
