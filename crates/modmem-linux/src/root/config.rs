//! Configuration of kmod in a root file system.

use super::{Root, names_in};
use crate::{
    config::{ConfigFile, FOLDERS, is_config_name},
    inside,
    module_file::{Place, read_file},
};
use std::path::Path;

/// A file of configuration is smaller than this.
const LARGEST: u64 = 16 << 20;

/// Files that hold the kernel's command line: that of a machine that runs, else the one that kernels are installed with.
const COMMAND_LINES: [&str; 2] = ["proc/cmdline", "etc/kernel/cmdline"];

impl Root {
    /// The files of `modprobe.d` or `depmod.d`; of those with one name, that of the first folder.
    pub(crate) fn config(&self, kind: &str, remarks: &mut Vec<String>) -> Vec<ConfigFile> {
        let mut files: Vec<ConfigFile> = Vec::new();
        for folder in FOLDERS {
            let folder = format!("{folder}/{kind}");
            for name in self.names_at(&folder) {
                if !is_config_name(&name) || files.iter().any(|file| file.name == name) {
                    continue;
                }
                let path = format!("{folder}/{name}");
                match self.text_at(&path) {
                    Some(Ok(text)) => files.push(ConfigFile { name, path, text }),
                    Some(Err(problem)) => remarks.push(problem),
                    None => {}
                }
            }
        }
        files
    }

    /// The kernel's command line, if the root has one.
    pub(crate) fn command_line(&self) -> Option<String> {
        COMMAND_LINES.iter().find_map(|path| self.text_at(path)?.ok())
    }

    fn names_at(&self, folder: &str) -> Vec<String> {
        match self {
            Root::Static(files) => {
                let inside =
                    files.iter().filter_map(|(path, _)| path.strip_prefix(folder)?.strip_prefix('/'));
                inside.filter(|name| !name.contains('/')).map(str::to_owned).collect()
            }
            _ => self
                .system()
                .and_then(|root| inside::folder(root, Path::new(folder)))
                .map(|folder| names_in(&folder))
                .unwrap_or_default(),
        }
    }

    /// The text of a file, or why it cannot be read.
    fn text_at(&self, path: &str) -> Option<Result<String, String>> {
        let read = match self.file_at(path)? {
            Place::Static(bytes) => Ok(bytes.to_vec()),
            Place::Disk { path, .. } => read_file(&path, LARGEST),
        };
        let text = read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Some(text.map_err(|error| format!("not used, since it cannot be read: {error}")))
    }
}
