//! Benchmarks: builds and runs the programs in `benches`, which have dependencies of their own.

use std::path::Path;

use anyhow::Result;

use crate::command;

/// Runs `benches/index`. A full run writes its tables into docs/index.md and draws the pictures; one with options
/// prints.
///
/// # Errors
/// The program does not build, or a structure gave a wrong answer.
pub fn index(arguments: &[&str]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut run = command::cargo();
    run.args(["run", "--release", "--locked", "--manifest-path"]).arg(root.join("benches/index/Cargo.toml"));
    run.arg("--").args(arguments);
    if arguments.is_empty() {
        run.arg("--docs").arg(root.join("docs"));
    }
    command::succeed(&mut run)
}
