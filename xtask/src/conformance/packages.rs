//! Debian packages: installed where programs are missing, else downloaded and unpacked into a folder of our own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::arch::{AMD64, Arch};
use super::mirrors;
use super::outcome::not_to_be_had;
use crate::command;

/// In folders of our own: where packages come from.
const SOURCES: &str = "sources.list";

/// Installs a program's packages if the program is not there.
pub(crate) fn need(program: &str, packages: &[&str]) -> Result<()> {
    if command::is_there(program) {
        return Ok(());
    }
    let install = || {
        let mut apt = Apt::host().get();
        apt.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
        // Where `apt-get update` has never run, there is nothing to install from.
        quiet(&mut apt).or_else(|_| Apt::host().update().and_then(|()| quiet(&mut apt)))
    };
    install().map_err(not_to_be_had(&format!("{program} is not installed, and cannot be")))
}

/// apt, and the machine whose packages it is to see.
#[derive(Clone, Debug)]
pub(crate) struct Apt {
    /// Debian's name of another machine than this one, with a folder for its package lists.
    foreign: Option<(&'static str, PathBuf)>,
}

impl Apt {
    /// This machine's.
    pub(crate) fn host() -> Apt {
        Apt { foreign: None }
    }

    /// Another machine's, from the mirrors that this one's system uses; nothing of it is installed.
    pub(super) fn of(arch: &Arch, work: &Path) -> Result<Apt> {
        if arch.name == AMD64.name && cfg!(target_arch = "x86_64") {
            return Ok(Apt::host());
        }
        let folder = work.join(format!("apt-{arch}"));
        for name in ["lists/partial", "cache/archives/partial"] {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::write(folder.join(SOURCES), mirrors::lines("deb")? + &mirrors::of_stable()?)?;
        Ok(Apt { foreign: Some((arch.name, folder)) })
    }

    /// This machine's, of another suite, from the same mirrors.
    pub(crate) fn of_suite(suite: &str, work: &Path) -> Result<Apt> {
        let folder = work.join(format!("apt-{suite}"));
        for name in ["lists/partial", "cache/archives/partial"] {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::write(folder.join(SOURCES), mirrors::of_suite(suite)?)?;
        Ok(Apt { foreign: Some((AMD64.name, folder)) })
    }

    fn download(&self, folder: &Path, packages: &[&str]) -> Result<()> {
        let mut apt = self.get();
        apt.args(["download", "-q"]).args(packages).current_dir(folder);
        let result = quiet(&mut apt).or_else(|_| self.update().and_then(|()| quiet(&mut apt)));
        result.map_err(not_to_be_had(&format!("packages {}", packages.join(" "))))
    }

    /// The names of the packages that a package depends on.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let show = || -> Result<String> {
            let output = self.command("apt-cache").args(["show", "--no-all-versions", package]).output()?;
            ensure!(output.status.success(), "apt does not know {package}");
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let text = show().or_else(|_| self.update().and_then(|()| show()));
        let text = text.map_err(not_to_be_had(&format!("package {package}")))?;
        let depends = text.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
        let names = depends.split([',', '|']).filter_map(|one| one.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// The last package whose name begins so.
    pub(crate) fn last(&self, beginning: &str) -> Option<String> {
        let output = self.command("apt-cache").args(["pkgnames", beginning]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).lines().max().map(str::to_owned)
    }

    /// Downloads and unpacks a source package of Debian's; gives the folder with the upstream sources.
    pub(crate) fn source(package: &str, work: &Path) -> Result<PathBuf> {
        let folder = work.join(format!("{package}-source"));
        let upstream = |folder: &Path| -> Option<PathBuf> {
            let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
            entries.filter(|path| path.is_dir()).find(|path| path.join("Makefile").is_file())
        };
        if let Some(found) = upstream(&folder) {
            return Ok(found);
        }
        std::fs::create_dir_all(folder.join("lists/partial"))?;
        let list = folder.join(SOURCES);
        let download = || -> Result<()> {
            std::fs::write(&list, mirrors::lines("deb-src")?)?;
            let apt = || {
                let mut apt = Apt::host().get();
                apt.arg(format!("-oDir::Etc::SourceList={}", list.display()))
                    .arg(format!("-oDir::State::Lists={}", folder.join("lists").display()))
                    .args(["-oDir::Etc::SourceParts=-", "-q"])
                    .current_dir(&folder);
                apt
            };
            quiet(apt().arg("update"))?;
            quiet(apt().args(["source", "--download-only", package]))
        };
        download().map_err(not_to_be_had(&format!("the sources of {package}")))?;
        let archives = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
        let is_upstream = |path: &PathBuf| path.to_string_lossy().contains(".orig.tar.");
        let archive = archives.into_iter().find(is_upstream).context("a source package without sources")?;
        quiet(Command::new("tar").arg("-xf").arg(&archive).current_dir(&folder))?;
        upstream(&folder).with_context(|| format!("{}: no makefile", archive.display()))
    }

    fn update(&self) -> Result<()> {
        quiet(self.get().args(["update", "-q"]))
    }

    fn get(&self) -> Command {
        self.command("apt-get")
    }

    fn command(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        // As root, apt would download as a user who cannot write to our folder.
        apt.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C").arg("-oAPT::Sandbox::User=root");
        if let Some((arch, folder)) = &self.foreign {
            apt.arg(format!("-oAPT::Architecture={arch}"))
                .arg(format!("-oAPT::Architectures={arch}"))
                .arg(format!("-oDir::State::Lists={}", folder.join("lists").display()))
                .arg(format!("-oDir::Cache={}", folder.join("cache").display()))
                .arg(format!("-oDir::Etc::SourceList={}", folder.join(SOURCES).display()))
                .args(["-oDir::Etc::SourceParts=-", "-oDir::State::status=/dev/null"])
                .arg("-oAcquire::Languages=none");
        }
        apt
    }
}

/// A folder with the contents of these packages, all of which come from one download.
pub(crate) fn unpacked(folder: &Path, packages: &[(&Apt, &[&str])]) -> Result<PathBuf> {
    let done = folder.join("unpacked");
    let list = packages.iter().flat_map(|(_, names)| names.iter().copied()).collect::<Vec<&str>>().join(" ");
    if std::fs::read_to_string(&done).is_ok_and(|known| known == list) {
        return Ok(folder.to_path_buf());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (apt, names) in packages {
        apt.download(folder, names)?;
    }
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

/// Runs to the end; what was printed is shown if it failed.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
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
