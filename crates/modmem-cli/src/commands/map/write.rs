//! Writing a picture to where the user wants it.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Writes `contents` to the file at `path`, or to standard output for `-`.
///
/// The file appears complete or not at all: it is written beside its place and then moved there.
pub(crate) fn to(path: &Path, contents: &str) -> Result<()> {
    if path.as_os_str() == "-" {
        let mut out = std::io::stdout().lock();
        out.write_all(contents.as_bytes())?;
        return Ok(out.flush()?);
    }
    // Through a link to what it names: moving onto the link would replace the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let special = fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file());
    let written = match special {
        // A pipe or device cannot be replaced, and a folder gives the error that the user should see.
        true => fs::write(&target, contents),
        false => replace(&target, contents),
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn replace(target: &Path, contents: &str) -> std::io::Result<()> {
    let draft = beside(target);
    let done = fs::write(&draft, contents).and_then(|()| fs::rename(&draft, target));
    if done.is_err() {
        // It may never have been made; the first error is the one that tells why.
        let _ = fs::remove_file(&draft);
    }
    done
}

fn beside(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    target.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("modmem-map-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_stays() {
        let folder = folder("replace");
        let file = folder.join("x.svg");
        to(&file, "old").unwrap();
        to(&file, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_in_the_error() {
        let folder = folder("refuse");
        let error = to(&folder.join("absent/x.svg"), "new").unwrap_err();
        assert!(format!("{error:#}").contains("absent/x.svg"), "{error:#}");
        assert!(to(&folder, "new").is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }
}
