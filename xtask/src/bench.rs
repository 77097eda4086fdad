//! Benchmarks: builds and runs the programs in `benches`, which have dependencies of their own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Runs `benches/index`. A full run writes its tables into docs/index.md and draws the pictures; one with `--quick`
/// or `--only` prints.
///
/// # Errors
/// The program does not build, or a structure gave a wrong answer.
pub fn index(arguments: &[&str]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut run = Command::new(cargo);
    run.args(["run", "--release", "--locked", "--manifest-path"]).arg(root.join("benches/index/Cargo.toml"));
    run.arg("--").args(arguments);
    if arguments.is_empty() {
        run.arg("--docs").arg(root.join("docs"));
    }
    let status = run.status().with_context(|| format!("cannot run {run:?}"))?;
    match status.success() {
        true => Ok(()),
        false => bail!("{run:?}: {status}"),
    }
}
