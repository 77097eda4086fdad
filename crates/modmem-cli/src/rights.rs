//! Giving up root's rights. Root is needed to read this machine's memory, not to make sense of it: what is read may be an
//! enemy's, and a reader with a mistake in it would be one for root.
//!
//! Run as root, `snapshot` and `verify --live` become two processes. One stays root: it makes the output file, opens and
//! reads what is on a short list, and interprets none of it ([`serve`]). The other is started as who called sudo, or as
//! nobody, asks the first for bytes, and does all the rest; it cannot get new rights, and where the kernel has Landlock it
//! can write nowhere but where it keeps packages and temporary files. System calls that it has no use for fail.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod system_calls;

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _,
};
use modmem_linux::snapshot::{MachineFiles, serve};
use modmem_linux::{Caller, NewFile, caller, default_cache_folder, default_state_folder};
use rustix::process::{getegid, geteuid, getgid, getuid};

/// The user and group of nobody, on every Linux.
const NOBODY: Caller = Caller { uid: 65534, gid: 65534 };
/// Set for the process without rights: what it writes is called so.
const CONFINED: &str = "MODMEM_CONFINED";
/// Key of "run with more rights than the caller has" in the list that the kernel gives to each process.
const AT_SECURE: usize = 23;

/// Refuses to run with rights that the caller does not have (setuid, setgid, capabilities of the file): options name any
/// file to be read and written.
pub(crate) fn refuse_setuid() -> Result<()> {
    const WORD: usize = size_of::<usize>();
    let list = fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(usize::from_ne_bytes).unwrap_or_default();
    let secure =
        list.chunks_exact(2 * WORD).any(|pair| word(&pair[..WORD]) == AT_SECURE && word(&pair[WORD..]) != 0);
    if secure || getuid() != geteuid() || getgid() != getegid() {
        bail!("modmem must not be installed setuid, setgid or with capabilities; run it by sudo");
    }
    Ok(())
}

/// Whether this process has to split, so that what is read is not interpreted as root.
pub(crate) fn must_split(keep_rights: bool) -> bool {
    geteuid().is_root() && !keep_rights && std::env::var_os(CONFINED).is_none()
}

/// What the process without rights calls what it writes to standard output; `None` in any other process.
pub(crate) fn confined_output() -> Option<PathBuf> {
    std::env::var_os(CONFINED).map(PathBuf::from)
}

/// Starts this command again without rights, reads for it until it ends, and keeps what it wrote if all was done.
pub(crate) fn split(
    root: &Path,
    output: &Path,
    file: Option<Stdio>,
    new: Option<NewFile>,
) -> Result<ExitCode> {
    let (ours, theirs) = UnixStream::pair()?;
    let user = caller().unwrap_or(NOBODY);
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).env(CONFINED, output);
    // What is kept is the other user's.
    command.env_remove("XDG_CACHE_HOME").env_remove("XDG_STATE_HOME");
    match home_of(user) {
        Some(home) => command.env("HOME", home),
        None => command.env_remove("HOME"),
    };
    // With the user go the supplementary groups.
    command.uid(user.uid).gid(user.gid).stdin(OwnedFd::from(theirs));
    if let Some(file) = file {
        command.stdout(file);
    }
    let child = command.spawn().with_context(|| {
        format!("cannot give up root's rights for those of user {} (--keep-rights does without)", user.uid)
    });
    let mut child = child?;
    // Its end of the socket is in the command still.
    drop(command);
    let served = serve(root, &ours);
    drop(ours);
    let status = child.wait()?;
    if served.context("the process without rights")?
        && let Some(new) = new
    {
        new.keep()?;
    }
    Ok(code(status))
}

fn code(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2))
}

/// The home folder of a user, where packages are kept; nobody has none.
fn home_of(user: Caller) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok().filter(|_| user != NOBODY)?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut homes = fields.filter_map(|fields| match fields[..] {
        [_, _, uid, _, _, home, _] if uid.parse() == Ok(user.uid) => Some(home.to_owned()),
        _ => None,
    });
    homes.next().filter(|home| home.starts_with('/'))
}

/// The files of this machine: read by the process that has the rights, or by this one.
pub(crate) fn machine_files(root: &Path) -> Result<MachineFiles> {
    if confined_output().is_none() {
        return Ok(MachineFiles::direct(root));
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(MachineFiles::read_by(UnixStream::from(socket), root))
}

/// In the process without rights, before anything is read: no rights will come back, and nothing is written but below
/// `writable`. With `reads`, files may be read and programs run (apt); without, nothing is opened at all.
pub(crate) fn confine(reads: bool, cache: Option<&OsString>) -> Result<()> {
    if confined_output().is_none() {
        return Ok(());
    }
    if geteuid().is_root() || getuid().is_root() {
        bail!("root's rights were not given up");
    }
    rustix::thread::set_no_new_privs(true)?;
    let mut writable = Vec::new();
    if reads {
        let cache = cache.map(PathBuf::from).or_else(default_cache_folder);
        // Made before, as nothing can be made above them later.
        let folders = [cache, default_state_folder()];
        writable.extend(folders.into_iter().flatten().filter(|folder| make(folder).is_ok()));
        writable.push(std::env::temp_dir());
        writable.extend(["/dev/null", "/dev/tty"].map(PathBuf::from));
    }
    landlock(reads, &writable).context("Landlock")?;
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    system_calls::give_up(reads)?;
    #[cfg(debug_assertions)]
    behave_badly();
    Ok(())
}

fn make(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Where the kernel has no Landlock, or less of it, this does as much as it can.
fn landlock(reads: bool, writable: &[PathBuf]) -> Result<()> {
    let abi = ABI::V5;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?;
    if !reads {
        rules = rules.handle_access(AccessNet::from_all(abi))?;
    }
    let mut rules = rules.create()?;
    if reads {
        rules = rules.add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::from_read(abi)))?;
    }
    for path in writable {
        // What is not there needs no rule.
        let Ok(fd) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { AccessFs::from_all(abi) } else { AccessFs::from_file(abi) };
        rules = rules.add_rule(PathBeneath::new(fd, access))?;
    }
    rules.restrict_self()?;
    Ok(())
}

/// What a reader that an enemy took over would do, for a test: write the files that are named, run a program, and look for
/// somebody to talk to.
#[cfg(debug_assertions)]
fn behave_badly() {
    let Ok(paths) = std::env::var("MODMEM_TEST_TAKEN_OVER") else { return };
    let ran =
        Command::new("/proc/self/exe").arg("--version").output().map(|_| ()).map_err(|error| error.kind());
    let talks = std::net::UdpSocket::bind("127.0.0.1:0").map(|_| ()).map_err(|error| error.kind());
    crate::output::tell(&format!("running a program: {ran:?}; a socket: {talks:?}"));
    for path in paths.split(':').filter(|path| !path.is_empty()) {
        let done = fs::write(path, "taken over").map_err(|error| error.kind());
        crate::output::tell(&format!("taken over: writing {path}: {done:?}"));
    }
}
