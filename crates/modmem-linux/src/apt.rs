//! apt as a tool of ours: it knows where packages are and checks who signed them.
//!
//! Nothing is installed and no root is needed: lists and downloads live in folders of our own. Errors are apt's own
//! words, in one line.

use crate::{
    Error,
    progress::{Phase, Progress},
};
use std::{
    fs,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// With this key Debian signs its archive; on Debian it is there, elsewhere it is a package.
const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Every suite of Debian's archive that has kernels, under names that outlive releases; which archive each is in.
const DEBIAN_SUITES: [(&str, Archive); 11] = [
    ("oldoldstable", Archive::Main),
    // Security updates of the release before the last one are there under its own name only.
    ("bullseye-security", Archive::Security),
    ("oldstable", Archive::Main),
    ("oldstable-backports", Archive::Main),
    ("oldstable-security", Archive::Security),
    ("stable", Archive::Main),
    ("stable-backports", Archive::Main),
    ("stable-security", Archive::Security),
    ("testing", Archive::Main),
    ("sid", Archive::Main),
    ("experimental", Archive::Main),
];

/// The same suites under the names of releases: for who asks for one, as they hold what the others hold.
const DEBIAN_RELEASES: [(&str, Archive); 8] = [
    ("bullseye", Archive::Main),
    ("bookworm", Archive::Main),
    ("bookworm-backports", Archive::Main),
    ("bookworm-security", Archive::Security),
    ("trixie", Archive::Main),
    ("trixie-backports", Archive::Main),
    ("trixie-security", Archive::Security),
    ("forky", Archive::Main),
];

/// The architecture whose lists a system has that `modmem` asks first.
pub(crate) const HOME: &str = "amd64";

/// Lists of other architectures than amd64 lie apart, in a folder that says so.
fn folder_of(name: &str, architecture: &str) -> String {
    if architecture == HOME { name.to_owned() } else { format!("{name}-{architecture}") }
}

/// Debian's archives, by how the addresses of their mirrors end.
#[derive(Clone, Copy, Debug)]
enum Archive {
    Main,
    Security,
}

impl Archive {
    const fn ending(self) -> &'static str {
        match self {
            Archive::Main => "/debian",
            Archive::Security => "/debian-security",
        }
    }

    /// The first mirror of this archive that the system's own sources name.
    fn mirror(self, sources: &str) -> Option<&str> {
        let addresses = sources.split_whitespace().filter(|word| word.starts_with("http"));
        addresses.map(|word| word.trim_end_matches('/')).find(|word| word.ends_with(self.ending()))
    }
}

/// The text of the system's sources, in both formats that apt has.
fn system_sources() -> String {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let files = parts.map(|part| part.path()).chain([PathBuf::from("/etc/apt/sources.list")]);
    let texts = files.filter_map(|file| fs::read_to_string(file).ok());
    let lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let used = lines.iter().filter(|line| !line.trim_start().starts_with('#'));
    used.cloned().collect::<Vec<_>>().join("\n")
}

/// A list of all suites, or of one with its security updates, from the mirrors in `sources`; `None` if there is none of
/// Debian's.
fn suites(sources: &str, only: Option<&str>) -> Option<String> {
    let wanted =
        |suite: &str, only: &str| suite.strip_suffix("-security").unwrap_or(suite) == only || suite == only;
    let chosen = DEBIAN_SUITES.into_iter().filter(|(suite, _)| only.is_none_or(|only| wanted(suite, only)));
    let named = DEBIAN_RELEASES.into_iter().filter(|(suite, _)| only.is_some_and(|only| wanted(suite, only)));
    let line = |(suite, archive): (&str, Archive)| {
        Some(format!("deb [signed-by={DEBIAN_KEYS}] {} {suite} main\n", archive.mirror(sources)?))
    };
    let list: String = chosen.chain(named).filter_map(line).collect();
    (!list.is_empty()).then_some(list)
}

/// The suite of this name, if it is one that has kernels.
pub(crate) fn suite(name: &str) -> Option<&'static str> {
    DEBIAN_SUITES.iter().chain(&DEBIAN_RELEASES).map(|(suite, _)| *suite).find(|suite| *suite == name)
}

/// apt, with the package lists it is to use.
#[derive(Debug)]
pub(crate) struct Apt {
    /// The architecture whose packages are meant, by Debian's name for it.
    architecture: &'static str,
    /// Folder for lists of our own; `None`: the system's.
    lists: Option<PathBuf>,
    /// The file that says where packages come from; `None`: what the system says.
    sources: Option<PathBuf>,
}

impl Apt {
    /// The system's lists, as they are. They are of the system's own architecture.
    pub(crate) fn system() -> Apt {
        Apt { architecture: HOME, lists: None, sources: None }
    }

    /// The system's sources, with fresh lists of an architecture in `folder`.
    pub(crate) fn fresh(folder: &Path, architecture: &'static str) -> Apt {
        Apt { architecture, lists: Some(folder.join(folder_of("system", architecture))), sources: None }
    }

    /// All of Debian's suites, or one of them, from the mirrors that the system uses, with lists in `folder`. `None`
    /// where there are none, or Debian's key is not known.
    pub(crate) fn of_debian(
        folder: &Path,
        suite: Option<&str>,
        architecture: &'static str,
    ) -> Result<Option<Apt>, Error> {
        let list = suites(&system_sources(), suite).filter(|_| Path::new(DEBIAN_KEYS).exists());
        let Some(list) = list else { return Ok(None) };
        let name = suite.map_or("debian".to_owned(), |suite| format!("debian-{suite}"));
        let sources = folder.join(format!("{name}.list"));
        fs::write(&sources, list).map_err(Error::write(&sources))?;
        let lists = Some(folder.join(folder_of(&name, architecture)));
        Ok(Some(Apt { architecture, lists, sources: Some(sources) }))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        // As root, apt would download as a user who cannot write to our folder.
        command.arg("-oAPT::Sandbox::User=root");
        if let Some(folder) = &self.lists {
            command
                .arg(format!("-oDir::State::Lists={}", folder.join("lists").display()))
                .arg(format!("-oDir::Cache={}", folder.join("cache").display()))
                .arg("-oDir::State::status=/dev/null")
                .arg(format!("-oAPT::Architecture={}", self.architecture))
                .arg(format!("-oAPT::Architectures={}", self.architecture))
                // Package lists and nothing else: no translations, no catalogues for software centres.
                .args([
                    "-oAcquire::Languages=none",
                    "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
                ]);
        }
        if let Some(sources) = &self.sources {
            command
                .arg(format!("-oDir::Etc::SourceList={}", sources.display()))
                .args(["-oDir::Etc::SourceParts=-", "-oAcquire::AllowReleaseInfoChange=true"]);
        }
        command
    }

    /// Runs to the end and gives the standard output.
    fn run(&self, command: &mut Command) -> Result<String, String> {
        let output = command.output().map_err(|error| cannot_run(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("apt failed: {}", complaint(&output.stderr)))
    }

    /// Fetches the lists.
    pub(crate) fn update(&self, progress: &dyn Progress) -> Result<(), String> {
        for name in ["lists/partial", "cache/archives/partial"] {
            if let Some(folder) = self.lists.as_ref().map(|lists| lists.join(name)) {
                fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            }
        }
        let mut title = "fetching Debian's package lists".to_owned();
        if self.architecture != HOME {
            title = format!("{title} for {}", self.architecture);
        }
        let _phase = Phase::begin(progress, &title, None);
        // By itself apt takes old lists where it cannot fetch new ones, and is content.
        self.run(self.command("apt-get").args(["-q", "-oAPT::Update::Error-Mode=any", "update"])).map(drop)
    }

    /// The names of all kernel packages.
    pub(crate) fn kernels(&self) -> Result<Vec<String>, String> {
        let text = self.run(self.command("apt-cache").args(["search", "--names-only", "^linux-image-"]))?;
        Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    pub(crate) fn describe(&self, package: &str) -> Result<Description, String> {
        self.run(self.command("apt-cache").args(["show", "--no-all-versions", package]))
            .map(|text| Description::parse(&text))
    }

    /// Downloads packages into `folder`; `size` is what they have together, for the progress.
    pub(crate) fn download(
        &self,
        packages: &[String],
        size: u64,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<(), String> {
        let title = format!("downloading {}", packages.join(", "));
        let phase = Phase::begin(progress, &title, Some(size).filter(|size| *size > 0));
        // Not a pipe: nobody would read it before the end, and a full pipe would stop apt.
        let mut complaints = tempfile::tempfile().map_err(|error| format!("temporary file: {error}"))?;
        let stderr = complaints.try_clone().map_err(|error| format!("temporary file: {error}"))?;
        let mut command = self.command("apt-get");
        command
            .args(["-q", "download"])
            .args(packages)
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(stderr);
        let mut child = command.spawn().map_err(|error| cannot_run(&error))?;
        // apt tells its own progress only to a terminal: the growing file tells us.
        let mut seen = 0;
        let status = loop {
            let now = bytes_in(folder);
            phase.advance(now.saturating_sub(seen));
            seen = seen.max(now);
            match child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(50)),
                Ok(Some(status)) => break status,
                Err(error) => return Err(format!("apt-get: {error}")),
            }
        };
        if status.success() {
            return Ok(());
        }
        let mut text = Vec::new();
        let _ = complaints.rewind();
        let _ = complaints.take(64 << 10).read_to_end(&mut text);
        Err(format!("download failed: {}", complaint(&text)))
    }
}

/// A package as `apt-cache show` describes it.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) version: String,
    pub(crate) size: u64,
    depends: String,
}

impl Description {
    fn parse(text: &str) -> Description {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map(str::trim).unwrap_or_default()
        };
        Description {
            version: field("Version").to_owned(),
            size: field("Size").parse().unwrap_or(0),
            depends: format!("{}, {}", field("Pre-Depends"), field("Depends")),
        }
    }

    /// The other packages of the same kernel that this one needs.
    pub(crate) fn parts(&self, release: &str) -> Vec<String> {
        let names = self.depends.split([',', '|']).filter_map(|one| one.split_whitespace().next());
        let kinds = ["linux-binary-", "linux-modules-", "linux-base-", "linux-image-"];
        names
            .filter(|name| kinds.iter().any(|kind| name.strip_prefix(kind) == Some(release)))
            .map(str::to_owned)
            .collect()
    }
}

fn cannot_run(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "needs apt, which this system lacks; give a .deb file, a folder, or sample".to_owned();
    }
    format!("cannot run apt: {error}")
}

/// The first thing apt reported as an error, in one line.
fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().find_map(|line| line.strip_prefix("E: ")).or_else(|| text.lines().next());
    line.unwrap_or("no reason given").trim().to_owned()
}

fn bytes_in(folder: &Path) -> u64 {
    let mut total = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => total += bytes_in(&entry.path()),
            Ok(metadata) => total += metadata.len(),
            Err(_) => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_kernel_names_its_other_packages() {
        let described = Description::parse(
            "Package: linux-image-7.2-amd64\nVersion: 7.2-1\nSize: 12345\n\
             Depends: linux-base (>= 4), linux-binary-7.2-amd64 (= 7.2-1), linux-modules-7.2-amd64 (= 7.2-1), kmod | x\n",
        );
        assert_eq!((&*described.version, described.size), ("7.2-1", 12345));
        assert_eq!(described.parts("7.2-amd64"), ["linux-binary-7.2-amd64", "linux-modules-7.2-amd64"]);
    }

    #[test]
    fn all_suites_come_from_the_mirrors_that_the_system_uses() {
        let list = suites(
            "Types: deb\nURIs: http://mirror.example/debian/\nSuites: stable\n\
             deb https://mirror.example/debian-security stable-security main\n",
            None,
        );
        let list = list.unwrap();
        assert!(list.contains("] http://mirror.example/debian sid main\n"), "{list}");
        assert!(list.contains("] https://mirror.example/debian-security stable-security main\n"), "{list}");
        assert_eq!(suites("deb http://mirror.example/ubuntu noble main\n", None), None);
    }

    #[test]
    fn one_suite_comes_with_its_security_updates_alone() {
        let mirrors = "deb http://mirror.example/debian stable main\n\
                       deb http://mirror.example/debian-security stable-security main\n";
        let lines = |name| suites(mirrors, Some(name)).unwrap().lines().count();
        assert_eq!((lines("sid"), lines("stable"), lines("stable-backports")), (1, 2, 1));
        assert_eq!((lines("stable-security"), lines("experimental"), lines("oldoldstable")), (1, 1, 1));
        assert_eq!((suite("sid"), suite("noble")), (Some("sid"), None));
    }

    #[test]
    fn a_release_is_a_suite_too_but_not_a_second_time_among_all() {
        let mirrors = "deb http://mirror.example/debian stable main\n\
                       deb http://mirror.example/debian-security stable-security main\n";
        let lines = |name| suites(mirrors, name).unwrap().lines().count();
        assert_eq!(
            (lines(Some("bullseye")), lines(Some("trixie")), lines(Some("trixie-backports"))),
            (2, 2, 1)
        );
        assert_eq!(suite("bookworm-security"), Some("bookworm-security"));
        assert_eq!(lines(None), DEBIAN_SUITES.len());
    }

    #[test]
    fn the_first_error_of_apt_is_the_one_told() {
        assert_eq!(
            complaint(b"W: old\nE: Unable to locate package x\nE: more\n"),
            "Unable to locate package x"
        );
        assert_eq!(complaint(b""), "no reason given");
    }
}
