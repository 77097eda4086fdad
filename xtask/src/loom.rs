//! The model checker: everything that readers and writers of the index share, under every interleaving.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command;

/// Runs the models: the tests of `modmem-index` that exist under `--cfg loom` only.
///
/// # Errors
/// They do not build, or one fails.
pub fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut test = command::cargo();
    test.args(["test", "--release", "--locked", "--package", "modmem-index"]);
    test.args(["--lib", "--tests", "--manifest-path"]).arg(root.join("Cargo.toml"));
    // All crates are built with the flag, so that they are kept apart from others.
    test.arg("--target-dir").arg(root.join("target/loom"));
    command::succeed(with_loom(&mut test))
}

fn with_loom(command: &mut Command) -> &mut Command {
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg loom"))
}
