//! What can go wrong, told with the file concerned and with what to do about it.

use modmem::Visible;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a kernel, a module or a symbol file could not be read.
///
/// Each message is one line that can be shown as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output could not be written.
    #[error("standard output: {0}")]
    Stdout(#[source] io::Error),
    /// Something that is no regular file: reading it could wait for ever, or never end.
    #[error("{}: {what}, and only files are read", path.display())]
    NotAFile {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// As root, a file would be written where others can put another one in its place.
    #[error(
        "not written as root to {}: {who}, and could change what is written; give a folder of root's own, or \
         --allow-shared-folder",
        folder.display()
    )]
    SharedFolder {
        /// The folder that others can write to.
        folder: PathBuf,
        /// Who they are.
        who: String,
    },
    /// Compressed data ends early or contradicts itself.
    #[error("{file}: truncated or corrupt {format} data ({detail})")]
    Corrupt {
        /// The file that holds the data.
        file: String,
        /// `xz`, `zstd`, `gzip`...
        format: &'static str,
        /// What the decoder met.
        detail: String,
    },
    /// Data is larger than this library is willing to hold.
    #[error("{file}: larger than {} MiB, which is more than such a file may take; refused (--memory)", limit >> 20)]
    TooLarge {
        /// The file that holds the data.
        file: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file is not what it should be.
    #[error("{file}: {problem}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong, and where in the file.
        problem: String,
    },
    /// A package holds a path or a link that leads out of its own folder.
    #[error("{package}: refused, since its entry \"{entry}\" leads out of the package")]
    Escapes {
        /// The package.
        package: String,
        /// The entry's path or link target, made printable.
        entry: String,
    },
    /// Somebody else could have written what lies in one of this program's own folders.
    #[error(
        "{}: refused, since {} {why}: what lies there could be anybody's; give another folder (--cache DIR), or make it \
         and all above it writable by yourself and root alone",
        path.display(),
        at.display()
    )]
    Unsafe {
        /// The folder.
        path: PathBuf,
        /// What on the way to it.
        at: PathBuf,
        /// Who, and how.
        why: String,
    },
    /// The running kernel's modules are not on this machine.
    #[error(
        "no modules for the running kernel {release} under {}; try --kernel debian:6.12, --kernel FILE.deb or \
         --kernel sample",
        folder.display()
    )]
    NotRunningHere {
        /// The running kernel's release.
        release: String,
        /// Where they were looked for.
        folder: PathBuf,
    },
    /// A source names nothing that exists.
    #[error(
        "no kernel \"{spec}\": neither a file or folder nor a release under {}{}; give a .deb file, a folder, \
         debian:VERSION or sample",
        folder.display(),
        present(found)
    )]
    NoSuchSource {
        /// The source as given.
        spec: String,
        /// Where releases were looked for.
        folder: PathBuf,
        /// The releases that are there.
        found: Vec<String>,
    },
    /// A source as given cannot mean anything.
    #[error("kernel \"{spec}\": {problem}")]
    BadSource {
        /// The source as given.
        spec: String,
        /// Why, and what to write instead.
        problem: String,
    },
    /// The sources hold several kernels.
    #[error("{} different kernels found ({}); give one of them", releases.len(), releases.join(", "))]
    SeveralKernels {
        /// The releases found.
        releases: Vec<String>,
    },
    /// The sources hold no modules and no kernel.
    #[error("{described}: no kernel modules and no kernel in it")]
    NoKernel {
        /// Where was looked.
        described: String,
    },
    /// Debian's archive could not be asked, or has nothing that fits.
    #[error("debian:{request}: {problem}")]
    Debian {
        /// The version asked for.
        request: String,
        /// What failed, and what to give instead.
        problem: String,
    },
    /// No module, alias or built-in has this name.
    #[error("no module \"{name}\" in {release}{}", did_you_mean(suggestions))]
    UnknownModule {
        /// The name as given.
        name: String,
        /// The kernel's release.
        release: String,
        /// Names that look alike, the best first.
        suggestions: Vec<String>,
    },
    /// The name belongs to a part of the kernel itself.
    #[error("{name} is built into {release}: there is no module to load")]
    BuiltIn {
        /// The name as given.
        name: String,
        /// The kernel's release.
        release: String,
    },
    /// A configuration file makes an alias of something that is no module.
    #[error(
        "{name} stands for {target} in {file}, which is no module of {release}; --no-config leaves that out"
    )]
    AliasOfNothing {
        /// The name as given.
        name: String,
        /// What it stands for.
        target: String,
        /// The file of modprobe.d.
        file: String,
        /// The kernel's release.
        release: String,
    },
    /// All modules that an alias stands for are on a blacklist.
    #[error(
        "{name} stands for {module}, which is on the blacklist of {file}: load it by its name, or give --no-config"
    )]
    Blacklisted {
        /// The alias as given.
        name: String,
        /// The first of the modules.
        module: String,
        /// The file of modprobe.d, or the kernel's command line.
        file: String,
    },
    /// The name is that of a command in modprobe.d, and of no module.
    #[error("{name} is no module: {file} runs \"{command}\" for it")]
    Command {
        /// The name as given.
        name: String,
        /// What is run.
        command: String,
        /// The file of modprobe.d.
        file: String,
    },
    /// Modules depend on each other in a circle.
    #[error("modules depend on each other in a circle: {}", names.join(" -> "))]
    Circle {
        /// The modules in order; the first is also the last.
        names: Vec<String>,
    },
    /// A kallsyms file hides its addresses.
    #[error(
        "{file}: all addresses are zero, which is how the kernel hides them (kptr_restrict); read it as root or use \
         a System.map"
    )]
    AddressesHidden {
        /// The file.
        file: String,
    },
}

impl Error {
    pub(crate) fn read(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Read { path: path.as_ref().to_path_buf(), source }
    }

    pub(crate) fn write(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Write { path: path.as_ref().to_path_buf(), source }
    }

    pub(crate) fn malformed(file: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Malformed { file: file.into(), problem: problem.into() }
    }

    pub(crate) fn corrupt(file: &str, format: &'static str, detail: impl ToString) -> Error {
        Error::Corrupt { file: file.to_owned(), format, detail: Visible(&detail.to_string()).to_string() }
    }
}

fn did_you_mean(suggestions: &[String]) -> String {
    match suggestions {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        [first @ .., last] => format!("; did you mean {} or {last}?", first.join(", ")),
    }
}

fn present(found: &[String]) -> String {
    match found.len() {
        0 => String::new(),
        1..=4 => format!(" (there: {})", found.join(", ")),
        many => format!(" ({many} are there)"),
    }
}
