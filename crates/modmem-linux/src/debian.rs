//! Kernels from Debian's archive, through apt: no root needed, nothing installed.
//!
//! apt decides where packages come from and checks their signatures; this module chooses a package by its name,
//! downloads it into the cache, unpacks it there and remembers which request it answered. Later runs do not ask again.

use crate::{
    Error, OpenOptions,
    apt::{self, Apt, Description},
    cache::Cache,
    deb::{Deb, FileList, Package},
    flavour,
    progress::Progress,
    source::unpacked,
};
use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
};

/// Folder of the cache with unpacked packages.
const PACKAGES: &str = "archive";
/// Folder of the cache that says which package answered which request.
const ANSWERS: &str = "archive-answers";
/// Folder of the cache with unpacked packages of other archives.
const NAMED: &str = "other-archives";

/// A kernel version, or the suite whose newest kernel is meant, and a flavour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) version: Option<String>,
    pub(crate) flavour: String,
}

impl Request {
    /// `flavour`: as it was given, if it was.
    pub(crate) fn parse(version: &str, flavour: Option<&str>) -> Result<Request, String> {
        let allowed = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ".+~-".contains(c));
        // A whole release says its flavour too.
        let (version, flavour) = match (flavour::of_release(version), flavour) {
            (Some((version, own)), None) => (version, own),
            (Some((version, own)), Some(flavour)) if own == flavour => (version, flavour),
            (_, flavour) => (version, flavour.unwrap_or(flavour::DEFAULT)),
        };
        let begins = version.is_empty() || version.starts_with(|c: char| c.is_ascii_digit());
        if !allowed(version) || !(begins || apt::suite(version).is_some()) {
            return Err(format!(
                "\"{version}\" is neither a version nor a suite with kernels; write debian:6.12, debian:6.1.0-56 or debian:sid"
            ));
        }
        if flavour::architecture(flavour).is_none() {
            return Err(format!(
                "\"{flavour}\" is no flavour of Debian's kernels; write {}",
                flavour::EXAMPLES
            ));
        }
        Ok(Request {
            version: Some(version.to_owned()).filter(|version| !version.is_empty()),
            flavour: flavour.to_owned(),
        })
    }

    /// Debian's name of the machine that the flavour is for.
    fn architecture(&self) -> &'static str {
        flavour::architecture(&self.flavour).unwrap_or(apt::HOME)
    }

    /// The suite that is asked for, if it is one.
    fn suite(&self) -> Option<&'static str> {
        apt::suite(self.version.as_deref()?)
    }

    /// The version in the name of a package, if the package is a kernel of the flavour and version asked for.
    fn version_in<'p>(&self, package: &'p str) -> Option<&'p str> {
        let rest = package.strip_prefix("linux-image-")?;
        let version = rest.strip_suffix(&self.flavour)?.strip_suffix('-')?;
        // Another flavour's package ends the same way: `6.12-cloud` + `amd64`. Release candidates only by name.
        let plain = version.split('-').all(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        let candidate = version.split('-').any(|part| part.starts_with("rc"));
        let asked = self.version.as_deref().filter(|_| self.suite().is_none()).unwrap_or_default();
        let fits = plain || (candidate && asked.contains("rc"));
        let ends = version.strip_prefix(asked).filter(|_| fits)?;
        (asked.is_empty() || !ends.starts_with(|c: char| c.is_ascii_alphanumeric())).then_some(version)
    }

    /// The newest of these packages that fits.
    fn newest<'p>(&self, packages: impl Iterator<Item = &'p str>) -> Option<&'p str> {
        packages
            .filter_map(|package| Some((self.version_in(package)?, package)))
            .max_by(|(a, _), (b, _)| compare_versions(a, b))
            .map(|(_, package)| package)
    }

    /// Does the request name a series of kernels, such as 6.12, so that any of them in the cache will do?
    fn names_series(&self) -> bool {
        self.version.as_deref().is_some_and(|version| version.contains('.'))
    }

    fn shown(&self) -> String {
        let version = self.version.as_deref().unwrap_or("newest");
        if self.flavour == flavour::DEFAULT {
            version.to_owned()
        } else {
            format!("{version}:{}", self.flavour)
        }
    }

    fn error(&self, problem: impl Into<String>) -> Error {
        Error::Debian { request: self.shown(), problem: problem.into() }
    }
}

/// Numbers compare as numbers, everything else by its characters.
fn compare_versions(mut a: &str, mut b: &str) -> Ordering {
    fn take<'v>(text: &mut &'v str, wanted: impl Fn(char) -> bool) -> &'v str {
        let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
        let (part, rest) = text.split_at(end);
        *text = rest;
        part
    }
    loop {
        let words = take(&mut a, |c| !c.is_ascii_digit()).cmp(take(&mut b, |c| !c.is_ascii_digit()));
        let (left, right) = (take(&mut a, |c| c.is_ascii_digit()), take(&mut b, |c| c.is_ascii_digit()));
        let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
        let numbers = left.len().cmp(&right.len()).then(left.cmp(right));
        let order = words.then(numbers);
        if order != Ordering::Equal || (a.is_empty() && b.is_empty()) {
            return order;
        }
    }
}

/// The unpacked package that answers a request.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) folder: PathBuf,
    pub(crate) list: FileList,
    /// Its name and version.
    pub(crate) package: String,
    /// In words, that it may not be the newest one: the archive could not be asked.
    pub(crate) remark: Option<String>,
}

/// Finds the answer to a request: in the cache, or else in the archive.
///
/// What was to be asked again and cannot be is an error. Otherwise an older answer stands in, and is said to.
pub(crate) fn fetch(request: &Request, options: &OpenOptions, cache: &Cache) -> Result<Fetched, Error> {
    fetch_by(request, options, cache, || download(request, options, cache))
}

/// The same with another archive than Debian's.
fn fetch_by(
    request: &Request,
    options: &OpenOptions,
    cache: &Cache,
    download: impl FnOnce() -> Result<Found, Error>,
) -> Result<Fetched, Error> {
    if options.refresh && options.offline {
        return Err(request
            .error("it was to be asked again (--refresh), and the network is not to be used (--offline)"));
    }
    let refresh = options.refresh;
    let answer = format!("{}_{}", request.version.as_deref().unwrap_or("newest"), request.flavour);
    let usable = |name: &str| {
        // A name read from the cache is used as a path: it must be one name.
        let is_one = !name.contains('/') && !name.starts_with('.');
        let (folder, list) = cache.unpacked(PACKAGES, name).filter(|_| is_one)?;
        let package = name.replacen('_', " ", 1);
        Some(Fetched { folder, list, package, remark: None })
    };
    let cached = || {
        // Which suite a package came from, its name does not say.
        if request.suite().is_some() {
            return cache
                .note(ANSWERS, &answer)
                .and_then(|note| usable(String::from_utf8(note).ok()?.trim()));
        }
        // What somebody planted stands in the way of nothing.
        let mut names = cache.names(PACKAGES);
        names.retain(|name| {
            let package = name.split_once('_').map(|(package, _)| package);
            package.is_some_and(|package| request.version_in(package).is_some()) && usable(name).is_some()
        });
        let newest =
            request.newest(names.iter().filter_map(|name| Some(name.split_once('_')?.0)))?.to_owned();
        // Of several builds of one package any will do; the last name is the likeliest to be the latest.
        let name = names
            .iter()
            .filter(|name| name.split_once('_').is_some_and(|(package, _)| package == newest))
            .max();
        usable(name?)
    };
    // Nobody was asked, and there may be a newer one.
    let stored = |mut found: Fetched| {
        let package = &found.package;
        found.remark = options.offline.then(|| {
            format!("offline: {package} is what the cache has; the archive was not asked, and may have a newer one")
        });
        found
    };
    if !refresh {
        let remembered = cache.note(ANSWERS, &answer).and_then(|note| String::from_utf8(note).ok());
        if let Some(found) = remembered.as_deref().map(str::trim).and_then(usable) {
            return Ok(stored(found));
        }
        if (request.names_series() || options.offline)
            && let Some(found) = cached()
        {
            return Ok(stored(found));
        }
        if options.offline {
            return Err(request.error("not in the cache, and the network is not to be used"));
        }
    }
    match download() {
        Ok((name, updated)) => {
            // Old lists may name an old kernel: that is no answer for the next time.
            if updated.is_ok() {
                cache.keep_note(ANSWERS, &answer, name.as_bytes());
            }
            let unpacked = cache.unpacked(PACKAGES, &name);
            let (folder, list) = unpacked.ok_or_else(|| request.error("unpacked package has vanished"))?;
            let package = name.replacen('_', " ", 1);
            let remark = updated.err().map(|problem| {
                format!(
                    "debian:{}: {package} is from older package lists, not all could be fetched ({problem})",
                    request.shown()
                )
            });
            Ok(Fetched { folder, list, package, remark })
        }
        Err(error) if refresh => Err(error),
        // The archive cannot be reached: an older kernel that fits is better than none.
        Err(error) => {
            let Some(mut found) = cached() else { return Err(error) };
            let package = &found.package;
            found.remark =
                Some(format!("{error}; {package} of the cache stands in, which may not be the newest"));
            Ok(found)
        }
    }
}

/// The name of a folder in the cache, and whether the lists that it was found in are as the archive has them now.
type Found = (String, Result<(), String>);

/// Finds, downloads and unpacks. Where everything was to be asked again, only fresh lists count.
fn download(request: &Request, options: &OpenOptions, cache: &Cache) -> Result<Found, Error> {
    let progress = &*options.progress;
    let folder = apt::state_folder(cache)?;
    // This system's own release first, where that is Debian: there are fewer lists to fetch.
    let suites = match request.suite() {
        Some(suite) => vec![Some(suite)],
        None => apt::own_release().map(Some).into_iter().chain([None]).collect(),
    };
    let mut problem = None;
    for suite in suites {
        let found = download_from(suite, &folder, (request, options.refresh), cache, progress)?;
        match found {
            Ok(found) => return Ok(found),
            Err(error) => problem = Some(error),
        }
    }
    Err(problem.unwrap_or_else(|| request.error("no suite of Debian's archive is meant")))
}

/// The same from one suite, or from all. What is not there may be elsewhere: that is the inner error.
fn download_from(
    suite: Option<&'static str>,
    folder: &Path,
    (request, only_fresh): (&Request, bool),
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<Result<Found, Error>, Error> {
    let failed = |problem: String| request.error(problem);
    let apt = Apt::of_debian(folder, suite, request.architecture()).map_err(failed)?;
    let updated = apt.update(progress);
    // Of all suites one more or less does not matter, if the kernel is found.
    if (only_fresh || suite.is_some())
        && let Err(problem) = updated
    {
        return Ok(Err(failed(problem)));
    }
    let kernels = apt.kernels().map_err(failed)?;
    let Some(package) = request.newest(kernels.iter().map(String::as_str)) else {
        updated.map_err(failed)?;
        let problem = "Debian's archive has no such kernel; give a .deb file, a folder, or sample";
        return Ok(Err(request.error(problem)));
    };
    let of_archive = Wanted { package, kind: PACKAGES, failed: &failed };
    Ok(Ok((get(&of_archive, &apt, cache, progress)?, updated)))
}

/// A package of whatever archive this system's apt knows, asked for by its name.
pub(crate) fn fetch_named(package: &str, options: &OpenOptions, cache: &Cache) -> Result<Fetched, Error> {
    let failed = |problem: String| Error::BadSource { spec: format!("apt:{package}"), problem };
    if options.refresh {
        return Err(failed(
            "apt's lists are this system's: refresh them by `apt-get update`, as root".into(),
        ));
    }
    let apt = Apt::of_system(package).map_err(failed)?;
    let wanted = Wanted { package, kind: NAMED, failed: &failed };
    if options.offline {
        let name = name_of(package, &apt.describe(package).map_err(failed)?);
        if cache.unpacked(NAMED, &name).is_none() {
            return Err(failed("not in the cache, and the network is not to be used".into()));
        }
    }
    let name = get(&wanted, &apt, cache, &*options.progress)?;
    let unpacked = cache.unpacked(NAMED, &name);
    let (folder, list) = unpacked.ok_or_else(|| failed("unpacked package has vanished".into()))?;
    let package = name.replacen('_', " ", 1);
    Ok(Fetched { folder, list, package, remark: None })
}

/// What is to be had from an archive.
struct Wanted<'w> {
    package: &'w str,
    /// The folder of the cache that it goes to.
    kind: &'static str,
    failed: &'w dyn Fn(String) -> Error,
}

/// The name of a package and its version, as a folder's.
fn name_of(package: &str, described: &Description) -> String {
    let version = described.version.chars().map(|c| if c == ':' || c == '/' { '%' } else { c });
    format!("{package}_{}", version.collect::<String>())
}

/// Downloads `package` and what belongs to it, and unpacks them into one folder of the cache.
fn get(wanted: &Wanted<'_>, apt: &Apt, cache: &Cache, progress: &dyn Progress) -> Result<String, Error> {
    let Wanted { package, kind, failed } = *wanted;
    let first = apt.describe(package).map_err(failed)?;
    let name = name_of(package, &first);
    let mut records = vec![first.package(package, apt).map_err(failed)?];
    // Another archive can have another package of this name and version.
    let digest = |packages: &[Package]| packages.first().map(|package| package.digest);
    let is_it = |list: &FileList| kind == PACKAGES || digest(&list.packages) == digest(&records);
    match cache.unpacked(kind, &name) {
        Some((_, list)) if is_it(&list) => return Ok(name),
        Some((folder, _)) => {
            let problem = "the cache has another package of this name and version; remove";
            return Err(failed(format!("{problem} {}", folder.display())));
        }
        None => {}
    }
    let mut packages = vec![package.to_owned()];
    let mut size = first.size;
    let release = package.strip_prefix("linux-image-").unwrap_or(package);
    let mut parts = first.parts(release);
    // Since Linux 7 the image, its binary and its modules are packages of their own that need each other.
    while let Some(part) = parts.pop() {
        if !packages.contains(&part) && packages.len() < 8 {
            let described = apt.describe(&part).map_err(failed)?;
            size += described.size;
            records.push(described.package(&part, apt).map_err(failed)?);
            parts.extend(described.parts(release));
            packages.push(part);
        }
    }
    let folder = apt::download_folder(cache)?;
    apt.download(&packages, size, folder.path(), progress).map_err(failed)?;
    let mut debs = Vec::new();
    for entry in fs::read_dir(folder.path()).map_err(Error::read(folder.path()))?.flatten() {
        if entry.path().extension().is_some_and(|end| end == "deb") {
            let deb = Deb::open(&entry.path())?;
            // apt checked it too; what is recorded is what was read.
            let digest = deb.digest()?;
            if !records.iter().any(|record| record.digest == digest) {
                return Err(failed(format!("{} is not what the archive lists", entry.path().display())));
            }
            debs.push(deb);
        }
    }
    if debs.len() != records.len() {
        return Err(failed("not all of its packages were downloaded".into()));
    }
    unpacked(cache, kind, &name, (&debs, records), progress)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const NAMES: &[&str] = &[
        "linux-image-6.1.0-9-amd64",
        "linux-image-6.1.0-56-amd64",
        "linux-image-6.1.0-56-amd64-unsigned",
        "linux-image-6.1.0-56-amd64-dbg",
        "linux-image-6.1.0-57-cloud-amd64",
        "linux-image-6.1.0-57-rt-amd64",
        "linux-image-6.12.74+deb12-amd64",
        "linux-image-6.12.117+deb12-amd64",
        "linux-image-7.3-rc2-amd64",
        "linux-image-amd64",
        "linux-image-cloud-amd64",
    ];

    fn newest(version: &str, flavour: &str) -> Option<&'static str> {
        Request::parse(version, Some(flavour)).unwrap().newest(NAMES.iter().copied())
    }

    #[test]
    fn versions_match_whole_parts_and_the_newest_wins() {
        assert_eq!(newest("", "amd64"), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest("6", "amd64"), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest("6.12", "amd64"), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest("6.12.74", "amd64"), Some("linux-image-6.12.74+deb12-amd64"));
        assert_eq!(newest("6.12.117+deb12-amd64", "amd64"), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest("6.1", "amd64"), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(newest("6.1.0-9", "amd64"), Some("linux-image-6.1.0-9-amd64"));
        assert_eq!(newest("6.12.1", "amd64"), None);
    }

    #[test]
    fn other_flavours_and_release_candidates_only_by_name() {
        assert_eq!(newest("6.1", "cloud-amd64"), Some("linux-image-6.1.0-57-cloud-amd64"));
        assert_eq!(newest("7.3", "amd64"), None);
        assert_eq!(newest("7.3-rc2", "amd64"), Some("linux-image-7.3-rc2-amd64"));
    }

    #[test]
    fn a_suite_means_its_newest_kernel() {
        assert_eq!(newest("sid", "amd64"), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest("sid", "cloud-amd64"), Some("linux-image-6.1.0-57-cloud-amd64"));
        assert!(Request::parse("noble", Some("amd64")).is_err());
    }

    #[test]
    fn offline_a_suite_has_the_kernel_that_it_was_last_seen_with() {
        let (_root, options, cache) =
            with_cached(&["linux-image-7.2.1-amd64_7.2.1-1", "linux-image-7.3.1-amd64_7.3.1-1"]);
        let request = Request::parse("sid", Some("amd64")).unwrap();
        assert!(fetch(&request, &options, &cache).is_err());
        cache.keep_note(ANSWERS, "sid_amd64", b"linux-image-7.2.1-amd64_7.2.1-1");
        let described = fetch(&request, &options, &cache).unwrap().package;
        assert_eq!(described, "linux-image-7.2.1-amd64 7.2.1-1");
    }

    fn with_cached(names: &[&str]) -> (TempDir, OpenOptions, Cache) {
        let root = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            offline: true,
            cache: Some(root.path().join("cache")),
            state: Some(root.path().join("state")),
            ..OpenOptions::default()
        };
        let cache = Cache::new(options.cache.as_deref(), options.state.as_deref()).unwrap();
        for name in names {
            cache.make(PACKAGES, name, |_| Ok(FileList::default())).unwrap();
        }
        (root, options, cache)
    }

    #[test]
    fn offline_takes_the_newest_in_the_cache() {
        let (_root, options, cache) = with_cached(&[
            "linux-image-6.12.9-amd64_6.12.9-1",
            "linux-image-6.12.10-amd64_6.12.10-1",
            "linux-image-6.1.0-1-amd64_1",
        ]);
        let request = Request::parse("6.12", Some("amd64")).unwrap();
        let found = fetch(&request, &options, &cache).unwrap();
        assert_eq!(found.package, "linux-image-6.12.10-amd64 6.12.10-1");
        assert!(found.remark.unwrap().starts_with("offline: "));
        let error = fetch(&Request::parse("6.13", Some("amd64")).unwrap(), &options, &cache).unwrap_err();
        assert!(error.to_string().contains("not in the cache"), "{error}");
        let error = fetch(&request, &OpenOptions { refresh: true, ..options }, &cache).unwrap_err();
        assert!(error.to_string().contains("--refresh"), "{error}");
    }

    #[test]
    fn an_archive_that_cannot_be_asked_is_told_or_an_error_if_it_was_to_be_asked() {
        let (_root, mut options, cache) = with_cached(&["linux-image-6.12.9-amd64_6.12.9-1"]);
        options.offline = false;
        let request = Request::parse("", Some("amd64")).unwrap();
        let fetch = |options: &OpenOptions, found: Result<Found, Error>| {
            fetch_by(&request, options, &cache, || found)
        };
        let down = || Err(request.error("download failed: no route"));
        let stands_in = fetch(&options, down()).unwrap();
        assert_eq!(stands_in.package, "linux-image-6.12.9-amd64 6.12.9-1");
        let remark = stands_in.remark.unwrap();
        assert!(remark.contains("no route") && remark.contains("stands in"), "{remark}");
        // From old lists: told, and not remembered as the archive's answer.
        let old = || Ok(("linux-image-6.12.9-amd64_6.12.9-1".to_owned(), Err("no route".to_owned())));
        assert!(fetch(&options, old()).unwrap().remark.unwrap().contains("older package lists"));
        assert_eq!(cache.note(ANSWERS, "newest_amd64"), None);
        options.refresh = true;
        assert!(fetch(&options, down()).unwrap_err().to_string().contains("no route"));
        let fresh = || Ok(("linux-image-6.12.9-amd64_6.12.9-1".to_owned(), Ok(())));
        assert_eq!(fetch(&options, fresh()).unwrap().remark, None);
        assert!(cache.note(ANSWERS, "newest_amd64").is_some());
        assert!(fetch(&options, down()).is_err(), "although there is an answer to fall back to");
    }

    #[test]
    fn a_planted_package_is_not_used() {
        let (root, options, cache) = with_cached(&["linux-image-6.12.9-amd64_6.12.9-1"]);
        let [ours, planted] = ["6.12.9", "6.12.99"].map(|version| {
            root.path().join(format!("cache/archive/linux-image-{version}-amd64_{version}-1"))
        });
        fs::create_dir(&planted).unwrap();
        for entry in fs::read_dir(&ours).unwrap().flatten() {
            fs::copy(entry.path(), planted.join(entry.file_name())).unwrap();
        }
        let request = Request::parse("6.12", Some("amd64")).unwrap();
        assert_eq!(fetch(&request, &options, &cache).unwrap().folder, fs::canonicalize(ours).unwrap());
        let request = Request::parse("6.12.99", Some("amd64")).unwrap();
        assert!(fetch(&request, &options, &cache).unwrap_err().to_string().contains("not in the cache"));
    }

    #[test]
    fn what_answered_a_request_answers_it_again() {
        let (_root, mut options, cache) =
            with_cached(&["linux-image-6.12.9-amd64_6.12.9-1", "linux-image-6.12.10-amd64_6.12.10-1"]);
        options.offline = false;
        cache.keep_note(ANSWERS, "newest_amd64", b"linux-image-6.12.9-amd64_6.12.9-1\n");
        let name = fetch(&Request::parse("", Some("amd64")).unwrap(), &options, &cache).unwrap().package;
        assert_eq!(name, "linux-image-6.12.9-amd64 6.12.9-1");
    }
}
