//! What a user may give as a kernel, and how it becomes files.

use crate::{
    Error,
    cache::{Cache, default_cache_folder},
    deb::{Deb, FileList, Package},
    debian::{self, Fetched, Request},
    ground::Ground,
    module_file::{Origin, read_file},
    progress::{Progress, Silent},
    root::Root,
    trust::key::default_state_folder,
};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Folder of the cache with unpacked packages that were given as files, by their SHA-256.
const PACKAGES: &str = "packages";

/// Files that are part of the program: path under a root file system (`lib/modules/RELEASE/...`, `boot/...`), contents.
pub type Sample = &'static [(&'static str, &'static [u8])];

/// Where a kernel comes from: what a user gives as `--kernel`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The kernel that runs this program, from `/lib/modules`.
    Running,
    /// The files that the program brings along.
    Sample,
    /// The newest kernel in Debian's archive with this version, `6.12` or `6.1.0-56`; any if `None`.
    Debian {
        /// The release's beginning, ending where a part of the version ends: `6.1` is not `6.12`. Or the name of a
        /// suite, `sid` or `stable`: the newest kernel there.
        version: Option<String>,
        /// The rest of the package's name: `amd64`, `cloud-amd64`, `arm64`, `arm64-16k`, `s390x`. It says for which machine
        /// the kernel is.
        flavour: String,
    },
    /// A package of any archive that this system's apt knows, by its name: what that archive is worth its origin and its key
    /// tell, which reports name.
    Apt(String),
    /// A package's file, or a folder.
    Path(PathBuf),
    /// A release under `/lib/modules`.
    Release(String),
}

impl Source {
    /// Understands `sample`, `apt:PACKAGE`, `debian`, `debian:VERSION`, `debian:VERSION:FLAVOUR` (each with a suite for the version too), a
    /// path, and a release's name.
    ///
    /// A word that could be both a release and a path is a path if something is there; `./sample` is a path.
    pub fn parse(spec: &str) -> Result<Source, Error> {
        let bad = |problem: &str| Error::BadSource { spec: spec.to_owned(), problem: problem.to_owned() };
        if spec.is_empty() {
            return Err(bad(
                "empty; give a .deb file, a folder, a release, debian:VERSION, apt:PACKAGE or sample",
            ));
        }
        if spec == "sample" {
            return Ok(Source::Sample);
        }
        if let Some(rest) = spec.strip_prefix("debian")
            && (rest.is_empty() || rest.starts_with(':'))
        {
            let rest = rest.strip_prefix(':').unwrap_or(rest);
            let (version, flavour) = match rest.split_once(':') {
                Some((version, flavour)) => (version, Some(flavour)),
                None => (rest, None),
            };
            let request = Request::parse(version, flavour).map_err(|problem| bad(&problem))?;
            return Ok(Source::Debian { version: request.version, flavour: request.flavour });
        }
        if let Some(package) = spec.strip_prefix("apt:") {
            // What Debian allows in the name of a package (Policy, 5.6.1).
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            if !package.starts_with(|c: char| c.is_ascii_alphanumeric()) || !package.chars().all(allowed) {
                return Err(bad("no package's name; write apt:linux-image-6.12.117+deb12-amd64"));
            }
            return Ok(Source::Apt(package.to_owned()));
        }
        if spec.contains('/') || spec.ends_with(".deb") || Path::new(spec).exists() {
            return Ok(Source::Path(PathBuf::from(spec)));
        }
        Ok(Source::Release(spec.to_owned()))
    }

    /// What its files are worth.
    pub(crate) fn origin(&self) -> Origin {
        match self {
            Source::Running | Source::Release(_) => Origin::Disk,
            Source::Sample => Origin::Program,
            Source::Debian { .. } | Source::Apt(_) => Origin::Package,
            Source::Path(path) if path.is_dir() => Origin::Given,
            Source::Path(_) => Origin::Package,
        }
    }

    /// The place where this source's files are, after fetching and unpacking what that needs.
    pub(crate) fn open(&self, options: &OpenOptions, cache: &Cache) -> Result<Opened, Error> {
        match self {
            Source::Running => running(options).map(|(root, described)| Opened::folder(root, described)),
            Source::Sample if options.sample.is_empty() => Err(Error::BadSource {
                spec: "sample".to_owned(),
                problem: "this program was built without sample modules".to_owned(),
            }),
            Source::Sample => Ok(Opened {
                root: Root::Static(options.sample),
                described: "the built-in sample".to_owned(),
                remark: None,
                grounds: vec![Ground::Program],
            }),
            Source::Debian { version, flavour } => {
                let request = Request { version: version.clone(), flavour: flavour.clone() };
                let Fetched { folder, list, package, remark } = debian::fetch(&request, options, cache)?;
                let grounds = list.packages.iter().cloned().map(Ground::Archive).collect();
                let described = format!("Debian package {package}");
                Ok(Opened { root: Root::unpacked(folder, list), described, remark, grounds })
            }
            Source::Apt(name) => {
                let Fetched { folder, list, package, remark } = debian::fetch_named(name, options, cache)?;
                let origin = list.packages.first().map(|package| package.origin.clone()).unwrap_or_default();
                let grounds = list.packages.iter().cloned().map(Ground::Archive).collect();
                let described = format!("package {package} of {origin}");
                Ok(Opened { root: Root::unpacked(folder, list), described, remark, grounds })
            }
            Source::Path(path) => of_path(path, options, cache),
            Source::Release(release) => {
                let folder = options.system_root.join("lib/modules");
                let one = folder.join(release);
                if one.is_dir() {
                    let root = Root::Modules { folder: one.clone(), release: release.clone() };
                    return Ok(Opened::folder(root, one.display().to_string()));
                }
                let mut found: Vec<String> = fs::read_dir(&folder)
                    .map(|entries| {
                        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
                    })
                    .unwrap_or_default();
                found.sort();
                Err(Error::NoSuchSource { spec: release.clone(), folder, found })
            }
        }
    }
}

/// A source whose files are at hand.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) root: Root,
    /// What it is called.
    pub(crate) described: String,
    /// In words, what it stands in for, if it does.
    pub(crate) remark: Option<String>,
    pub(crate) grounds: Vec<Ground>,
}

impl Opened {
    fn folder(root: Root, described: String) -> Opened {
        let grounds = root.folder().map(|folder| Ground::Folder(folder.to_path_buf())).into_iter().collect();
        Opened { root, described, remark: None, grounds }
    }
}

fn running(options: &OpenOptions) -> Result<(Root, String), Error> {
    let path = options.system_root.join("proc/sys/kernel/osrelease");
    let release = String::from_utf8_lossy(&read_file(&path, 4096)?).trim().to_owned();
    let modules = options.system_root.join("lib/modules");
    let folder = modules.join(&release);
    // A container may have the folder and nothing of use in it.
    let usable =
        ["kernel", "updates", "extra", "modules.order"].iter().any(|name| folder.join(name).exists());
    if release.is_empty() || !usable {
        return Err(Error::NotRunningHere { release, folder: modules });
    }
    let described = format!("the running kernel ({})", folder.display());
    Ok((Root::Modules { folder, release }, described))
}

fn of_path(path: &Path, options: &OpenOptions, cache: &Cache) -> Result<Opened, Error> {
    let metadata = fs::metadata(path).map_err(Error::read(path))?;
    if metadata.is_dir() {
        return Ok(Opened::folder(Root::of_folder(path)?, path.display().to_string()));
    }
    // Opening a pipe would wait for somebody to write to it.
    if !metadata.is_file() || !Deb::is_at(path) {
        let module = crate::module_file::module_name(&path.to_string_lossy()).is_some();
        let problem = if module {
            "a module, not a kernel; name it as a module (modmem load x.ko, modmem verify --modules x.ko)"
        } else {
            "neither a Debian package nor a folder"
        };
        return Err(Error::BadSource { spec: path.display().to_string(), problem: problem.to_owned() });
    }
    let deb = Deb::open(path)?;
    let digest = deb.digest()?;
    let (folder, list) =
        unpacked(cache, PACKAGES, &digest.to_string(), (&[deb], Vec::new()), &*options.progress)?;
    let grounds = vec![Ground::File { path: path.to_path_buf(), digest }];
    Ok(Opened {
        root: Root::unpacked(folder, list),
        described: path.display().to_string(),
        remark: None,
        grounds,
    })
}

/// The folder with these packages' files: from the cache, or unpacked into it now.
pub(crate) fn unpacked(
    cache: &Cache,
    kind: &str,
    name: &str,
    (debs, packages): (&[Deb], Vec<Package>),
    progress: &dyn Progress,
) -> Result<(PathBuf, FileList), Error> {
    if let Some(unpacked) = cache.unpacked(kind, name) {
        return Ok(unpacked);
    }
    cache.make(kind, name, |part| {
        let mut list = FileList { packages, ..FileList::default() };
        for deb in debs {
            let before = deb.digest()?;
            deb.unpack(part, &mut list, progress)?;
            if deb.digest()? != before {
                return Err(Error::malformed(
                    deb.path().display().to_string(),
                    "it changed while it was read",
                ));
            }
        }
        Ok(list)
    })
}

/// How to open a kernel. The default: the user's cache folder, no progress, no sample, network allowed.
#[derive(Clone)]
pub struct OpenOptions {
    /// The cache folder. `None`: a temporary folder, removed with the [`Kernel`](crate::Kernel).
    pub cache: Option<PathBuf>,
    /// The folder of the key that seals what the cache keeps. `None`: a key for this one run.
    pub state: Option<PathBuf>,
    /// What `sample` stands for.
    pub sample: Sample,
    /// Who is told about long work.
    pub progress: Arc<dyn Progress>,
    /// Do not use the network: `debian:VERSION` takes the newest in the cache that fits.
    pub offline: bool,
    /// Ask Debian's archive again, although the cache knows an answer.
    pub refresh: bool,
    /// Where `/lib/modules` and `/boot` are; another folder than `/` for another system's disk.
    pub system_root: PathBuf,
    /// Read what roots have in modprobe.d and depmod.d, and as the kernel's command line, as modprobe and depmod do.
    pub config: bool,
    /// The kernel's command line, for the options of modules on it, instead of the one that a root has.
    pub command_line: Option<String>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            cache: default_cache_folder(),
            state: default_state_folder(),
            sample: &[],
            progress: Arc::new(Silent),
            offline: false,
            refresh: false,
            system_root: PathBuf::from("/"),
            config: true,
            command_line: None,
        }
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions")
            .field("cache", &self.cache)
            .field("state", &self.state)
            .field("sample", &self.sample.len())
            .field("offline", &self.offline)
            .field("refresh", &self.refresh)
            .field("system_root", &self.system_root)
            .field("config", &self.config)
            .field("command_line", &self.command_line)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian(version: Option<&str>, flavour: &str) -> Source {
        Source::Debian { version: version.map(str::to_owned), flavour: flavour.to_owned() }
    }

    #[test]
    fn each_way_to_name_a_kernel_is_understood() {
        let parse = |spec| Source::parse(spec).unwrap();
        assert_eq!(parse("sample"), Source::Sample);
        assert_eq!(parse("debian"), debian(None, "amd64"));
        assert_eq!(parse("debian:6.12"), debian(Some("6.12"), "amd64"));
        assert_eq!(parse("debian:6.12:cloud-amd64"), debian(Some("6.12"), "cloud-amd64"));
        assert_eq!(parse("debian:sid"), debian(Some("sid"), "amd64"));
        assert_eq!(parse("debian:6.1.0-56-amd64"), debian(Some("6.1.0-56"), "amd64"));
        assert_eq!(parse("debian:6.12:s390x"), debian(Some("6.12"), "s390x"));
        assert_eq!(parse("debian::arm64-16k"), debian(None, "arm64-16k"));
        assert_eq!(parse("debian:6.12.107+deb13-arm64-16k"), debian(Some("6.12.107+deb13"), "arm64-16k"));
        assert_eq!(parse("apt:linux-image-6.1+x"), Source::Apt("linux-image-6.1+x".to_owned()));
        assert_eq!(parse("./sample"), Source::Path("./sample".into()));
        assert_eq!(parse("gone.deb"), Source::Path("gone.deb".into()));
        assert_eq!(parse("6.12.117+deb12-amd64"), Source::Release("6.12.117+deb12-amd64".to_owned()));
        assert_eq!(parse("debianish"), Source::Release("debianish".to_owned()));
    }

    #[test]
    fn senseless_sources_say_what_to_write() {
        for spec in [
            "",
            "apt:",
            "apt:../x",
            "apt:-o",
            "apt:x y",
            "debian:../..",
            "debian:6.12:a/b",
            "debian:6.12:arm65",
        ] {
            assert!(matches!(Source::parse(spec), Err(Error::BadSource { .. })), "{spec}");
        }
    }
}
