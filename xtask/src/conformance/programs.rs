//! The programs that run in the guest, none of which needs a library: busybox, what records, and what loads BPF programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::arch::{AMD64, Arch, Busybox, Recorder};
use super::outcome::NotToBeHad;
use super::packages::{self, Apt};
use super::sources;
use crate::command;

/// For whom modmem is built. With a target, build scripts and macros are not built statically.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The sources of the dumper, and of the loader of BPF programs.
const DUMPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/dumper.c");
const BPF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/bpf.c");

/// The programs for one kind of machine.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) busybox: Vec<u8>,
    pub(super) recorder: Program,
    pub(super) bpf: Vec<u8>,
}

/// What records.
#[derive(Debug)]
pub(super) enum Program {
    Modmem(Vec<u8>),
    Dumper(Vec<u8>),
}

impl Programs {
    /// Installs, downloads and builds what is needed; `work` is for packages.
    pub(super) fn gather(arch: &Arch, work: &Path) -> Result<Programs> {
        packages::need(arch.emulator.program, arch.emulator.packages)?;
        let (compiler, parts) = match &arch.recorder {
            Recorder::Modmem => ("cc".to_owned(), &["gcc", "libc6-dev"][..]),
            Recorder::Dumper(cross) => (cross.compiler(), cross.packages),
        };
        packages::need(&compiler, parts)?;
        let bpf = compiled(&compiler, BPF, &work.join(format!("bpf-{arch}")))?;
        let recorder = match &arch.recorder {
            Recorder::Modmem => {
                if !cfg!(target_arch = "x86_64") {
                    return Err(NotToBeHad("modmem for the guest is built on x86-64 only".into()).into());
                }
                let start = Instant::now();
                let modmem = modmem()?;
                println!("conformance: modmem built for the guest in {} s", start.elapsed().as_secs());
                Program::Modmem(modmem)
            }
            Recorder::Dumper(_) => {
                let path = work.join(format!("dumper-{arch}"));
                Program::Dumper(compiled(&compiler, DUMPER, &path)?)
            }
        };
        let busybox = match (arch.busybox, &arch.recorder) {
            (Busybox::Sources, Recorder::Dumper(cross)) => sources::busybox(arch, cross, work)?,
            _ => busybox(arch, work)?,
        };
        Ok(Programs { busybox, recorder, bpf })
    }
}

/// busybox without need for libraries: the installed one if it is so, else from its package.
fn busybox(arch: &Arch, work: &Path) -> Result<Vec<u8>> {
    let installed = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let is_static = |file: &Vec<u8>| is_static(file);
    if arch.name == AMD64.name
        && cfg!(target_arch = "x86_64")
        && let Some(file) = installed.iter().filter_map(|path| std::fs::read(path).ok()).find(is_static)
    {
        return Ok(file);
    }
    let folder = work.join(format!("busybox-static-{arch}"));
    let folder = packages::unpacked(&folder, &[(&Apt::of(arch, work)?, &["busybox-static"])])?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|path| folder.join(path));
    let found = places.iter().find_map(|path| std::fs::read(path).ok()).filter(is_static);
    found.context("package busybox-static has no static busybox")
}

/// Builds a program of one source, statically.
fn compiled(compiler: &str, source: &str, path: &Path) -> Result<Vec<u8>> {
    let mut compile = Command::new(compiler);
    compile
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-o"])
        .arg(path)
        .arg(source);
    packages::quiet(&mut compile).with_context(|| format!("{source} cannot be built"))?;
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// Builds modmem so that it needs no libraries, in a target folder of its own: flags for the linker would otherwise
/// make cargo build everything anew, here and the next time. Whoever runs this at the same time builds it once.
fn modmem() -> Result<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/static");
    let mut build = command::cargo();
    build
        .args(["build", "--quiet", "--release", "--locked", "--package", "modmem-cli", "--target", TARGET])
        // Nothing is disassembled there, and Capstone takes longer to build than all the rest.
        .arg("--no-default-features")
        .arg("--target-dir")
        .arg(&folder)
        // Cargo tells these to whoever it runs, and they would go before what is said here.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // It is built for one boot: what it computes is the same, and optimising takes longer than it saves.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
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
    let (is_64, is_little) = (file.get(4) == Some(&2), file.get(5) == Some(&1));
    let number = |at: usize, size: usize| {
        let bytes = file.get(at..at.checked_add(size)?)?;
        let add = |number: usize, byte: &u8| number << 8 | usize::from(*byte);
        Some(if is_little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    };
    let headers = || -> Option<bool> {
        let places = if is_64 { [(32, 8), (54, 2), (56, 2)] } else { [(28, 4), (42, 2), (44, 2)] };
        let [start, size, count] = places.map(|(at, size)| number(at, size));
        let (start, size, count) = (start?, size?, count?);
        let kinds = (0..count).map(|index| number(start.checked_add(index * size)?, 4));
        kinds.collect::<Option<Vec<usize>>>().map(|kinds| !kinds.contains(&INTERPRETER))
    };
    file.starts_with(b"\x7fELF") && headers().unwrap_or(false)
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
