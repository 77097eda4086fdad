//! The picture of docs/founding-question.md: the modules of the recorded 32-bit PowerPC kernel, in its order.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::command;
use crate::oracle::Oracle;

const KERNEL: &str = "ppc32-6.12";

/// Draws the picture from the recordings below `folder`: `modmem map` of a folder with the kernel's configuration, its
/// symbols and its modules, as somebody would make it who has no package.
///
/// # Errors
/// The recording is not whole, or the command fails.
pub fn run(folder: &Path) -> Result<()> {
    let oracle = Oracle::read(&folder.join(KERNEL))?;
    let files = std::env::temp_dir().join(format!("modmem-{KERNEL}-{}", std::process::id()));
    let drawn = write(&oracle, &files).and_then(|()| draw(&oracle, &files));
    // What is left behind is no reason to fail, and what went wrong before tells more.
    let _ = std::fs::remove_dir_all(&files);
    drawn
}

fn write(oracle: &Oracle, files: &Path) -> Result<()> {
    std::fs::create_dir_all(files).with_context(|| files.display().to_string())?;
    for (name, file) in &oracle.files {
        std::fs::write(files.join(format!("{name}.ko")), file)?;
    }
    let mut symbols: Vec<(u64, &str)> =
        oracle.symbols.iter().map(|(name, &address)| (address, name.as_str())).collect();
    symbols.sort_unstable();
    let mut text = String::new();
    for (address, name) in symbols {
        writeln!(text, "{address:08x} T {name}")?;
    }
    std::fs::write(files.join("System.map"), text)?;
    std::fs::write(files.join("config"), &oracle.config)?;
    Ok(())
}

fn draw(oracle: &Oracle, files: &Path) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let picture = root.join(format!("docs/pictures/{KERNEL}.svg"));
    let mut map = command::cargo();
    map.args(["run", "--quiet", "--package", "modmem-cli", "--", "map", "--kernel"]).arg(files);
    map.args(&oracle.order).arg("--svg").arg(picture);
    command::succeed(&mut map)
}
