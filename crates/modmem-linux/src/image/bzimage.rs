//! The x86 `bzImage`: a boot sector, a setup program and a decompressor with the compressed `vmlinux` as its payload.
//!
//! The setup header says where the payload is (Documentation/arch/x86/boot.rst).

use super::is_elf;
use crate::{
    Error,
    compress::{self, Format},
    memory,
};

/// Is this an x86 `bzImage`?
pub(super) fn is_bzimage(bytes: &[u8]) -> bool {
    bytes.get(0x202..0x206) == Some(b"HdrS")
}

/// The kernel's release, where the setup header points to the kernel's version (`kernel_version`).
pub(super) fn setup_release(bytes: &[u8]) -> Option<String> {
    let offset = bytes.get(0x20e..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))?;
    let text = bytes.get(usize::from(offset) + 0x200..).filter(|_| offset != 0)?;
    super::first_word(text)
}

/// The unpacked payload.
pub(super) fn payload(file: &str, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let bad = |problem: &str| Error::malformed(file, problem);
    let u16_at = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
    let u32_at = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let version = u16_at(0x206).ok_or_else(|| bad("truncated in the setup header"))?;
    if version < 0x208 {
        return Err(bad("boot protocol older than 2.08, which does not say where the kernel is"));
    }
    let (Some(offset), Some(length)) = (u32_at(0x248), u32_at(0x24c)) else {
        return Err(bad("truncated in the setup header"));
    };
    // Zero stands for four, for the sake of loaders from the last century.
    let setup_sectors = match bytes.get(0x1f1) {
        Some(0) | None => 4,
        Some(&sectors) => u64::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + u64::from(offset);
    let end = start + u64::from(length);
    let payload = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let payload = payload.and_then(|(start, end)| bytes.get(start..end));
    let payload =
        payload.ok_or_else(|| bad("truncated: the compressed kernel lies behind the end of the file"))?;
    if is_elf(payload) {
        return Ok(payload.to_vec());
    }
    let Some(format) = Format::of_kernel_payload(payload) else {
        let kind = match payload {
            [0x89, b'L', b'Z', b'O', ..] => "lzo",
            [b'B', b'Z', b'h', ..] => "bzip2",
            _ => "an unknown format",
        };
        return Err(bad(&format!("the kernel in it is compressed with {kind}, which is not supported")));
    };
    // The build writes the unpacked size behind the payload; gzip has it there by its own format.
    let expected = payload.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
    compress::unpack(file, format, payload, expected, memory::of_file())
}

#[cfg(test)]
mod tests {
    use super::super::elf_of;
    use std::io::Write;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend_from_slice(&[0; 16]);
        image.extend_from_slice(payload);
        image.extend_from_slice(&[0; 7]);
        image
    }

    fn elf() -> Vec<u8> {
        let mut elf = b"\x7fELF".to_vec();
        elf.extend((0..50_000u32).flat_map(u32::to_le_bytes));
        elf
    }

    fn lzma(data: &[u8]) -> Vec<u8> {
        let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_kernel_comes_out_of_a_bzimage_whatever_compressed_it() {
        let elf = elf();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&elf).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&elf).unwrap();
        let size = (elf.len() as u32).to_le_bytes();
        let zstd = zstd::encode_all(&elf[..], 1).unwrap();
        for packed in [xz.finish().unwrap(), zstd, lzma(&elf)] {
            let image = bzimage(&[&packed[..], &size].concat());
            assert!(elf_of("vmlinuz", image).unwrap() == elf);
        }
        assert!(elf_of("vmlinuz", bzimage(&gzip.finish().unwrap())).unwrap() == elf);
        assert!(elf_of("vmlinuz", bzimage(&elf)).unwrap() == elf);
        assert!(elf_of("vmlinux", elf.clone()).unwrap() == elf);
    }

    #[test]
    fn an_image_cut_anywhere_is_an_error() {
        let image = bzimage(&zstd::encode_all(&elf()[..], 1).unwrap());
        for length in (0..image.len() - 8).step_by(61) {
            assert!(elf_of("vmlinuz", image[..length].to_vec()).is_err(), "{length}");
        }
    }

    #[test]
    fn unsupported_compression_is_named() {
        let error = elf_of("vmlinuz", bzimage(b"\x89LZO\0\r\n")).unwrap_err().to_string();
        assert!(error.contains("compressed with lzo"), "{error}");
    }
}
