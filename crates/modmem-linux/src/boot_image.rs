//! A kernel's image where its name does not say the release: Alpine's `boot/vmlinuz-virt`, Arch's `boot/vmlinuz-linux`,
//! the `vmlinuz` beside the modules of Fedora, openSUSE and Arch, which may be a link into `boot`.
//!
//! Such a file is taken if the kernel in it calls itself by the release that is looked for. A name is not enough: after
//! an upgrade `vmlinuz-linux` is another kernel than the one whose modules are still there.

use crate::{compress, files, image, inside, memory};
use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// Folders that have images, and the beginnings of their names.
const FOLDERS: [&str; 4] = ["boot", "usr/lib/kernel", "lib/kernel", ""];
const STARTS: [&str; 6] = ["vmlinuz", "vmlinux", "bzImage", "Image", "image", "kernel"];

/// The setup header of a bzImage and the version behind it lie in its first sectors.
const FIRST: u64 = 64 << 10;
/// An image larger than this is a file of another kind.
const LARGEST: u64 = 256 << 20;

/// The image of `release` in a root file system: in its folders of modules, else in `boot` and the like.
pub(crate) fn find(root: &Path, release: &str) -> Option<PathBuf> {
    let beside = ["usr/lib/modules", "lib/modules"].map(|folder| root.join(folder).join(release));
    let beside = beside.iter().flat_map(|folder| ["vmlinuz", "vmlinux"].map(|name| folder.join(name)));
    let mut elsewhere = Vec::new();
    for folder in FOLDERS.iter().filter_map(|name| inside::folder(root, Path::new(name))) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter(|entry| {
            let name = entry.file_name();
            STARTS.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes()))
        });
        elsewhere.extend(names.map(|entry| entry.path()));
    }
    // The same choice each time, whatever the order of a folder's entries.
    elsewhere.sort();
    let mut paths = beside.chain(elsewhere).filter_map(|path| inside::file(root, &path));
    paths.find(|path| release_in(path).as_deref() == Some(release))
}

/// What the kernel in an image calls itself (`uname -r`); `None` if the file is no image that is known.
fn release_in(path: &Path) -> Option<String> {
    let mut file = files::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let mut bytes = Vec::new();
    file.by_ref().take(FIRST).read_to_end(&mut bytes).ok()?;
    if let Some(release) = image::setup_release(&bytes) {
        return Some(release);
    }
    if size > LARGEST {
        return None;
    }
    file.take(LARGEST).read_to_end(&mut bytes).ok()?;
    let name = path.display().to_string();
    let bytes = compress::decompress(&name, bytes, memory::of_file()).ok()?;
    image::banner_release(&name, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The start of a bzImage whose setup says what kernel it is.
    fn bzimage(release: &str) -> Vec<u8> {
        let mut image = vec![0; 0x800];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x300u16.to_le_bytes());
        let text = format!("{release} (somebody@somewhere) #1 SMP");
        image[0x500..0x500 + text.len()].copy_from_slice(text.as_bytes());
        image
    }

    fn root(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    #[test]
    fn an_image_is_found_by_the_release_in_it() {
        let root = root(&[
            ("boot/vmlinuz-lts", &bzimage("6.12.9-0-lts")),
            ("boot/vmlinuz-virt", &bzimage("6.18.5-0-virt")),
            ("boot/vmlinuz-old", &bzimage("6.18.5-0-virt-old")),
            ("boot/kernel.txt", b"6.18.6-0-virt (not an image)"),
        ]);
        let found = |release: &str| {
            let path = find(root.path(), release)?;
            Some(path.file_name()?.to_str()?.to_owned())
        };
        assert_eq!(found("6.18.5-0-virt").as_deref(), Some("vmlinuz-virt"));
        assert_eq!(found("6.12.9-0-lts").as_deref(), Some("vmlinuz-lts"));
        assert_eq!(found("6.18.6-0-virt"), None);
        assert_eq!(found("6.18.5-0"), None);
    }

    #[test]
    fn an_image_without_a_setup_says_it_in_its_banner() {
        let mut image = vec![0; 0x1000];
        image[0x38..0x3c].copy_from_slice(b"ARM\x64");
        image[16..24].copy_from_slice(&0x1000u64.to_le_bytes());
        image[0x800..0x82a].copy_from_slice(b"Linux version %s (%s)\0Linux version 6.18.5");
        image[0x82a..0x834].copy_from_slice(b"-0-virt (x");
        let root = root(&[("boot/vmlinuz-virt", &image)]);
        assert!(find(root.path(), "6.18.5-0-virt").is_some());
        assert!(find(root.path(), "6.18.5-0").is_none());
    }

    #[test]
    fn an_image_beside_the_modules_counts_first_and_no_link_leads_out_of_the_root() {
        let other = root(&[("vmlinuz-host", &bzimage("6.18-arch"))]);
        let root = root(&[
            ("usr/lib/modules/6.18-arch/vmlinuz", &bzimage("6.18-arch")),
            ("boot/vmlinuz-linux", &bzimage("6.18-arch")),
            ("usr/lib/modules/6.17-arch/modules.order", b""),
            ("usr/lib/modules/6.16-arch/modules.order", b""),
            ("boot/vmlinuz-old", &bzimage("6.17-arch")),
        ]);
        let beside = root.path().join("usr/lib/modules/6.18-arch/vmlinuz");
        assert_eq!(find(root.path(), "6.18-arch"), Some(beside.clone()));
        let link = root.path().join("usr/lib/modules/6.17-arch/vmlinuz");
        std::os::unix::fs::symlink("/boot/vmlinuz-old", &link).unwrap();
        assert_eq!(inside::file(root.path(), &link), Some(root.path().join("boot/vmlinuz-old")));
        assert_eq!(find(root.path(), "6.17-arch"), inside::file(root.path(), &link));
        fs::remove_file(&beside).unwrap();
        std::os::unix::fs::symlink(other.path().join("vmlinuz-host"), &beside).unwrap();
        assert_eq!(inside::file(root.path(), &beside), None);
        assert_eq!(find(root.path(), "6.18-arch"), Some(root.path().join("boot/vmlinuz-linux")));
        let circle = root.path().join("usr/lib/modules/6.16-arch/vmlinuz");
        std::os::unix::fs::symlink("vmlinuz", &circle).unwrap();
        assert_eq!(find(root.path(), "6.16-arch"), None);
    }
}
