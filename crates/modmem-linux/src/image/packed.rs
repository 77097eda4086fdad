//! Images other than ELF files: what wraps the kernel, and for which machine it is.

use modmem::arch::Machine;

use super::flat::Flat;
use crate::{
    Error,
    compress::{self, Format},
};

/// No kernel comes near this; a payload that unpacks to more is no payload.
const LARGEST: u64 = 512 << 20;
/// Starts of compressed data that are tried, where nothing says which is the kernel.
const MAX_TRIES: usize = 32;
/// A payload smaller than this is something else that looks like one.
const SMALLEST: usize = 1 << 16;

/// What the first bytes say that a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packed {
    /// arm64's `Image` (Documentation/arch/arm64/booting.rst).
    Arm64,
    /// RISC-V's `Image` (Documentation/arch/riscv/boot-image-header.rst).
    RiscV,
    /// An EFI program that unpacks an `Image` (drivers/firmware/efi/libstub/zboot-header.S).
    EfiZboot,
    /// s390's image: what starts it, with the compressed kernel somewhere in it.
    S390,
    /// The same of 32-bit ARM, `zImage`.
    Arm,
}

impl Packed {
    pub(super) fn of(bytes: &[u8]) -> Option<Packed> {
        let is = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(magic));
        if is(0, b"MZ") && is(4, b"zimg") {
            Some(Packed::EfiZboot)
        } else if is(0x38, b"ARM\x64") {
            Some(Packed::Arm64)
        } else if is(0x38, b"RSC\x05") {
            Some(Packed::RiscV)
        } else if is(0x10008, b"S390EP") {
            Some(Packed::S390)
        } else if is(0x24, &[0x18, 0x28, 0x6f, 0x01]) {
            Some(Packed::Arm)
        } else {
            None
        }
    }
}

/// The kernel in an image.
pub(super) fn unpack(file: &str, bytes: Vec<u8>) -> Result<Flat, Error> {
    match Packed::of(&bytes) {
        Some(Packed::EfiZboot) => {
            let inner = zboot(file, &bytes)?;
            match Packed::of(&inner) {
                Some(kind @ (Packed::Arm64 | Packed::RiscV)) => image(file, inner, kind),
                _ => Err(unknown(file)),
            }
        }
        Some(kind @ (Packed::Arm64 | Packed::RiscV)) => image(file, bytes, kind),
        Some(Packed::S390) => Ok(Flat {
            bytes: payload(file, &bytes)?,
            machine: Machine::S390,
            little: false,
            word: 8,
            size: None,
            base: None,
        }),
        Some(Packed::Arm) => Ok(Flat {
            bytes: payload(file, &bytes)?,
            machine: Machine::Arm,
            little: true,
            word: 4,
            size: None,
            base: None,
        }),
        None => Err(unknown(file)),
    }
}

fn unknown(file: &str) -> Error {
    let problem = "not a kernel image that is known (an x86 or s390 bzImage, an ELF file, an Image of arm64 or RISC-V); \
                   give Module.symvers or a System.map with --symbols";
    Error::malformed(file, problem)
}

/// An `Image`, whose header says how much memory the kernel takes.
fn image(file: &str, bytes: Vec<u8>, kind: Packed) -> Result<Flat, Error> {
    let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let (Some(size), Some(flags)) = (number(16), number(24)) else {
        return Err(Error::malformed(file, "truncated in its header"));
    };
    let machine = if kind == Packed::Arm64 { Machine::Arm64 } else { Machine::RiscV };
    // RISC-V has 32-bit kernels too, which the header does not tell: they are not in packages.
    let flat = Flat {
        little: flags & 1 == 0,
        machine,
        word: 8,
        size: Some(size).filter(|size| *size > 0),
        base: None,
        bytes,
    };
    match flat.size {
        Some(size) if size > LARGEST || size < flat.bytes.len() as u64 / 2 => Err(Error::malformed(
            file,
            format!("its header says that the kernel takes {size:#x} bytes of memory"),
        )),
        _ => Ok(flat),
    }
}

/// What an EFI program unpacks: its header says where that is, and by what name it is compressed.
fn zboot(file: &str, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let bad = |problem: &str| Error::malformed(file, problem);
    let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let (Some(offset), Some(size)) = (number(8), number(12)) else {
        return Err(bad("truncated in its header"));
    };
    let payload = offset.checked_add(size).and_then(|end| bytes.get(offset..end));
    let payload =
        payload.ok_or_else(|| bad("truncated: the compressed kernel lies behind the end of the file"))?;
    let Some(format) = Format::of_kernel_payload(payload) else {
        return Err(bad("the kernel in it is compressed in a format that is not supported"));
    };
    compress::unpack(file, format, payload, 0, LARGEST)
}

/// The compressed kernel in an image that does not say where it is: of all that looks like compressed data and can be
/// unpacked, what is largest.
fn payload(file: &str, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut best = Vec::new();
    let starts = (0..bytes.len()).filter_map(|at| Some((at, format_at(&bytes[at..])?)));
    for (at, format) in starts.take(MAX_TRIES) {
        // What follows the payload in the image is not its.
        if let Ok(unpacked) = compress::unpack(file, format, &bytes[at..], 0, LARGEST)
            && unpacked.len() > best.len().max(SMALLEST)
        {
            best = unpacked;
            // Nothing else in the image is compressed and half as large as this.
            if best.len() > bytes.len() {
                break;
            }
        }
    }
    if best.is_empty() {
        let problem = "no compressed kernel is in it (truncated, or compressed in a format that is not supported); give \
                       Module.symvers or a System.map with --symbols";
        return Err(Error::malformed(file, problem));
    }
    Ok(best)
}

/// The format of compressed data that begins here, where more than its signature looks like it.
fn format_at(bytes: &[u8]) -> Option<Format> {
    let format = Format::of_kernel_payload(bytes)?;
    let is_sane = match (format, bytes) {
        // Deflate is the only method, and the build gives no name and no comment.
        (Format::Gzip, [_, _, 8, flags, ..]) => flags & !8 == 0,
        (Format::Gzip, _) => false,
        // A dictionary of a power of two, and a size that is unknown or below a gigabyte.
        (Format::Lzma, [_, _, _, a, b, size @ ..]) => {
            let dictionary = u32::from_le_bytes([0, 0, *a, *b]);
            let unknown = size.get(..8) == Some(&[0xff; 8]);
            let small = size.get(3..8).is_some_and(|high| high[0] < 0x40 && high[1..] == [0; 4]);
            dictionary.is_power_of_two() && (unknown || small)
        }
        _ => true,
    };
    is_sane.then_some(format)
}
