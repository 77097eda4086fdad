//! Tells the tests what there is to compare with: recorded kernels, and packages of other machines.

use std::env;
use std::path::{Path, PathBuf};

/// Versions and flavours of the kernels whose packages a test reads, in the cache.
const PACKAGES: [(&str, &str); 2] = [("6.12.117", "arm64"), ("6.12.107", "s390x")];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(recordings)");
    println!("cargo::rustc-check-cfg=cfg(alarms)");
    println!("cargo::rustc-check-cfg=cfg(packages)");
    for name in ["MODMEM_ORACLE", "MODMEM_CACHE", "XDG_CACHE_HOME", "HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if let Some(recordings) = named("MODMEM_ORACLE") {
        println!("cargo::rustc-cfg=recordings");
        let beside = |name: &str| recordings.join("..").join(name);
        println!("cargo::rerun-if-changed={}", beside("fresh").display());
        if beside("fresh").is_dir() && beside("cases").is_dir() {
            println!("cargo::rustc-cfg=alarms");
        }
    }
    let cache = named("MODMEM_CACHE").or_else(|| {
        Some(named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?.join("modmem"))
    });
    let Some(packages) = cache.map(|cache| cache.join("debian")) else { return };
    println!("cargo::rerun-if-changed={}", packages.display());
    if PACKAGES.iter().all(|(version, flavour)| holds(&packages, version, flavour)) {
        println!("cargo::rustc-cfg=packages");
    }
}

/// The path that a variable holds, if it holds one.
fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Whether a folder of the cache has the package `linux-image-VERSION+RELEASE-FLAVOUR_...`.
fn holds(folder: &Path, version: &str, flavour: &str) -> bool {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let is_it = |name: &str| {
        let rest = name.strip_prefix("linux-image-")?.strip_prefix(version)?.strip_prefix('+')?;
        rest.split_once('-')?.1.strip_prefix(flavour).map(|rest| rest.starts_with('_'))
    };
    entries.into_iter().any(|entry| is_it(&entry.file_name().to_string_lossy()) == Some(true))
}
