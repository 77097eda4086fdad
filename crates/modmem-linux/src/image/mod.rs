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
mod packed;
pub(crate) mod relative;

use std::ops::Range;

use modmem::arch::Machine;

use crate::{Error, KernelSymbol, compress};

pub use elf::{image_facts, kernel_symbols};

/// What a kernel's image says about the kernel's own place in memory, where it was not moved (KASLR).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Addresses of the template of percpu data, which are also those of the kernel's percpu symbols: from 0 on x86-64
    /// until Linux 6.14; where other symbols are since, and on other machines.
    pub percpu: Option<Range<u64>>,
    /// The lowest address of the kernel proper: `_text` as it was linked, `0xffffffff81000000` on x86-64.
    pub text: u64,
    /// The address behind the kernel's code, `_etext`, if that is known.
    pub text_end: Option<u64>,
    /// The address behind the kernel's last byte.
    pub end: u64,
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
        let bytes = compress::decompress(file, bytes)?;
        let named = |machine, form| KernelImage { file: file.to_owned(), machine, moved: 0, form };
        if bzimage::is_bzimage(&bytes) || is_elf(&bytes) {
            let elf = elf_of(file, bytes)?;
            return Ok(named(elf::machine(file, &elf)?, Form::Elf(elf)));
        }
        let flat = packed::unpack(file, bytes)?;
        let machine = flat.machine;
        let mut image = named(machine, Form::Flat(flat));
        if let Some(base) = config.and_then(|config| number(config, "CONFIG_KERNEL_IMAGE_BASE"))
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

    /// Where the kernel's parts are.
    pub fn facts(&self) -> Result<ImageFacts, Error> {
        let facts = match &self.form {
            Form::Elf(elf) => image_facts(&self.file, elf)?,
            Form::Flat(flat) => flat.facts(&self.file)?,
        };
        let moved = |address: u64| address.wrapping_add(self.moved);
        Ok(ImageFacts {
            percpu: facts.percpu.map(|percpu| moved(percpu.start)..moved(percpu.end)),
            text: moved(facts.text),
            text_end: facts.text_end.map(moved),
            end: moved(facts.end),
        })
    }
}

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

/// What a configuration sets to a number in hexadecimal or decimal.
fn number(config: &[u8], name: &str) -> Option<u64> {
    let mut lines = config.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?.trim();
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}
