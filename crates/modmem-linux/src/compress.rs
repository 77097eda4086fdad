//! Compressed files, recognised by their first bytes and never by their names.

use crate::{Error, memory};
use liblzma::stream::{Action, Status, Stream};
use std::io::Read;

/// Memory a decoder may take for its dictionary. Linux's own largest is 128 MiB (`zstd --ultra -22`).
const DECODER_MEMORY: u64 = 256 << 20;

const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP: &[u8] = &[0x1f, 0x8b];
const LZ4_LEGACY: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
const LZMA: &[u8] = &[0x5d, 0, 0];

/// Largest block of the lz4 legacy format: all but the last unpack to exactly this.
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Xz,
    Zstd,
    Gzip,
    Lzma,
    Lz4Legacy,
}

impl Format {
    /// What a module or a package member is compressed with.
    pub(crate) fn of(bytes: &[u8]) -> Option<Format> {
        match bytes {
            _ if bytes.starts_with(XZ) => Some(Format::Xz),
            _ if bytes.starts_with(ZSTD) => Some(Format::Zstd),
            _ if bytes.starts_with(GZIP) => Some(Format::Gzip),
            _ => None,
        }
    }

    /// What a kernel image's payload is compressed with: two formats more, whose signatures are too weak elsewhere.
    pub(crate) fn of_kernel_payload(bytes: &[u8]) -> Option<Format> {
        match bytes {
            _ if bytes.starts_with(LZMA) => Some(Format::Lzma),
            _ if bytes.starts_with(LZ4_LEGACY) => Some(Format::Lz4Legacy),
            _ => Format::of(bytes),
        }
    }
}

/// Unpacks `bytes` if they are compressed, and gives them back if they are not. More than `limit` is refused.
pub(crate) fn decompress(file: &str, bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>, Error> {
    match Format::of(&bytes) {
        None => Ok(bytes),
        Some(format) => unpack(file, format, &bytes, 0, limit),
    }
}

/// Unpacks the stream at the start of `bytes`; what follows the stream is ignored, as the kernel does.
pub(crate) fn unpack(
    file: &str,
    format: Format,
    bytes: &[u8],
    expected: usize,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    // The expectation comes from the file: it saves copies, but must not make us allocate without data to show for it.
    let capacity = expected.min(bytes.len().saturating_mul(16)).min(limit as usize);
    let mut out = Vec::with_capacity(capacity.max(bytes.len().min(64 << 20)));
    match format {
        Format::Xz => {
            let stream = Stream::new_stream_decoder(decoder_memory(), 0);
            lzma_stream(file, "xz", stream, bytes, &mut out, limit)?;
        }
        Format::Lzma => {
            lzma_stream(file, "lzma", Stream::new_lzma_decoder(decoder_memory()), bytes, &mut out, limit)?;
        }
        Format::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes);
            let decoder = decoder.map_err(|error| Error::corrupt(file, "zstd", error))?.single_frame();
            read_to_limit(file, "zstd", decoder, &mut out, limit)?;
        }
        Format::Gzip => {
            read_to_limit(file, "gzip", flate2::bufread::GzDecoder::new(bytes), &mut out, limit)?;
        }
        Format::Lz4Legacy => lz4_legacy(file, bytes, &mut out, limit)?,
    }
    Ok(out)
}

fn decoder_memory() -> u64 {
    DECODER_MEMORY.min(memory::of_file())
}

fn read_to_limit(
    file: &str,
    format: &'static str,
    decoder: impl Read,
    out: &mut Vec<u8>,
    limit: u64,
) -> Result<(), Error> {
    // One byte more than allowed tells "too large" from "exactly as large as allowed".
    decoder.take(limit + 1).read_to_end(out).map_err(|error| Error::corrupt(file, format, error))?;
    if out.len() as u64 > limit {
        return Err(Error::TooLarge { file: file.to_owned(), limit });
    }
    Ok(())
}

fn lzma_stream(
    file: &str,
    format: &'static str,
    stream: Result<Stream, liblzma::stream::Error>,
    bytes: &[u8],
    out: &mut Vec<u8>,
    limit: u64,
) -> Result<(), Error> {
    let mut stream = stream.map_err(|error| Error::corrupt(file, format, error))?;
    loop {
        if out.len() == out.capacity() {
            if out.len() as u64 >= limit {
                return Err(Error::TooLarge { file: file.to_owned(), limit });
            }
            out.reserve(out.len().clamp(64 << 10, 32 << 20));
        }
        let consumed = stream.total_in() as usize;
        let rest = bytes.get(consumed..).unwrap_or_default();
        let before = out.len();
        let status = stream.process_vec(rest, out, Action::Finish);
        match status.map_err(|error| Error::corrupt(file, format, error))? {
            Status::StreamEnd => break,
            _ if out.len() == before
                && out.len() < out.capacity()
                && stream.total_in() as usize == consumed =>
            {
                return Err(Error::corrupt(file, format, "it ends too early"));
            }
            _ => {}
        }
    }
    if out.len() as u64 > limit {
        return Err(Error::TooLarge { file: file.to_owned(), limit });
    }
    Ok(())
}

fn lz4_legacy(file: &str, bytes: &[u8], out: &mut Vec<u8>, limit: u64) -> Result<(), Error> {
    let mut rest = bytes.get(4..).unwrap_or_default();
    let mut block = vec![0; LZ4_LEGACY_BLOCK];
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let size = u32::from_le_bytes(*size);
        // Concatenated streams repeat the signature; the kernel's build puts the unpacked size behind the last block.
        if size.to_le_bytes() == *LZ4_LEGACY {
            rest = after;
            continue;
        }
        if after.is_empty() {
            break;
        }
        let Some(packed) = after.get(..size as usize).filter(|packed| !packed.is_empty()) else {
            return Err(Error::corrupt(file, "lz4", "it ends too early"));
        };
        let unpacked = lz4_flex::block::decompress_into(packed, &mut block)
            .map_err(|error| Error::corrupt(file, "lz4", error))?;
        if (out.len() + unpacked) as u64 > limit {
            return Err(Error::TooLarge { file: file.to_owned(), limit });
        }
        out.extend_from_slice(&block[..unpacked]);
        rest = &after[packed.len()..];
    }
    if out.is_empty() {
        return Err(Error::corrupt(file, "lz4", "it ends too early"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LIMIT: u64 = 1 << 30;

    fn xz(data: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn sample() -> Vec<u8> {
        (0..100_000u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect()
    }

    #[test]
    fn every_format_comes_back_as_it_was() {
        let data = sample();
        for packed in [xz(&data), gzip(&data), zstd::encode_all(&data[..], 1).unwrap(), data.clone()] {
            assert!(decompress("m.ko", packed, LIMIT).unwrap() == data);
        }
    }

    #[test]
    fn data_behind_the_stream_is_ignored() {
        let data = sample();
        for mut packed in [xz(&data), gzip(&data), zstd::encode_all(&data[..], 1).unwrap()] {
            packed.extend_from_slice(&[1, 2, 3, 4]);
            assert!(decompress("m.ko", packed, LIMIT).unwrap() == data);
        }
    }

    #[test]
    fn a_truncated_stream_names_its_file() {
        let data = sample();
        for mut packed in [xz(&data), gzip(&data), zstd::encode_all(&data[..], 1).unwrap()] {
            packed.truncate(packed.len() / 2);
            let error = decompress("dir/m.ko.xz", packed, LIMIT).unwrap_err().to_string();
            assert!(error.starts_with("dir/m.ko.xz: truncated or corrupt"), "{error}");
        }
    }

    #[test]
    fn corrupt_data_is_an_error() {
        let data = sample();
        for mut packed in [xz(&data), gzip(&data)] {
            let middle = packed.len() / 2;
            packed[middle] ^= 0xff;
            assert!(matches!(decompress("m.ko", packed, LIMIT), Err(Error::Corrupt { .. })));
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = vec![0; 1 << 20];
        for (format, packed) in [
            (Format::Xz, xz(&bomb)),
            (Format::Gzip, gzip(&bomb)),
            (Format::Zstd, zstd::encode_all(&bomb[..], 1).unwrap()),
        ] {
            assert!(matches!(unpack("m.ko", format, &packed, 0, 1 << 16), Err(Error::TooLarge { .. })));
            assert_eq!(unpack("m.ko", format, &packed, 0, 1 << 20).unwrap().len(), 1 << 20);
        }
    }

    #[test]
    fn lz4_legacy_blocks_are_joined_and_the_size_behind_them_is_ignored() {
        let data = sample();
        let mut packed = LZ4_LEGACY.to_vec();
        for block in data.chunks(150_000) {
            let block = lz4_flex::block::compress(block);
            packed.extend_from_slice(&(block.len() as u32).to_le_bytes());
            packed.extend_from_slice(&block);
        }
        packed.extend_from_slice(&(data.len() as u32).to_le_bytes());
        assert_eq!(Format::of_kernel_payload(&packed), Some(Format::Lz4Legacy));
        assert!(unpack("vmlinuz", Format::Lz4Legacy, &packed, data.len(), LIMIT).unwrap() == data);
    }
}
