//! The signature trailer that the kernel build appends to a module.
//!
//! Format: kernel/module/signing.c:module_sig_check, kernel/module_signature.c:mod_check_sig. From the end of the
//! file: the 28-byte marker, a 12-byte `struct module_signature`, the signature itself, the signed module.

use core::fmt;

use super::error::ImageError;

const MARKER: &[u8] = b"~Module signature appended~\n";
const TRAILER: usize = 12;
/// `id_type` of a PKCS#7 (CMS) signature, the only one that Linux takes.
const PKCS7: u8 = 2;

/// A module's signature, as it lies at the end of the file. It is read, not verified.
#[derive(Clone, Copy)]
pub struct Signature<'a> {
    /// The DER-encoded PKCS#7 message.
    pub message: &'a [u8],
}

/// Digest algorithms that Linux signs modules with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// SHA-1
    Sha1,
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
    /// SHA3-256
    Sha3_256,
    /// SHA3-384
    Sha3_384,
    /// SHA3-512
    Sha3_512,
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HashAlgorithm::Sha1 => "sha1",
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Sha384 => "sha384",
            HashAlgorithm::Sha512 => "sha512",
            HashAlgorithm::Sha3_256 => "sha3-256",
            HashAlgorithm::Sha3_384 => "sha3-384",
            HashAlgorithm::Sha3_512 => "sha3-512",
        })
    }
}

impl Signature<'_> {
    /// The digest algorithm that the message names first, found by its object identifier.
    ///
    /// This is for people to read, and no substitute for verifying.
    pub fn hash(&self) -> Option<HashAlgorithm> {
        // DER of OID 2.16.840.1.101.3.4.2.x (NIST hashes), and of 1.3.14.3.2.26 (SHA-1).
        const NIST: &[u8] = &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
        const SHA1: &[u8] = &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a];
        self.message.windows(NIST.len() + 1).find_map(|window| {
            if let Some(&[last]) = window.strip_prefix(NIST) {
                return match last {
                    1 => Some(HashAlgorithm::Sha256),
                    2 => Some(HashAlgorithm::Sha384),
                    3 => Some(HashAlgorithm::Sha512),
                    8 => Some(HashAlgorithm::Sha3_256),
                    9 => Some(HashAlgorithm::Sha3_384),
                    10 => Some(HashAlgorithm::Sha3_512),
                    _ => None,
                };
            }
            window.starts_with(SHA1).then_some(HashAlgorithm::Sha1)
        })
    }
}

impl fmt::Debug for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} bytes)", self.message.len())
    }
}

/// Parts a file into the module and its signature, if it ends with one.
pub(super) fn split(file: &[u8]) -> Result<(&[u8], Option<Signature<'_>>), ImageError> {
    let bad = |problem| ImageError::BadSignature { problem };
    let Some(rest) = file.strip_suffix(MARKER) else { return Ok((file, None)) };
    let Some((rest, trailer)) = rest.split_last_chunk::<TRAILER>() else {
        return Err(bad("the file is too short for struct module_signature"));
    };
    let [algorithm, hash, id_type, signer_length, key_id_length, pad @ .., s0, s1, s2, s3] = trailer;
    let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
    let module = match rest.len().checked_sub(size) {
        Some(split) if split > 0 => split,
        _ => return Err(bad("sig_len is larger than the file")),
    };
    if *id_type != PKCS7 {
        // A signature of another kind counts as none, as in Linux (-ENOPKG, which is tolerated). Those of Linux before 4.3
        // have the signer's name and the key's before them.
        let names = usize::from(*signer_length) + usize::from(*key_id_length);
        return Ok((&rest[..module.checked_sub(names).unwrap_or(module)], None));
    }
    if [algorithm, hash, signer_length, key_id_length].into_iter().chain(pad).any(|&byte| byte != 0) {
        return Err(bad("a field that must be zero in a PKCS#7 signature is not"));
    }
    let (module, message) = rest.split_at(module);
    Ok((module, Some(Signature { message })))
}

/// Bytes behind the ELF file that are no signature: more than zeros, which are padding and do no harm.
///
/// Linux takes such a file for an unsigned module. Often it is a signed one that was cut off while it was written.
pub(super) fn bytes_behind(file: &[u8], end: u64) -> u64 {
    let rest = usize::try_from(end).ok().and_then(|end| file.get(end..)).unwrap_or_default();
    if rest.iter().all(|&byte| byte == 0) { 0 } else { rest.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// `body`, with a trailer of the kind `id_type` and the lengths of the signer's name, the key's and the signature.
    fn signed(body: &[u8], id_type: u8, names: [u8; 2], size: u32) -> Vec<u8> {
        let trailer = [1, 4, id_type, names[0], names[1], 0, 0, 0];
        [
            body,
            if id_type == PKCS7 { &[0, 0, 2, 0, 0, 0, 0, 0] } else { &trailer },
            &size.to_be_bytes(),
            MARKER,
        ]
        .concat()
    }

    #[test]
    fn signatures_of_old_kinds_are_none_and_are_cut_off() {
        let split = |file: &[u8]| split(file).map(|(module, signature)| (module.len(), signature.is_some()));
        for id_type in [0, 1] {
            let file = signed(b"module+signer+key+signature", id_type, [7, 4], 10);
            assert_eq!(split(&file), Ok((6, false)));
        }
        assert_eq!(split(&signed(b"module+signature", PKCS7, [0, 0], 10)), Ok((6, true)));
        // Names that are longer than the file are not the kernel's concern.
        assert_eq!(split(&signed(b"module+signature", 1, [255, 4], 10)), Ok((6, false)));
        assert!(split(&signed(b"module", 1, [0, 0], 6)).is_err());
    }
}
