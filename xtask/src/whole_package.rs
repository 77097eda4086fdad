//! Loads all modules of a kernel package, or of the packages that it comes in, and checks that none is missing.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Loads everything with the command itself, as a user would, and reads what it printed.
///
/// # Errors
/// The command fails, or not every module of the package was loaded.
pub fn run(kernel: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "modmem-cli", "--"])
        .args(["load", "--all"])
        .args(kernel.iter().flat_map(|part| ["--kernel", part]))
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cargo run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let total =
        text.lines().rev().find(|line| line.starts_with("total: ")).context("no total was printed")?;
    println!("{}: {total}", kernel.join(", "));
    ensure!(output.status.success(), "some modules could not be loaded");
    Ok(())
}
