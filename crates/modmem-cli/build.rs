//! Puts the sample kernel's files into the program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../samples/root");
    println!("cargo::rerun-if-changed={}", root.display());
    // Tests that tamper with recorded kernels need some.
    println!("cargo::rustc-check-cfg=cfg(recordings)");
    println!("cargo::rerun-if-env-changed=MODMEM_ORACLE");
    if env::var_os("MODMEM_ORACLE").is_some_and(|folder| !folder.is_empty()) {
        println!("cargo::rustc-cfg=recordings");
    }
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?;
        let absolute = fs::canonicalize(file)?;
        writeln!(list, "    ({name:?}, include_bytes!({absolute:?})),").map_err(io::Error::other)?;
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("sample.rs"), list)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
