//! The archive that a kernel unpacks into its first file system: cpio's `newc` format.
//!
//! Forty lines of our own instead of the program `cpio`, which machines that build Rust rarely have: a header of
//! thirteen numbers in hexadecimal, a name, the bytes, each padded to four
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use anyhow::{Context as _, Result};

/// Bits of a file's type.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder; its parent must be there.
    pub(super) fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path, FOLDER | 0o755, &[])
    }

    /// Adds a file that may be executed.
    pub(super) fn program(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        self.entry(path, FILE | 0o755, contents)
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        self.entry(path, FILE | 0o644, contents)
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) -> Result<()> {
        let size = u32::try_from(contents.len()).with_context(|| format!("{path} is too large for cpio"))?;
        let name_size = u32::try_from(path.len() + 1).with_context(|| format!("{path}: too long a name"))?;
        self.entries += 1;
        // Inode, mode, user, group, links, time, size, device (two numbers), its own device, name's size, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_headers_names_and_bytes_where_the_kernel_looks_for_them() {
        let mut archive = Archive::default();
        archive.folder("bin").unwrap();
        archive.program("bin/x", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        // A header of 110 bytes and "bin\0" end at a multiple of four already at 116.
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[110..116], b"bin\0\0\0");
        let second = &bytes[116..];
        assert_eq!(&second[14..22], b"000081ed");
        assert_eq!(&second[54..62], b"00000005");
        assert_eq!(&second[110..116], b"bin/x\0");
        assert_eq!(&second[116..124], b"hello\0\0\0");
        assert!(bytes.len().is_multiple_of(4));
        assert_eq!(&second[124 + 110..124 + 121], b"TRAILER!!!\0");
    }
}
