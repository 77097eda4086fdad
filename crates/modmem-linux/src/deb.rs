//! Debian packages: an `ar` archive around a compressed `tar`, unpacked without dpkg.
//!
//! Only what belongs to a kernel is unpacked, under the names that [`Root`](crate::root::Root) expects. Links are never
//! created, so that no entry can be written through one; a path or a module's link that leads out of the package is
//! refused.

use crate::{
    Error,
    compress::Format,
    files,
    module_file::{Kept, module_name},
    progress::{Phase, Progress},
    trust::digest::{Digest, Hasher},
    xz_index,
};
use liblzma::stream::MtStreamBuilder;
use std::{
    cell::Cell,
    collections::HashSet,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
};

const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
const AR_HEADER: u64 = 60;

/// A kernel with all its modules has a few thousand files.
const MAX_FILES: usize = 50_000;

/// Bytes that are unpacked of a package, and bytes of a stream that are read on the way to them, at most: four times what
/// the largest of Debian's kernels have, with modules that are not compressed, and with all that is for debuggers.
const MAX_UNPACKED: u64 = 1600 << 20;
const MAX_TOTAL: u64 = 26 << 30;

/// Both are at most so many times what is packed: kernels come to a sixth or a tenth of their size. Small packages may
/// consist of what compresses better.
const MAX_RATIO: u64 = 32;
const SMALL: u64 = 128 << 20;

/// Bytes between the end of one file in the archive and the next: headers, long names and the like, which the archive's
/// reader keeps in memory whatever their size says.
const MAX_BETWEEN: u64 = 4 << 20;

/// Memory for decoding several blocks at once. dpkg's blocks are 24 MiB, and each in work needs about twice that; with
/// less than two at once the second core would idle.
const THREADING_MEMORY: u64 = 128 << 20;

/// Memory for decoding at all: `xz -9` takes 65 MiB.
const MOST_DECODING: u64 = 128 << 20;

/// A package, its two archives found but not read.
#[derive(Debug)]
pub(crate) struct Deb {
    path: PathBuf,
    file: File,
    data: Member,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    offset: u64,
    size: u64,
}

impl Deb {
    /// Is there an `ar` archive at `path`?
    pub(crate) fn is_at(path: &Path) -> bool {
        let mut magic = [0; 8];
        files::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == *AR_MAGIC
    }

    pub(crate) fn open(path: &Path) -> Result<Deb, Error> {
        let mut file = files::open(path)?;
        let size = file.metadata().map_err(Error::read(path))?.len();
        let bad = |problem: &str| Error::malformed(path.display().to_string(), problem);
        let mut magic = [0; 8];
        if file.read_exact(&mut magic).is_err() || magic != *AR_MAGIC {
            return Err(bad("not a Debian package"));
        }
        let (mut control, mut data) = (false, None);
        let mut at = AR_MAGIC.len() as u64;
        while at < size && data.is_none() {
            let mut header = [0; AR_HEADER as usize];
            file.seek(SeekFrom::Start(at)).map_err(Error::read(path))?;
            file.read_exact(&mut header).map_err(|_| bad("truncated package (in the header of a member)"))?;
            let name = String::from_utf8_lossy(&header[..16]).trim_end_matches([' ', '/']).to_owned();
            let length = std::str::from_utf8(&header[48..58])
                .ok()
                .and_then(|text| text.trim_end().parse::<u64>().ok());
            let (Some(length), b"`\n") = (length, &header[58..]) else {
                return Err(bad("not a Debian package (a member's header is damaged)"));
            };
            let member = Member { offset: at + AR_HEADER, size: length };
            let end = member.offset.checked_add(length).filter(|end| *end <= size);
            let end = end.ok_or_else(|| bad(&format!("truncated package (member {name})")))?;
            if name.starts_with("control.tar") {
                control = true;
            } else if name.starts_with("data.tar") {
                data = Some(member);
            }
            at = end + end % 2;
        }
        match (control, data) {
            (true, Some(data)) => Ok(Deb { path: path.to_path_buf(), file, data }),
            _ => Err(bad("not a Debian package (no control.tar or no data.tar in it)")),
        }
    }

    /// What this package is, whatever it is called: the SHA-256 of the whole file, as archives list it.
    pub(crate) fn digest(&self) -> Result<Digest, Error> {
        Digest::of_file(&self.file, &self.path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn tail(&self, length: u64) -> Result<Vec<u8>, Error> {
        let length = self.data.size.min(length);
        self.bytes(self.data.offset + (self.data.size - length), length)
    }

    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset)).map_err(Error::read(&self.path))?;
        file.read_exact(&mut bytes).map_err(Error::read(&self.path))?;
        Ok(bytes)
    }

    /// Unpacks the kernel's files into `folder`, and adds them to `list`.
    pub(crate) fn unpack(
        &self,
        folder: &Path,
        list: &mut FileList,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let shown = self.path.display().to_string();
        let start = self.bytes(self.data.offset, self.data.size.min(16))?;
        let tail = self.tail(256 << 10)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data.offset)).map_err(Error::read(&self.path))?;
        let packed = BufReader::with_capacity(1 << 20, file.take(self.data.size));
        let format = Format::of(&start);
        let (name, total, unpacked): (_, _, Box<dyn Read + '_>) = match format {
            Some(Format::Xz) => {
                let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u32);
                let stream = MtStreamBuilder::new()
                    .threads(threads)
                    .memlimit_threading(THREADING_MEMORY)
                    .memlimit_stop(MOST_DECODING)
                    .decoder()
                    .map_err(|error| Error::corrupt(&shown, "xz", error))?;
                let total = xz_index::unpacked_size(&tail);
                ("xz", total, Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream)))
            }
            Some(Format::Zstd) => {
                let decoder = zstd::stream::read::Decoder::with_buffer(packed);
                ("zstd", None, Box::new(decoder.map_err(|error| Error::corrupt(&shown, "zstd", error))?))
            }
            Some(Format::Gzip) => ("gzip", None, Box::new(flate2::bufread::GzDecoder::new(packed))),
            _ => ("tar", Some(self.data.size), Box::new(packed)),
        };
        let file_name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let phase = Phase::begin(progress, &format!("unpacking {file_name}"), total);
        let left = Cell::new(MAX_BETWEEN);
        let counted = Counted { inner: unpacked, phase: &phase, left: &left };
        let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, counted));
        let by_ratio = self.data.size.saturating_mul(MAX_RATIO).max(SMALL);
        let mut unpacker = Unpacker {
            package: &shown,
            format: name,
            folder,
            list,
            folders: HashSet::new(),
            total: 0,
            unpacked: 0,
            most: by_ratio.min(MAX_UNPACKED),
            most_in_all: by_ratio.min(MAX_TOTAL),
        };
        for entry in archive.entries().map_err(|error| Error::corrupt(&shown, name, error))? {
            let entry = entry.map_err(|error| Error::corrupt(&shown, name, error))?;
            left.set(entry.size().saturating_add(MAX_BETWEEN));
            unpacker.entry(entry)?;
        }
        left.set(MAX_TOTAL);
        // The stream's own checksum comes after the archive's last block.
        let mut rest = archive.into_inner();
        let drained = io::copy(&mut (&mut rest).take(MAX_TOTAL), &mut io::sink());
        drained.map_err(|error| Error::corrupt(&shown, name, error))?;
        Ok(())
    }
}

/// Counts for the progress bar, and stops where a header is larger than any that is honest.
struct Counted<'p, R> {
    inner: R,
    phase: &'p Phase<'p>,
    /// Bytes that may still be read before the next entry.
    left: &'p Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("a header of more than 4 MiB"));
        }
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..wanted])?;
        self.left.set(left - read as u64);
        self.phase.advance(read as u64);
        Ok(read)
    }
}

struct Unpacker<'u> {
    package: &'u str,
    format: &'static str,
    folder: &'u Path,
    list: &'u mut FileList,
    folders: HashSet<PathBuf>,
    /// Bytes of all entries.
    total: u64,
    /// Bytes of those that a kernel needs, and how many they may be.
    unpacked: u64,
    most: u64,
    most_in_all: u64,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), Error> {
        // What is not wanted has to be unpacked all the same, to come to what follows it.
        let size = entry.size();
        self.total = self.total.saturating_add(size);
        if self.total > self.most_in_all {
            return Err(self.too_large(self.most_in_all));
        }
        let path = entry.path_bytes();
        let kind = entry.header().entry_type();
        let wanted = wanted(&path).map_err(|Escape| self.escapes(&path))?;
        let Some(name) = wanted else {
            return Ok(());
        };
        if kind.is_symlink() || kind.is_hard_link() {
            // Modules are files of their own in every package known; what else is linked (`build`) is not needed.
            let target = entry.link_name_bytes().unwrap_or_default();
            if module_name(&name).is_some() && leads_out(&path, &target, kind.is_hard_link()) {
                return Err(self.escapes(&target));
            }
            return Ok(());
        }
        if !kind.is_file() {
            return Ok(());
        }
        self.unpacked = self.unpacked.saturating_add(size);
        if self.unpacked > self.most {
            return Err(self.too_large(self.most));
        }
        if self.list.files.len() >= MAX_FILES {
            return Err(Error::malformed(
                self.package,
                format!("more than {MAX_FILES} files; no kernel has so many"),
            ));
        }
        let target = self.folder.join(&name);
        if let Some(parent) = target.parent()
            && !self.folders.contains(parent)
        {
            fs::create_dir_all(parent).map_err(Error::write(parent))?;
            self.folders.insert(parent.to_path_buf());
        }
        // `create_new`: a second entry of the same name is a mistake or a trick.
        let file = OpenOptions::new().write(true).create_new(true).open(&target);
        let mut file = match file {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::malformed(self.package, format!("{name} is in it twice")));
            }
            file => file.map_err(Error::write(&target))?,
        };
        let digest = copy(&mut entry, &mut file, size).map_err(|error| match error {
            CopyError::Read(error) => Error::corrupt(self.package, self.format, error),
            CopyError::Write(error) => Error::write(&target)(error),
        })?;
        self.list.files.push((name, Kept { size, digest }));
        Ok(())
    }

    fn too_large(&self, limit: u64) -> Error {
        let problem = format!(
            "unpacks to more than {} MiB, and no kernel's package of its size does; refused",
            limit >> 20
        );
        Error::malformed(self.package, problem)
    }

    fn escapes(&self, entry: &[u8]) -> Error {
        let entry = modmem::Name(entry).to_text();
        Error::Escapes { package: self.package.to_owned(), entry }
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn copy(from: &mut impl Read, to: &mut impl Write, size: u64) -> Result<Digest, CopyError> {
    let mut hash = Hasher::default();
    let mut buffer = vec![0; size.clamp(1, 256 << 10) as usize];
    let mut left = size;
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = from.read(&mut buffer[..wanted]).map_err(CopyError::Read)?;
        if read == 0 {
            return Err(CopyError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        to.write_all(&buffer[..read]).map_err(CopyError::Write)?;
        hash.add(&buffer[..read]);
        left -= read as u64;
    }
    Ok(hash.digest())
}

#[derive(Debug, PartialEq, Eq)]
struct Escape;

/// Under which name an entry is unpacked; `None` if a kernel does not need it.
fn wanted(path: &[u8]) -> Result<Option<String>, Escape> {
    if path.starts_with(b"/") {
        return Err(Escape);
    }
    let parts: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(Escape);
    }
    let Ok(parts) = parts.into_iter().map(std::str::from_utf8).collect::<Result<Vec<&str>, _>>() else {
        return Ok(None);
    };
    // Since 2023 Debian has /lib in /usr.
    let parts = match parts.as_slice() {
        ["usr", "lib", ..] => &parts[1..],
        all => all,
    };
    let is_wanted = match parts {
        ["boot", file] => {
            ["config-", "vmlinuz-", "vmlinux-", "System.map-"].iter().any(|start| file.starts_with(start))
        }
        ["lib", "modules", _, _file_of_depmod] => true,
        ["lib", "modules", _, .., file] => module_name(file).is_some(),
        ["usr", "src", _, "Module.symvers"] => true,
        _ => false,
    };
    let name = parts.join("/");
    Ok((is_wanted && !name.contains(char::is_control)).then_some(name))
}

/// Does a link at `path` lead out of the package? A hard link's target counts from the package's root.
fn leads_out(path: &[u8], target: &[u8], hard: bool) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let depth_of =
        |path: &[u8]| path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).count();
    let mut depth = if hard { 0 } else { depth_of(path).saturating_sub(1) };
    for part in target.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        if part == b".." {
            match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return true,
            }
        } else {
            depth += 1;
        }
    }
    false
}

/// What was unpacked, each file with its size and hash, and from which packages. Whoever reads it back must know that
/// nobody else wrote it.
#[derive(Debug, Default)]
pub(crate) struct FileList {
    pub(crate) files: Vec<(String, Kept)>,
    pub(crate) packages: Vec<Package>,
}

/// A package of an archive, as it was when it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its file, which is the one that the archive's signed lists have.
    pub digest: Digest,
    /// Whose archive it is of.
    pub origin: String,
    /// What signed that archive.
    pub key: String,
}

impl FileList {
    /// As text, which [`FileList::parse`] reads.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::from("modmem files 2\n");
        for Package { name, version, digest, origin, key } in &self.packages {
            let _ = writeln!(text, "package\t{name}\t{version}\t{digest}\t{origin}\t{key}");
        }
        for (name, Kept { size, digest }) in &self.files {
            let _ = writeln!(text, "{digest} {size} {name}");
        }
        let _ = writeln!(text, "end {}", self.files.len());
        text
    }

    /// `None` if it is not whole.
    pub(crate) fn parse(text: &str) -> Option<FileList> {
        let body = text.strip_prefix("modmem files 2\n")?.strip_suffix('\n')?;
        let (body, end) = body.rsplit_once('\n').unwrap_or(("", body));
        let count: usize = end.strip_prefix("end ")?.parse().ok()?;
        let mut list = FileList::default();
        for line in body.lines() {
            if let Some(fields) = line.strip_prefix("package\t") {
                let fields: Vec<&str> = fields.split('\t').collect();
                let [name, version, digest, origin, key] = fields[..] else { return None };
                let [name, version, origin, key] = [name, version, origin, key].map(str::to_owned);
                list.packages.push(Package { name, version, digest: Digest::parse(digest)?, origin, key });
                continue;
            }
            let (digest, rest) = line.split_once(' ')?;
            let (size, name) = rest.split_once(' ')?;
            if name.starts_with('/') || name.split('/').any(|part| part == "..") {
                return None;
            }
            let kept = Kept { size: size.parse().ok()?, digest: Digest::parse(digest)? };
            list.files.push((name.to_owned(), kept));
        }
        (list.files.len() == count).then_some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_a_kernel_is_wanted() {
        let name = |path: &str| wanted(path.as_bytes()).unwrap();
        assert_eq!(name("./boot/vmlinuz-6.12").as_deref(), Some("boot/vmlinuz-6.12"));
        assert_eq!(
            name("./usr/lib/modules/6.12/kernel/a.ko.xz").as_deref(),
            Some("lib/modules/6.12/kernel/a.ko.xz")
        );
        assert_eq!(name("lib/modules/6.12/modules.dep").as_deref(), Some("lib/modules/6.12/modules.dep"));
        assert_eq!(name("./usr/src/h/Module.symvers").as_deref(), Some("usr/src/h/Module.symvers"));
        for other in [
            "./usr/share/doc/x",
            "./boot/grub/grub.cfg",
            "./lib/modules/6.12/kernel/readme",
            "./lib/modules/",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn paths_that_climb_are_refused_wherever_they_are() {
        for path in ["../x", "./lib/modules/../../../etc/passwd", "/etc/passwd", "usr/share/../.."] {
            assert_eq!(wanted(path.as_bytes()), Err(Escape), "{path}");
        }
    }

    #[test]
    fn links_may_not_leave_the_package() {
        assert!(leads_out(b"./lib/a.ko", b"/etc/a.ko", false));
        assert!(leads_out(b"./lib/a.ko", b"../../a.ko", false));
        assert!(!leads_out(b"./lib/a.ko", b"../b/a.ko", false));
        assert!(leads_out(b"./lib/a.ko", b"../a.ko", true));
        assert!(!leads_out(b"./lib/a.ko", b"./lib/b.ko", true));
    }

    #[test]
    fn a_list_of_files_is_whole_or_nothing() {
        let mut list = FileList::default();
        assert!(FileList::parse(&list.to_text()).unwrap().files.is_empty());
        list.files.push(("lib/a b.ko".to_owned(), Kept { size: 7, digest: Digest::of(b"file") }));
        list.packages.push(Package {
            name: "linux-image".to_owned(),
            version: "6.12-1".to_owned(),
            digest: Digest::of(b"package"),
            origin: "Debian".to_owned(),
            key: "a keyring".to_owned(),
        });
        let text = list.to_text();
        let read = FileList::parse(&text).unwrap();
        assert_eq!((read.files, read.packages), (list.files, list.packages));
        for length in 0..text.len() {
            assert!(FileList::parse(&text[..length]).is_none(), "{length}");
        }
        assert!(FileList::parse(&text.replace("lib", "..")).is_none());
    }
}
