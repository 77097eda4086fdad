//! Where the system's own packages of Debian come from, as lines for lists of sources of our own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// With these keys Debian signs its archive. Newer systems trust them for the sources alone that say so.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The system's sources of Debian's main packages, of a type: `deb` or `deb-src`.
pub(super) fn lines(kind: &str) -> Result<String> {
    let places = places()?;
    Ok(places.iter().map(|(address, suite)| line(kind, address, suite)).collect())
}

/// The stable suite and its security updates: machines that an older suite has no kernels of a version for have them
/// there.
pub(super) fn of_stable() -> Result<String> {
    let places = places()?;
    let mirror = |end: &str| {
        places.iter().map(|(address, _)| address.trim_end_matches('/')).find(|address| address.ends_with(end))
    };
    let suites = [("stable", mirror("/debian")), ("stable-security", mirror("/debian-security"))];
    Ok(suites.into_iter().filter_map(|(suite, mirror)| Some(line("deb", mirror?, suite))).collect())
}

/// Another suite.
pub(super) fn of_suite(suite: &str) -> Result<String> {
    Ok(line("deb", &main()?, suite))
}

/// The mirror of Debian's main archive.
pub(super) fn main() -> Result<String> {
    let addresses = places()?.into_iter().map(|(address, _)| address.trim_end_matches('/').to_owned());
    let main = addresses.into_iter().find(|address| address.ends_with("/debian"));
    main.context("apt's sources name no mirror of Debian's main archive")
}

/// The file of the keys that Debian signs with, if it is there.
pub(super) fn keys() -> Option<&'static Path> {
    Some(Path::new(KEYS)).filter(|keys| keys.exists())
}

fn line(kind: &str, address: &str, suite: &str) -> String {
    let keys = keys().map_or_else(String::new, |keys| format!("[signed-by={}] ", keys.display()));
    format!("{kind} {keys}{address} {suite} main\n")
}

/// Addresses and suites.
fn places() -> Result<Vec<(String, String)>> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]).args([
        "Created-By: Packages",
        "Origin: Debian",
        "Component: main",
    ]);
    let output = apt.env("LC_ALL", "C").output()?;
    let text = String::from_utf8(output.stdout)?;
    let places: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(address, suite)| (address.to_owned(), suite.to_owned()))
        .collect();
    ensure!(!places.is_empty(), "apt has no sources of Debian's");
    Ok(places)
}
