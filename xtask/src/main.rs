//! Chores of the modmem repository: `cargo xtask`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str =
    "usage: cargo xtask goldens ORACLE_FOLDER   write crates/modmem/tests/goldens from recorded kernels";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["goldens", folder] => xtask::goldens::write_all(Path::new(folder)),
        _ => bail!("{USAGE}"),
    }
}
