//! `modmem --version -v`: also what is built in that is not Rust.

use std::ffi::OsString;

/// The libraries in C, and the file of cargo's that has their versions.
const LOCK: &str = include_str!("../../../Cargo.lock");
/// The version of liblzma in each version of its package, which does not tell.
const LIBLZMA: [(&str, &str); 1] = [("0.4.9", "5.8.4")];

/// Whether these words ask for the long version.
pub(crate) fn is_asked(words: &[OsString]) -> bool {
    let is = |word: &OsString, names: &[&str]| names.iter().any(|name| word == name);
    match words {
        [one] => is(one, &["-Vv", "-vV"]),
        [one, other] => {
            let pair = |a, b| is(a, &["--version", "-V"]) && is(b, &["--verbose", "-v"]);
            pair(one, other) || pair(other, one)
        }
        _ => false,
    }
}

/// The long version.
pub(crate) fn long() -> String {
    let mut text = format!("modmem {}\n", env!("CARGO_PKG_VERSION"));
    text.push_str(&match cfg!(feature = "disassembly") {
        true => {
            format!("capstone {} (C, package capstone-sys {})\n", capstone_version(), locked("capstone-sys"))
        }
        false => "no capstone: built without the feature `disassembly`\n".to_owned(),
    });
    let lzma = locked("liblzma-sys");
    let known =
        LIBLZMA.iter().find(|(package, _)| *package == lzma).map_or("unknown", |(_, version)| version);
    text.push_str(&format!("liblzma {known} (C, package liblzma-sys {lzma})\n"));
    let zstd = locked("zstd-sys");
    let version = zstd.split_once("+zstd.").map_or("unknown", |(_, version)| version);
    text.push_str(&format!("zstd {version} (C, package zstd-sys {zstd})\n"));
    text
}

#[cfg(feature = "disassembly")]
fn capstone_version() -> String {
    let (major, minor) = capstone::Capstone::lib_version();
    format!("{major}.{minor}")
}

#[cfg(not(feature = "disassembly"))]
fn capstone_version() -> String {
    String::new()
}

/// The version of a package that this program was built with.
fn locked(package: &str) -> &'static str {
    let (_, behind) =
        LOCK.split_once(&format!("name = \"{package}\"\nversion = \"")).unwrap_or(("", "unknown\""));
    behind.split_once('"').map_or("unknown", |(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_c_is_told_with_its_version() {
        let text = long();
        assert!(
            !text.contains("unknown") && text.contains("liblzma 5.") && text.contains("zstd 1."),
            "{text}"
        );
        let words = |words: &[&str]| is_asked(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(words(&["--version", "-v"]) && words(&["-v", "-V"]) && words(&["-Vv"]));
        assert!(!words(&["--version"]) && !words(&["load", "-v"]));
    }
}
