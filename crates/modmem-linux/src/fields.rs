//! What `modinfo` shows of a module's file: the strings of `.modinfo`, the build id, and what the signature trailer says.

mod der;
mod trailer;

use object::{Object, ObjectSection};
use std::fmt::Write as _;

/// One line of `modinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Such as `license`.
    pub key: Vec<u8>,
    /// Any bytes but zero.
    pub value: Vec<u8>,
}

/// The fields of a module's file in the order of kmod's `modinfo` (libkmod-module.c:kmod_module_get_info): as `.modinfo`
/// has them, parameters included, then `build-id`, and for a signed module `sig_id`, `signer`, `sig_key`, `sig_hashalgo`
/// and `signature`. Nothing is verified. Bytes are in hexadecimal, upper case, with colons.
///
/// Empty for what is no ELF file.
pub fn module_fields(file: &[u8]) -> Vec<Field> {
    let Ok(elf) = object::File::parse(file) else { return Vec::new() };
    let data = |name: &str| elf.section_by_name(name).and_then(|section| section.data().ok());
    let mut fields = Vec::new();
    let mut add = |key: &str, value: Vec<u8>| fields.push(Field { key: key.into(), value });
    if let Some(id) = data(".note.gnu.build-id").and_then(|note| build_id(note, elf.is_little_endian())) {
        add("build-id", hex(id));
    }
    if let Some(signature) = trailer::read(file) {
        add("sig_id", signature.kind.into());
        add("signer", signature.signer);
        add("sig_key", hex(&signature.key));
        add("sig_hashalgo", signature.hash.into());
        add("signature", hex(&signature.signature));
    }
    let strings =
        data(".modinfo").unwrap_or_default().split(|&byte| byte == 0).filter(|text| !text.is_empty());
    let strings = strings.map(|text| match text.iter().position(|&byte| byte == b'=') {
        Some(at) => Field { key: text[..at].to_vec(), value: text[at + 1..].to_vec() },
        None => Field { key: text.to_vec(), value: Vec::new() },
    });
    strings.chain(fields).collect()
}

/// The id in a note (libkmod-elf.c:kmod_elf_get_build_id).
fn build_id(note: &[u8], little: bool) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let word = |at: usize| {
        let bytes = note.get(at..)?.first_chunk()?;
        Some(if little { u32::from_le_bytes(*bytes) } else { u32::from_be_bytes(*bytes) })
    };
    let (name, length, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
    let body = note.get(12..)?;
    let id = body.get(name..)?.get(..length)?;
    (kind == NT_GNU_BUILD_ID && body.starts_with(b"GNU\0")).then_some(id)
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (at, byte) in bytes.iter().enumerate() {
        let colon = if at > 0 { ":" } else { "" };
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_ids_are_read_in_both_byte_orders() {
        let mut note = [4u32, 2, 3].map(u32::to_be_bytes).concat();
        note.extend(b"GNU\0\xab\xcd\0\0");
        assert_eq!(build_id(&note, false).map(hex), Some(b"AB:CD".to_vec()));
        assert_eq!(build_id(&note, true), None);
        assert_eq!(build_id(&note[..17], false), None);
        assert_eq!(hex(b""), b"");
    }

    #[test]
    fn what_is_no_elf_file_has_no_fields() {
        assert!(module_fields(b"license=GPL\0").is_empty());
    }
}
