//! The library without std: builds and runs `examples/freestanding`, and looks at what came out.
//!
//! That it links is the proof: std or the C library would be undefined symbols, or a dynamic section that asks for them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command;

/// Segments that only a program with a dynamic linker has.
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// Builds, inspects and runs the program.
///
/// # Errors
/// It does not build, it needs a dynamic linker, or it says that something went wrong.
pub fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join("examples/freestanding");
    // A folder that is known whatever the environment says, so that the program can be found in it.
    let target = folder.join("target");
    let mut build = command::cargo();
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    command::succeed(build.arg("--target-dir").arg(&target))?;

    let program = target.join("release/freestanding");
    let file = std::fs::read(&program).with_context(|| program.display().to_string())?;
    let segments = segment_types(&file).context("the program is no 64-bit little-endian ELF file")?;
    ensure!(
        !segments.iter().any(|kind| [PT_DYNAMIC, PT_INTERP].contains(kind)),
        "the program needs a dynamic linker"
    );
    command::succeed(&mut Command::new(&program))
}

/// The type of each program header.
fn segment_types(file: &[u8]) -> Option<Vec<u32>> {
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(*file.get(at..)?.first_chunk()?)));
    let is_elf64 = file.starts_with(b"\x7fELF\x02\x01");
    let table = u64::from_le_bytes(*file.get(32..)?.first_chunk()?);
    let table = file.get(usize::try_from(table).ok()?..).filter(|_| is_elf64)?;
    let (size, count) = (half(54)?, half(56)?);
    let kind = |index: usize| Some(u32::from_le_bytes(*table.get(index * size..)?.first_chunk()?));
    (0..count).map(kind).collect()
}
