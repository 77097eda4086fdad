//! apt as a tool of ours: it knows where packages are and checks who signed them. What it is told comes from us alone.
//!
//! Nothing is installed and no root is needed: lists and downloads live in folders of our own. Errors are apt's own
//! words, in one line.
//!
//! Of the system's configuration only that is taken which says how the network is reached. As root, apt fetches as a user
//! of its own, who must be able to come to the folders that it writes to: these lie outside root's home then.

mod system;

use self::system::Candidate;
use crate::{
    Error,
    cache::Cache,
    deb::Package,
    progress::{Phase, Progress},
    trust::{digest::Digest, places},
};
use std::{
    env,
    fs::{self, Permissions},
    io::{self, Read, Seek, Write as _},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

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
        let plain = |word: &&str| {
            let begins = ["http://", "https://", "file:/"].iter().any(|start| word.starts_with(start));
            begins && word.chars().all(|c| c.is_ascii_alphanumeric() || ":/._-~%@+[]".contains(c))
        };
        let addresses = sources.split_whitespace().filter(plain);
        addresses.map(|word| word.trim_end_matches('/')).find(|word| word.ends_with(self.ending()))
    }
}

/// The text of the system's sources, in both formats that apt has.
fn system_sources() -> String {
    let texts = system::sources();
    let lines = texts.iter().flat_map(|text| text.lines());
    let used = lines.filter(|line| !line.trim_start().starts_with('#'));
    used.collect::<Vec<_>>().join("\n")
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

/// Where Debian's archive is for who names no mirror.
const MIRRORS: &str = "http://deb.debian.org/debian http://deb.debian.org/debian-security";

/// Variables of the caller's that reach apt: how to get out.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// What is taken from the system's configuration of apt: how the network is reached, and whether a mirror may be old.
const NETWORK: [&str; 9] = [
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::Retries",
    "Acquire::ForceIPv4",
    "Acquire::ForceIPv6",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Max-ValidTime",
    "Acquire::Queue-Mode",
];

/// Where root has apt's lists and downloads.
const OF_ROOT: &str = "/var/cache/modmem";

/// The user as whom apt fetches for root.
fn sandbox_user() -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find_map(|line| line.strip_prefix("_apt:"))?;
    line.split(':').nth(1)?.parse().ok()
}

/// The folder for apt's lists: in the cache, for root where apt's own user can come to it.
pub(crate) fn state_folder(cache: &Cache) -> Result<PathBuf, Error> {
    if places::user() == 0
        && sandbox_user().is_some()
        && let Ok(folder) = places::make(Path::new(OF_ROOT), 0)
        && fs::set_permissions(&folder, Permissions::from_mode(0o755)).is_ok()
        && TempDir::new_in(&folder).is_ok()
    {
        return Ok(folder);
    }
    cache.writable("apt")
}

/// A folder for what apt downloads, as the user who fetches can write to it.
pub(crate) fn download_folder(cache: &Cache) -> Result<TempDir, Error> {
    let state = state_folder(cache)?;
    let folder = TempDir::with_prefix_in(".part-", &state).map_err(Error::write(&state))?;
    if let Some(user) = sandbox_user().filter(|_| state == Path::new(OF_ROOT)) {
        chown(folder.path(), Some(user), None).map_err(Error::write(folder.path()))?;
    }
    Ok(folder)
}

/// A program of apt's by its full path, with nothing of the caller's environment but how to get out.
fn clean(program: &str) -> Command {
    let mut command = Command::new(Path::new("/usr/bin").join(program));
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("HOME", "/nonexistent")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    command.envs(PROXIES.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command
}

/// A configuration with nothing of the system's but how the network is reached.
fn network() -> String {
    let mut text = String::from("Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n");
    let dump = clean("apt-config").arg("dump").output().map(|output| output.stdout).unwrap_or_default();
    let dump = String::from_utf8_lossy(&dump);
    let taken = dump.lines().filter(|line| NETWORK.iter().any(|name| line.starts_with(name)));
    text.extend(taken.flat_map(|line| [line, "\n"]));
    text
}

/// What must be so whatever this system's apt is told: nothing counts that is not signed.
const SIGNED: [&str; 4] = [
    "-oAcquire::AllowInsecureRepositories=false",
    "-oAcquire::AllowWeakRepositories=false",
    "-oAcquire::AllowDowngradeToInsecureRepositories=false",
    "-oAPT::Get::AllowUnauthenticated=false",
];

/// The release of Debian that this system is, if it is one whose kernels are known.
pub(crate) fn own_release() -> Option<&'static str> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.map(|value| value.trim_matches('"'))
    };
    let codename = field("VERSION_CODENAME").filter(|_| field("ID") == Some("debian"))?;
    suite(codename)
}

/// apt on Debian's archive and on nothing else, or as this system has it.
///
/// For Debian's, neither the system's sources nor its lists are used, which may be anybody's: of them only the addresses of
/// mirrors are taken. The archive's own key decides.
#[derive(Debug)]
pub(crate) struct Apt {
    /// Lists and sources of our own; `None` for the system's.
    own: Option<Own>,
    /// Whose archive it is, in words.
    origin: String,
    /// What signs for it.
    key: String,
}

#[derive(Debug)]
struct Own {
    /// The architecture whose packages are meant, by Debian's name for it.
    architecture: &'static str,
    /// Folder for lists of our own.
    lists: PathBuf,
    /// The file that says where packages come from.
    sources: PathBuf,
    /// The configuration that apt reads instead of the system's.
    config: PathBuf,
}

impl Apt {
    /// All of Debian's suites, or one of them, from the mirrors that the system uses, with lists in `folder`.
    pub(crate) fn of_debian(
        folder: &Path,
        suite: Option<&str>,
        architecture: &'static str,
    ) -> Result<Apt, String> {
        if !Path::new(DEBIAN_KEYS).exists() {
            return Err(format!(
                "the keys that sign Debian's archive are not here ({DEBIAN_KEYS}); install debian-archive-keyring"
            ));
        }
        let mirrors = format!("{} {MIRRORS}", system_sources());
        let list = suites(&mirrors, suite).ok_or("no suite of Debian's archive is meant")?;
        let name = suite.map_or("debian".to_owned(), |suite| format!("debian-{suite}"));
        let mirror = Archive::Main.mirror(&mirrors).unwrap_or_default();
        let of = suite.map_or(String::new(), |suite| format!(" {suite}"));
        Apt::with_sources(folder, &name, &list, format!("Debian{of}, {mirror}"), architecture)
    }

    /// apt with one list of sources and nothing else.
    fn with_sources(
        folder: &Path,
        name: &str,
        list: &str,
        origin: String,
        architecture: &'static str,
    ) -> Result<Apt, String> {
        // A new file under its name: what is there may be a link. apt's own user reads it too.
        let write = |end: &str, text: &str| -> io::Result<PathBuf> {
            let path = folder.join(format!("{name}.{end}"));
            let mut file = tempfile::Builder::new().prefix(".part-").suffix(end).tempfile_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().set_permissions(Permissions::from_mode(0o644))?;
            file.persist(&path)?;
            Ok(path)
        };
        let write = |end: &str, text: &str| {
            write(end, text).map_err(|error| format!("cannot write to {}: {error}", folder.display()))
        };
        let lists = folder.join(folder_of(name, architecture));
        let (sources, config) = (write("list", list)?, write("conf", &network())?);
        let own = Own { architecture, lists, sources, config };
        Ok(Apt { own: Some(own), origin, key: DEBIAN_KEYS.to_owned() })
    }

    /// This system's apt, as its administrator set it up, for one package that somebody asked for by name.
    pub(crate) fn of_system(package: &str) -> Result<Apt, String> {
        let mut apt = Apt { own: None, origin: String::new(), key: String::new() };
        let policy = apt.run(apt.command("apt-cache").args(["policy", package]))?;
        let Some(candidate) = Candidate::parse(&policy) else {
            return Err("this system's apt knows no archive that has it (apt-get update?)".to_owned());
        };
        let policies = apt.run(apt.command("apt-cache").arg("policy"))?;
        apt.origin = candidate.origin(&policies);
        apt.key = system::key(&candidate.address, &system::sources());
        Ok(apt)
    }

    /// Whose archive it is, and what signed it.
    pub(crate) fn vouchers(&self) -> (String, String) {
        (self.origin.clone(), self.key.clone())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = clean(program);
        // Who fetches is not root, where apt can have it so.
        command.arg("-oAPT::Sandbox::User=_apt").args(SIGNED);
        let Some(Own { architecture, lists, sources, config }) = &self.own else { return command };
        command
            .env("APT_CONFIG", config)
            .arg(format!("-oDir::State::Lists={}", lists.join("lists").display()))
            .arg(format!("-oDir::Cache={}", lists.join("cache").display()))
            .arg("-oDir::State::status=/dev/null")
            .arg(format!("-oDir::Etc::SourceList={}", sources.display()))
            .args([
                "-oDir::Etc::SourceParts=-",
                "-oDir::Etc::Preferences=-",
                "-oDir::Etc::PreferencesParts=-",
            ])
            .arg("-oAcquire::AllowReleaseInfoChange=true")
            .arg(format!("-oAPT::Architecture={architecture}"))
            .arg(format!("-oAPT::Architectures={architecture}"))
            // Package lists and nothing else: no translations, no catalogues for software centres.
            .args([
                "-oAcquire::Languages=none",
                "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            ]);
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

    /// Fetches lists of our own; the system's are for its administrator to fetch.
    pub(crate) fn update(&self, progress: &dyn Progress) -> Result<(), String> {
        let Some(Own { architecture, lists, .. }) = &self.own else { return Ok(()) };
        for name in ["lists/partial", "cache/archives/partial"] {
            let folder = lists.join(name);
            fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let mut title = "fetching Debian's package lists".to_owned();
        if *architecture != HOME {
            title = format!("{title} for {architecture}");
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
    sha256: Option<Digest>,
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
            sha256: Digest::parse(field("SHA256")),
            depends: format!("{}, {}", field("Pre-Depends"), field("Depends")),
        }
    }

    /// What is recorded of the package when it was fetched.
    pub(crate) fn package(&self, name: &str, apt: &Apt) -> Result<Package, String> {
        let digest = self.sha256.ok_or_else(|| format!("apt's lists have no SHA256 of {name}"))?;
        let (name, version) = (name.to_owned(), self.version.clone());
        let (origin, key) = apt.vouchers();
        Ok(Package { name, version, digest, origin, key })
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
    fn what_debian_s_key_did_not_sign_is_not_taken_whatever_a_source_says() {
        if !Path::new("/usr/bin/apt-get").exists() || !Path::new(DEBIAN_KEYS).exists() {
            eprintln!("skipped: no apt-get or no keys of Debian's here");
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let archive = top.path().join("debian");
        let packages = archive.join("dists/stable/main/binary-amd64");
        fs::create_dir_all(&packages).unwrap();
        let package = "Package: linux-image-6.12.0-amd64\nVersion: 1\nArchitecture: amd64\nFilename: x.deb\n\
             Size: 1\nDescription: a kernel\n\n";
        fs::write(packages.join("Packages"), package).unwrap();
        let release = format!(
            "Origin: Debian\nSuite: stable\nComponents: main\nArchitectures: amd64\nSHA256:\n {} {} main/binary-amd64/Packages\n",
            Digest::of(package.as_bytes()),
            package.len()
        );
        fs::write(archive.join("dists/stable/Release"), release).unwrap();
        let mirror = format!("file:{}", archive.display());
        let state = top.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
        let apt = |name: &str, list: &str| {
            Apt::with_sources(&state, name, list, "a test".to_owned(), HOME).unwrap()
        };
        // As the system's source has it, the package would be there.
        let source = format!("deb [trusted=yes] {mirror} stable main\n");
        let system = apt("system", &source);
        system.update(&crate::progress::Silent).unwrap();
        assert_eq!(system.kernels().unwrap(), ["linux-image-6.12.0-amd64"], "the test's archive is one");
        let list = suites(&source, Some("stable")).unwrap();
        assert!(list.contains(&mirror) && !list.contains("trusted"), "{list}");
        let ours = apt("ours", &list);
        let refused = ours.update(&crate::progress::Silent).unwrap_err();
        assert!(refused.contains("not signed") || refused.contains("signature"), "{refused}");
        assert_eq!(ours.kernels().unwrap_or_default(), [""; 0]);
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
