//! What a kernel's image says that `/proc/kallsyms` has to show of the kernel itself.

use std::fmt::Write as _;
use std::io;

use crate::cache::Fingerprint;
use crate::image::{KernelImage, ListedSymbol};
use crate::memory;
use crate::module_file::read_file;
use crate::trust::digest::Digest;
use crate::{Error, Kernel};

/// Folder of the cache with these lists: finding one means to decompress the image.
const LISTS: &str = "listed";
const HEAD: &str = "modmem listed 1\n";

/// The symbols that a kernel lists of itself, in its order, at the addresses where it was linked.
#[derive(Clone, Debug)]
pub struct KernelList {
    /// A line for each: address, letter (behind it `*` if it does not move with the kernel), name.
    lines: String,
    count: usize,
}

/// One symbol of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnSymbol<'l> {
    /// Its name.
    pub name: &'l str,
    /// The character that `/proc/kallsyms` shows for its kind.
    pub letter: char,
    /// Its address, where the kernel was not moved.
    pub address: u64,
    /// Whether it moves with the kernel.
    pub moves: bool,
}

impl KernelList {
    /// The list of an image's symbols.
    pub fn new(symbols: &[ListedSymbol]) -> KernelList {
        let mut lines = String::new();
        for ListedSymbol { name, letter, address, moves } in symbols {
            let mark = if *moves { "" } else { "*" };
            let _ = writeln!(lines, "{address:x} {letter}{mark} {name}");
        }
        KernelList { lines, count: symbols.len() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = OwnSymbol<'_>> {
        self.lines.lines().filter_map(symbol)
    }

    /// Reads back what was kept; `None` if it is not whole.
    fn kept(text: String) -> Option<KernelList> {
        let lines = text.strip_prefix(HEAD)?;
        let (lines, count) = lines.strip_suffix('\n')?.rsplit_once('\n')?;
        let count = count.strip_prefix("end ")?.parse().ok()?;
        let list = KernelList { lines: lines.to_owned(), count };
        (list.iter().count() == count).then_some(list)
    }

    fn to_be_kept(&self) -> String {
        format!("{HEAD}{}end {}\n", self.lines, self.count)
    }
}

fn symbol(line: &str) -> Option<OwnSymbol<'_>> {
    let (address, rest) = line.split_once(' ')?;
    let (kind, name) = rest.split_once(' ')?;
    let mut kind = kind.chars();
    let letter = kind.next()?;
    let moves = kind.next().is_none();
    Some(OwnSymbol { name, letter, address: u64::from_str_radix(address, 16).ok()?, moves })
}

impl Kernel {
    /// What the kernel lists of itself by its image. `None` if there is no image that may be read, or no list in it.
    ///
    /// # Errors
    /// The image cannot be read or is none.
    pub fn list(&self) -> Result<Option<KernelList>, Error> {
        let config = self.config();
        let kept = self.image_digest().map(|digest| name(digest, config.as_deref()));
        if let Some(name) = &kept
            && let Some(text) = self.cache.note(LISTS, name).and_then(|text| String::from_utf8(text).ok())
            && let Some(list) = KernelList::kept(text)
        {
            return Ok(Some(list));
        }
        let Some(image) = self.kernel_image()? else { return Ok(None) };
        let list = image.listed()?.map(|symbols| KernelList::new(&symbols));
        if let Some((name, list)) = kept.zip(list.as_ref()) {
            self.cache.keep_note(LISTS, &name, list.to_be_kept().as_bytes());
        }
        Ok(list)
    }
}

impl Kernel {
    /// The kernel's image, unpacked. `None` if there is none that may be read.
    ///
    /// # Errors
    /// It cannot be read or is none.
    pub fn kernel_image(&self) -> Result<Option<KernelImage>, Error> {
        let path = self.image_path();
        let read = self.image().or_else(|| path.map(|path| read_file(path, memory::of_file())));
        let bytes = match read {
            None => return Ok(None),
            // Some systems let only root read the running kernel's image.
            Some(Err(Error::Read { source, .. })) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(None);
            }
            Some(read) => read?,
        };
        let shown = path.map_or_else(|| "vmlinuz".to_owned(), |path| path.display().to_string());
        KernelImage::read(&shown, bytes, self.config().as_deref()).map(Some)
    }
}

/// The name under which the list of an image is kept: what an image says is read by the configuration.
fn name(image: Digest, config: Option<&[u8]>) -> String {
    let mut fingerprint = Fingerprint::new();
    fingerprint.add(image.as_bytes());
    fingerprint.add(&[u8::from(config.is_some())]);
    fingerprint.add(config.unwrap_or_default());
    fingerprint.name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_whole_or_not_at_all() {
        let symbol =
            |name: &str, letter, address, moves| ListedSymbol { name: name.into(), letter, address, moves };
        let symbols = [symbol("fixed", 'A', 0x40, false), symbol("_text", 'T', 0xffff_ffff_8100_0000, true)];
        let list = KernelList::new(&symbols);
        let kept = list.to_be_kept();
        let again = KernelList::kept(kept.clone()).unwrap();
        assert_eq!(again.iter().collect::<Vec<_>>(), list.iter().collect::<Vec<_>>());
        assert_eq!(again.len(), 2);
        let last = again.iter().last().unwrap();
        assert_eq!((last.name, last.letter, last.moves), ("_text", 'T', true));
        assert!(KernelList::kept(kept.replace("end 2", "end 3")).is_none());
        assert!(KernelList::kept(kept[..kept.len() - 2].to_owned()).is_none());
    }
}
