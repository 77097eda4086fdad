//! The files of a running machine that a snapshot is made of, and a reader of them that has rights which whoever interprets
//! them has not.
//!
//! Reading memory takes root, making sense of it does not. The reader opens what is in a short list of names, reads, and
//! hands out bytes, over a socket; who asks, and interprets them, runs as somebody without rights. `/proc/kcore` is handed
//! out open: the kernel asks for rights when it is opened (fs/proc/kcore.c:open_kcore), and the addresses in other files
//! are shown or not by the rights of who reads them (lib/vsprintf.c:restricted_pointer).

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Cursor, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::unix::{ffi::OsStrExt as _, net::UnixStream},
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::{Error, files, memory, module_file::read_file};

/// The kernel's memory.
const KCORE: &str = "proc/kcore";
/// Bytes read at once.
const BUFFER: usize = 1 << 16;
/// Bytes of a name in a request.
const LONGEST_NAME: usize = 4096;

/// Files that may be asked for; `*` stands for any one name, `?` for the rest of one.
const MAY_BE_READ: [&str; 22] = [
    "proc/cmdline",
    "proc/config.gz",
    "proc/cpuinfo",
    "proc/kallsyms",
    "proc/modules",
    "proc/self/auxv",
    "proc/self/status",
    "proc/sys/kernel/arch",
    "proc/sys/kernel/kptr_restrict",
    "proc/sys/kernel/osrelease",
    "proc/version",
    "proc/vmallocinfo",
    "sys/devices/system/cpu/online",
    "sys/kernel/debug/kprobes/list",
    "sys/kernel/security/lockdown",
    "sys/module/*/coresize",
    "sys/module/*/initsize",
    "sys/module/*/notes/*",
    "sys/module/*/sections/*",
    "boot/config-?",
    "lib/modules/*/config",
    "usr/lib/modules/*/config",
];
/// Folders whose names may be asked for.
const MAY_BE_LISTED: [&str; 3] = ["sys/module", "sys/module/*/notes", "sys/module/*/sections"];

/// Where a snapshot's facts come from.
#[derive(Debug)]
pub struct MachineFiles {
    root: PathBuf,
    /// Who reads; `None` for this process.
    reader: Option<Mutex<UnixStream>>,
}

/// What is asked of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Read = 1,
    List = 2,
    Open = 3,
    Done = 4,
}

impl MachineFiles {
    /// Those below a root folder, read by this process.
    pub fn direct(root: impl Into<PathBuf>) -> MachineFiles {
        MachineFiles { root: root.into(), reader: None }
    }

    /// Those that another process reads, which [serves](serve) the same root.
    pub fn read_by(reader: UnixStream, root: impl Into<PathBuf>) -> MachineFiles {
        MachineFiles { root: root.into(), reader: Some(Mutex::new(reader)) }
    }

    /// Tells the reader that all was done that was to be done.
    ///
    /// # Errors
    /// The reader is gone.
    pub fn done(&self) -> Result<(), Error> {
        match &self.reader {
            Some(_) => self.ask(Request::Done, "", 0).map(drop),
            None => Ok(()),
        }
    }

    /// The path that errors name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        match &self.reader {
            Some(_) => self.ask(Request::Read, name, limit),
            None => read_file(&self.path(name), limit),
        }
    }

    pub(super) fn open(&self, name: &str) -> Result<Box<dyn BufRead>, Error> {
        Ok(match &self.reader {
            Some(_) => Box::new(Cursor::new(self.ask(Request::Read, name, memory::of_file())?)),
            None => Box::new(BufReader::with_capacity(BUFFER, files::open(&self.path(name))?)),
        })
    }

    /// The names in a folder, sorted.
    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let names = match &self.reader {
            Some(_) => self.ask(Request::List, folder, 1 << 20)?,
            None => names(&self.path(folder))?,
        };
        let text = String::from_utf8_lossy(&names);
        Ok(text.split_terminator('\n').map(str::to_owned).collect())
    }

    /// The kernel's memory.
    pub(super) fn kcore(&self) -> Result<File, Error> {
        let path = self.path(KCORE);
        match &self.reader {
            Some(reader) => {
                let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                let gone = || Error::read(&path)(io::Error::other("the reader is gone"));
                request(&reader, Request::Open, KCORE, 0).map_err(Error::read(&path))?;
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut status = [0];
                let flags = RecvFlags::CMSG_CLOEXEC;
                recvmsg(&*reader, &mut [IoSliceMut::new(&mut status)], &mut control, flags)
                    .map_err(|error| Error::read(&path)(error.into()))?;
                if status[0] != 0 {
                    return Err(answered(&reader, status[0], &path, 1 << 16).err().unwrap_or_else(gone));
                }
                let passed = control.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut files) => files.next(),
                    _ => None,
                });
                passed.map(File::from).ok_or_else(gone)
            }
            None => files::open(&path),
        }
    }

    fn ask(&self, what: Request, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let path = self.path(name);
        let Some(reader) = &self.reader else {
            return Err(Error::read(&path)(ErrorKind::NotConnected.into()));
        };
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        request(&reader, what, name, limit).map_err(Error::read(&path))?;
        let mut status = [0];
        reader.read_exact(&mut status).map_err(Error::read(&path))?;
        answered(&reader, status[0], &path, limit)
    }
}

/// Sends a request: what, how much, and of which name.
fn request(mut reader: &UnixStream, what: Request, name: &str, limit: u64) -> io::Result<()> {
    let mut message = vec![what as u8];
    message.extend(limit.to_le_bytes());
    message.extend((name.len() as u16).to_le_bytes());
    message.extend(name.as_bytes());
    reader.write_all(&message)
}

/// Reads an answer behind its status: bytes, the system's number of an error, or an error in words.
fn answered(mut reader: &UnixStream, status: u8, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let mut length = [0; 8];
    reader.read_exact(&mut length).map_err(Error::read(path))?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    reader.take(length.min(limit.max(1 << 16))).read_to_end(&mut bytes).map_err(Error::read(path))?;
    if bytes.len() as u64 != length {
        return Err(Error::read(path)(ErrorKind::UnexpectedEof.into()));
    }
    match (status, bytes.first_chunk()) {
        (0, _) => Ok(bytes),
        (1, Some(number)) => {
            Err(Error::read(path)(io::Error::from_raw_os_error(i32::from_le_bytes(*number))))
        }
        _ => Err(Error::malformed(path.display().to_string(), String::from_utf8_lossy(&bytes))),
    }
}

/// Reads for another process until that one ends or hangs up: what is in a machine's root folder, of a list of names and
/// nothing else. Gives whether that process said that it was [done](MachineFiles::done).
///
/// # Errors
/// The socket fails, or the other process does not keep to the form of requests.
pub fn serve(root: &Path, mut asker: &UnixStream) -> io::Result<bool> {
    let mut is_done = false;
    loop {
        let mut head = [0; 11];
        match asker.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(is_done),
            // Who was killed leaves a socket that was reset.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(is_done),
            read => read?,
        }
        let [what, a, b, c, d, e, f, g, h, low, high] = head;
        let limit = u64::from_le_bytes([a, b, c, d, e, f, g, h]).min(memory::of_file());
        let mut name = vec![0; usize::from(u16::from_le_bytes([low, high])).min(LONGEST_NAME)];
        asker.read_exact(&mut name)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let path = root.join(&name);
        let refused = || Error::malformed(&name, "is not read for others");
        let answer = match what {
            1 if may_be(&MAY_BE_READ, &name) => read_file(&path, limit),
            2 if may_be(&MAY_BE_LISTED, &name) => names(&path),
            3 if name == KCORE => match files::open(&path) {
                Ok(file) => {
                    hand_out(asker, &file)?;
                    continue;
                }
                Err(error) => Err(error),
            },
            4 => {
                is_done = true;
                Ok(Vec::new())
            }
            _ => Err(refused()),
        };
        let (status, bytes) = match answer {
            Ok(bytes) => (0, bytes),
            Err(Error::Read { source, .. }) if source.raw_os_error().is_some() => {
                (1, source.raw_os_error().unwrap_or_default().to_le_bytes().to_vec())
            }
            Err(Error::Malformed { problem, .. }) => (2, problem.into_bytes()),
            Err(error) => (2, error.to_string().into_bytes()),
        };
        let mut message = vec![status];
        message.extend((bytes.len() as u64).to_le_bytes());
        asker.write_all(&message)?;
        asker.write_all(&bytes)?;
    }
}

/// Hands out an open file.
fn hand_out(asker: &UnixStream, file: &File) -> io::Result<()> {
    let files = [std::os::fd::AsFd::as_fd(file)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no room for a file"));
    }
    sendmsg(asker, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The names in a folder, sorted, a line each; names that no list could hold are passed over.
fn names(path: &Path) -> Result<Vec<u8>, Error> {
    let entries = fs::read_dir(path).map_err(Error::read(path))?;
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.retain(|name| name.to_str().is_some_and(|name| !name.contains('\n')));
    names.sort_unstable();
    Ok(names.iter().flat_map(|name| [name.as_bytes(), b"\n"]).flatten().copied().collect())
}

/// Whether a name is in a list.
fn may_be(list: &[&str], name: &str) -> bool {
    let is_plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let parts: Vec<&str> = name.split('/').collect();
    is_plain
        && list.iter().any(|pattern| {
            let pattern: Vec<&str> = pattern.split('/').collect();
            let fits = |(pattern, part): (&&str, &&str)| match pattern.strip_suffix('?') {
                Some(start) => part.starts_with(start),
                None => *pattern == "*" && !part.is_empty() || pattern == part,
            };
            pattern.len() == parts.len() && pattern.iter().zip(&parts).all(fits)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_snapshot_is_made_of_is_read_for_others() {
        for name in
            ["proc/kallsyms", "sys/module/ext4/sections/.text", "boot/config-6.12", "lib/modules/6.12/config"]
        {
            assert!(may_be(&MAY_BE_READ, name), "{name}");
        }
        for name in [
            "etc/shadow",
            "/proc/kallsyms",
            "proc/../etc/shadow",
            "sys/module/../../etc/shadow/coresize",
            "sys/module/x/sections/../../../../etc/shadow",
            "proc/1/environ",
            "sys/module/x/parameters/key",
            "boot/config",
            "boot//config-x",
            "",
        ] {
            assert!(!may_be(&MAY_BE_READ, name) && !may_be(&MAY_BE_LISTED, name), "{name}");
        }
    }

    #[test]
    fn what_is_read_by_another_is_what_would_be_read_here() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/modules", "a 1 0 - Live 0x1000\n");
        write("proc/kcore", "memory");
        write("sys/module/a/sections/.text", "0x1000\n");
        write("etc/shadow", "secret");
        let (ours, theirs) = UnixStream::pair().unwrap();
        let served = std::thread::spawn({
            let root = root.path().to_path_buf();
            move || serve(&root, &theirs)
        });
        let direct = MachineFiles::direct(root.path());
        let remote = MachineFiles::read_by(ours, root.path());
        for files in [&direct, &remote] {
            assert_eq!(files.read("proc/modules", 100).unwrap(), b"a 1 0 - Live 0x1000\n");
            assert_eq!(files.names("sys/module/a/sections").unwrap(), [".text"]);
            assert_eq!(io::read_to_string(files.kcore().unwrap()).unwrap(), "memory");
            let error = files.read("proc/version", 100).unwrap_err();
            assert!(
                matches!(&error, Error::Read { source, .. } if source.kind() == ErrorKind::NotFound),
                "{error}"
            );
            assert!(files.read("proc/modules", 3).is_err());
        }
        assert!(remote.read("etc/shadow", 100).unwrap_err().to_string().contains("not read for others"));
        remote.done().unwrap();
        drop(remote);
        assert!(served.join().unwrap().unwrap());
    }
}
