//! Debian packages: installed where programs are missing, else downloaded and unpacked into a folder of our own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::outcome::not_to_be_had;
use crate::command;

/// Installs a program's packages if the program is not there.
pub(super) fn need(program: &str, packages: &[&str]) -> Result<()> {
    if command::is_there(program) {
        return Ok(());
    }
    let install = || {
        let mut apt = apt_get();
        apt.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
        // Where `apt-get update` has never run, there is nothing to install from.
        quiet(&mut apt).or_else(|_| update().and_then(|()| quiet(&mut apt)))
    };
    install().map_err(not_to_be_had(&format!("{program} is not installed, and cannot be")))
}

/// A folder with the contents of these packages, all of which come from one download.
pub(super) fn unpacked(folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    let done = folder.join("unpacked");
    let list = packages.join(" ");
    if std::fs::read_to_string(&done).is_ok_and(|known| known == list) {
        return Ok(folder.to_path_buf());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let download = || {
        let mut apt = apt_get();
        apt.args(["download", "-q"]).args(packages).current_dir(folder);
        quiet(&mut apt).or_else(|_| update().and_then(|()| quiet(&mut apt)))
    };
    download().map_err(not_to_be_had(&format!("packages {list}")))?;
    for entry in std::fs::read_dir(folder)? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|extension| extension == "deb") {
            quiet(Command::new("dpkg-deb").arg("-x").args([&deb, folder]))?;
            std::fs::remove_file(&deb)?;
        }
    }
    std::fs::write(&done, list)?;
    Ok(folder.to_path_buf())
}

/// The names of the packages that a package depends on.
pub(super) fn dependencies(package: &str) -> Result<Vec<String>> {
    let show = || -> Result<String> {
        let mut apt = Command::new("apt-cache");
        let output = apt.env("LC_ALL", "C").args(["show", "--no-all-versions", package]).output()?;
        ensure!(output.status.success(), "apt does not know {package}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let text = show().or_else(|_| update().and_then(|()| show()));
    let text = text.map_err(not_to_be_had(&format!("package {package}")))?;
    let depends = text.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
    Ok(depends.split([',', '|']).filter_map(|one| one.split_whitespace().next()).map(str::to_owned).collect())
}

fn update() -> Result<()> {
    quiet(apt_get().args(["update", "-q"]))
}

fn apt_get() -> Command {
    let mut apt = Command::new("apt-get");
    // As root, apt would download as a user who cannot write to our folder.
    apt.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C").arg("-oAPT::Sandbox::User=root");
    apt
}

/// Runs to the end; what was printed is shown if it failed.
pub(super) fn quiet(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let tail: Vec<&str> = text.lines().rev().take(12).collect();
    bail!("{command:?}: {}\n{}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
