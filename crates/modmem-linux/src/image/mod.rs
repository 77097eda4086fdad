//! Kernel images: from what boots to the kernel's own tables.
//!
//! | machine | what a package has | what is in it |
//! |---|---|---|
//! | x86-64 | `bzImage` | the ELF file `vmlinux`, compressed |
//! | arm64, RISC-V | `Image`, perhaps compressed, perhaps as an EFI program that unpacks itself | the kernel as it lies in memory |
//! | s390 | `bzImage` of its own kind | the same, compressed |
//! | powerpc | the ELF file `vmlinux` | |
//!
//! A kernel as it lies in memory has no sections. Its tables are found by the symbols that it carries for
//! `/proc/kallsyms`.

pub(crate) mod bytes;
mod bzimage;
mod elf;
mod flat;
mod kallsyms;
mod listed;
mod memory;
mod packed;
pub(crate) mod relative;

use std::ops::Range;

use modmem::{
    RunAddr,
    arch::{KernelPlace, Machine},
};

use crate::{Error, KernelSymbol, compress};

pub use elf::{image_facts, kernel_symbols};
pub use listed::ListedSymbol;
pub use memory::KernelMemory;

/// What a kernel's image says about the kernel's own place in memory, where it was not moved (KASLR).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Addresses of the template of percpu data, which are also those of the kernel's percpu symbols: from 0 on x86-64
    /// until Linux 6.14; where other symbols are since, and on other machines.
    pub percpu: Option<Range<u64>>,
    /// Where the kernel was put: `_text`, or on s390 the start of its mapping, `__kaslr_offset`.
    pub start: u64,
    /// The lowest address of the kernel proper: `_text` as it was linked, `0xffffffff81000000` on x86-64.
    pub text: u64,
    /// The address behind the kernel's code, `_etext`, if that is known.
    pub text_end: Option<u64>,
    /// The address behind the kernel's last byte.
    pub end: u64,
}

impl ImageFacts {
    /// The kernel's place, which on some machines decides where its modules go.
    pub fn place(&self) -> KernelPlace {
        KernelPlace {
            start: RunAddr(self.start),
            text_end: RunAddr(self.text_end.unwrap_or(self.end)),
            end: RunAddr(self.end),
        }
    }

    /// The same for a kernel that was moved as a whole.
    #[must_use]
    pub(crate) fn moved_by(&self, by: u64) -> ImageFacts {
        let moved = |address: u64| address.wrapping_add(by);
        let of_kernel = |percpu: &Range<u64>| percpu.start >= self.text;
        ImageFacts {
            // On x86-64 the template was at 0 once, and did not move with the kernel.
            percpu: self.percpu.clone().map(|percpu| match of_kernel(&percpu) {
                true => moved(percpu.start)..moved(percpu.end),
                false => percpu,
            }),
            start: moved(self.start),
            text: moved(self.text),
            text_end: self.text_end.map(moved),
            end: moved(self.end),
        }
    }
}

/// A kernel's image, unpacked.
///
/// ```no_run
/// use modmem_linux::KernelImage;
///
/// let bytes = std::fs::read("vmlinuz")?;
/// let config = std::fs::read("config")?;
/// let image = KernelImage::read("vmlinuz", bytes, Some(&config))?;
/// println!("{}: {} symbols", image.machine(), image.symbols()?.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct KernelImage {
    file: String,
    machine: Machine,
    /// How far from where it was linked the kernel runs, even without KASLR.
    moved: u64,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// `vmlinux`.
    Elf(Vec<u8>),
    /// The kernel as it lies in memory.
    Flat(flat::Flat),
}

impl KernelImage {
    /// Does the file begin as kernel images do? Compressed ones do not.
    pub fn is_one(bytes: &[u8]) -> bool {
        is_elf(bytes) || bzimage::is_bzimage(bytes) || packed::Packed::of(bytes).is_some()
    }

    /// Recognises an image and unpacks it. `file` names it in errors; `config` is the kernel's configuration, which on some
    /// machines says where the kernel runs.
    pub fn read(file: &str, bytes: Vec<u8>, config: Option<&[u8]>) -> Result<KernelImage, Error> {
        let bytes = compress::decompress(file, bytes, crate::memory::of_file())?;
        let named = |machine, form| KernelImage { file: file.to_owned(), machine, moved: 0, form };
        if bzimage::is_bzimage(&bytes) || is_elf(&bytes) {
            let elf = elf_of(file, bytes)?;
            return Ok(named(elf::machine(file, &elf)?, Form::Elf(elf)));
        }
        let mut flat = packed::unpack(file, bytes)?;
        let machine = flat.machine;
        flat.base = flat::usual_base(machine, |name| number(config?, name));
        let mut image = named(machine, Form::Flat(flat));
        if let Some(base) = config.and_then(|config| number(config, S390_BASE))
            && machine == Machine::S390
        {
            // Linked at its place in real memory, and mapped there from Linux 6.10 on.
            image.moved = base;
        }
        Ok(image)
    }

    /// The machine that the kernel is for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// What the kernel exports to modules, sorted by name.
    pub fn symbols(&self) -> Result<Vec<KernelSymbol>, Error> {
        let mut symbols = match &self.form {
            Form::Elf(elf) => kernel_symbols(&self.file, elf)?,
            Form::Flat(flat) => flat.symbols(&self.file)?,
        };
        for address in symbols.iter_mut().filter_map(|symbol| symbol.address.as_mut()) {
            *address = address.wrapping_add(self.moved);
        }
        Ok(symbols)
    }

    /// What the kernel lists of itself, in its order; `None` if its image has no list that can be found.
    pub fn listed(&self) -> Result<Option<Vec<ListedSymbol>>, Error> {
        let mut symbols = match &self.form {
            Form::Elf(elf) => elf::listed(&self.file, elf)?,
            Form::Flat(flat) => flat.listed(),
        };
        for symbol in symbols.iter_mut().flatten().filter(|symbol| symbol.moves) {
            symbol.address = symbol.address.wrapping_add(self.moved);
        }
        Ok(symbols)
    }

    /// Where the kernel's parts are.
    pub fn facts(&self) -> Result<ImageFacts, Error> {
        let facts = match &self.form {
            Form::Elf(elf) => image_facts(&self.file, elf)?,
            Form::Flat(flat) => flat.facts(&self.file)?,
        };
        let moved = |address: u64| address.wrapping_add(self.moved);
        Ok(ImageFacts {
            percpu: facts.percpu.map(|percpu| moved(percpu.start)..moved(percpu.end)),
            start: if self.moved == 0 { facts.start } else { moved(facts.start).saturating_sub(S390_TEXT) },
            text: moved(facts.text),
            text_end: facts.text_end.map(moved),
            end: moved(facts.end),
        })
    }
}

/// What a bzImage's setup header calls the kernel in it, without unpacking that.
pub(crate) fn setup_release(bytes: &[u8]) -> Option<String> {
    bzimage::is_bzimage(bytes).then(|| bzimage::setup_release(bytes))?
}

/// What the kernel in an image calls itself, read from the banner that it prints first (init/version.c:linux_banner).
pub(crate) fn banner_release(file: &str, bytes: Vec<u8>) -> Option<String> {
    let image = KernelImage::read(file, bytes, None).ok()?;
    let bytes = match &image.form {
        Form::Elf(elf) => elf,
        Form::Flat(flat) => &flat.bytes,
    };
    // The format of /proc/version begins in the same way.
    let starts = bytes.windows(BANNER.len()).enumerate().filter(|(_, window)| *window == BANNER);
    let banners = starts.map(|(at, _)| &bytes[at + BANNER.len()..]);
    banners.filter(|rest| rest.first().is_some_and(u8::is_ascii_digit)).find_map(first_word)
}

const BANNER: &[u8] = b"Linux version ";
/// `__NEW_UTS_LEN`.
const LONGEST_RELEASE: usize = 64;

/// The word that a text begins with, if a space ends it where a release must end.
fn first_word(text: &[u8]) -> Option<String> {
    let end = text.iter().take(LONGEST_RELEASE + 1).position(|&byte| byte == b' ')?;
    String::from_utf8(text[..end].to_vec()).ok()
}

/// The machine of an ELF file, a module or a kernel; `None` if it is none.
pub(crate) fn elf_machine(bytes: &[u8]) -> Option<Machine> {
    let number = *bytes.get(18..)?.first_chunk()?;
    let little = bytes.get(5) != Some(&2);
    let number = if little { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) };
    is_elf(bytes).then(|| Machine::from_elf(number))
}

/// Where s390's kernels are mapped without KASLR, and how far behind their text begins (TEXT_OFFSET).
const S390_BASE: &str = "CONFIG_KERNEL_IMAGE_BASE";
const S390_TEXT: u64 = 1 << 20;

fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// The ELF file `vmlinux` from an x86-64 `bzImage`; an ELF file is given back as it is.
fn elf_of(file: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    let elf = if bzimage::is_bzimage(&bytes) { bzimage::payload(file, &bytes)? } else { bytes };
    if is_elf(&elf) {
        return Ok(elf);
    }
    Err(Error::malformed(file, "no ELF file is in this kernel image"))
}

/// Where a kernel was put whose text begins at `text`. On s390 the kernel is mapped with what lies before it in real memory
/// (TEXT_OFFSET), since Linux 6.10, when it got a configured place.
pub(crate) fn start_of(text: u64, config: Option<&[u8]>) -> u64 {
    let is_mapped = config.is_some_and(|config| number(config, S390_BASE).is_some());
    if is_mapped { text.saturating_sub(S390_TEXT) } else { text }
}

/// What a configuration sets to a number in hexadecimal or decimal.
fn number(config: &[u8], name: &str) -> Option<u64> {
    let mut lines = config.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?.trim();
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}
