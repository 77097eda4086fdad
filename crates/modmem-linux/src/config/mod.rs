//! What a machine's administrator wrote for kmod: modprobe.d, depmod.d and the kernel's command line.

mod cmdline;
mod depmod_d;
mod lines;
mod modprobe_d;
mod priority;

pub(crate) use depmod_d::DepmodD;
pub(crate) use modprobe_d::{ModprobeD, Rule, Softdeps};
pub(crate) use priority::Candidate;

/// Folders with configuration, the first one's files go before those of the same name in others
/// (libkmod.c:default_config_paths).
pub(crate) const FOLDERS: [&str; 5] = ["etc", "run", "usr/local/lib", "usr/lib", "lib"];

/// A file of configuration.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFile {
    /// By which all files of all folders are sorted.
    pub(crate) name: String,
    /// Its path in the root, for the user to read.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Is this the name of a file that is read?
pub(crate) fn is_config_name(name: &str) -> bool {
    !name.starts_with('.') && name.len() > ".conf".len() && name.ends_with(".conf")
}
