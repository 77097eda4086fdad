//! Names as files have them: bytes, mostly ASCII, never trusted to be UTF-8.

use alloc::string::{String, ToString};
use core::fmt;
use core::hash::{BuildHasher, Hasher};
use core::ops::Deref;

use crate::seed::Seeded;
use crate::visible::Visible;

/// A section's, symbol's or module's name, borrowed from the file.
///
/// It compares as bytes. [`Display`](fmt::Display) shows what is not UTF-8 as U+FFFD, and what nobody would see
/// [escaped](Visible).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name<'a>(pub &'a [u8]);

impl<'a> Name<'a> {
    /// The bytes, for as long as the file lives.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The name as text where it is valid UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        core::str::from_utf8(self.0).ok()
    }

    /// A copy that outlives the file, as shown.
    pub fn to_text(self) -> String {
        self.to_string()
    }
}

impl Deref for Name<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Name<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(text: &'a str) -> Name<'a> {
        Name(text.as_bytes())
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            write!(f, "{}", Visible(chunk.valid()))?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// The string that starts at `offset` of a string table that ends with a NUL; the table's last string where the
/// offset is its end.
#[inline]
pub(crate) fn string_at(table: &[u8], offset: u32) -> Name<'_> {
    let rest = table.get(offset as usize..).unwrap_or_default();
    Name(&rest[..length_to_nul(rest)])
}

/// Bytes before the first NUL, or all of them: names are so short that a call to `memchr` costs more than the search.
#[inline(always)]
pub(crate) fn length_to_nul(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of each zero byte, and of bytes above the lowest one, which do not matter.
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return index * 8 + zeros.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len())
}

/// The hash that all tables of names use.
#[inline]
pub(crate) fn hash(name: &[u8]) -> u64 {
    let mut hasher = Seeded.build_hasher();
    hasher.write(name);
    hasher.finish()
}

/// A name with its hash, for tables that are asked for the same name in turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct HashedName<'a> {
    name: Name<'a>,
    hash: u64,
}

impl<'a> HashedName<'a> {
    /// Hashes a name.
    #[inline]
    pub fn new(name: Name<'a>) -> HashedName<'a> {
        HashedName { name, hash: hash(name.bytes()) }
    }

    /// The name.
    pub fn name(self) -> Name<'a> {
        self.name
    }

    pub(crate) fn hash(self) -> u64 {
        self.hash
    }
}
