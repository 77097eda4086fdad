//! The signature trailer as kmod reads it (libkmod-signature.c): PKCS#7 messages, and the kinds of Linux before 4.3, whose
//! trailer has the signer's name and the key's in front of the signature.

use super::der::signer_info;

const MARKER: &[u8] = b"~Module signature appended~\n";
const TRAILER: usize = 12;

/// `enum pkey_id_type`.
const KINDS: [&str; 3] = ["PGP", "X509", "PKCS#7"];
const PKCS7: u8 = 2;
/// `enum pkey_algo`: DSA, RSA.
const ALGORITHMS: u8 = 2;
/// `enum pkey_hash_algo`.
const HASHES: [&str; 9] = ["md4", "md5", "sha1", "rmd160", "sha256", "sha384", "sha512", "sha224", "sm3"];

/// What a trailer says. Nothing of it is verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) kind: &'static str,
    pub(super) signer: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) hash: String,
    pub(super) signature: Vec<u8>,
}

/// The trailer of a file, if it ends with one that makes sense.
pub(super) fn read(file: &[u8]) -> Option<Trailer> {
    let (rest, trailer) = file.strip_suffix(MARKER)?.split_last_chunk::<TRAILER>()?;
    let [algorithm, hash, kind, signer, key, _, _, _, size @ ..] = *trailer;
    let (name, hash) = (*KINDS.get(usize::from(kind))?, *HASHES.get(usize::from(hash))?);
    let size = u32::from_be_bytes(size) as usize;
    if algorithm >= ALGORITHMS || size == 0 {
        return None;
    }
    let mut rest = rest;
    let mut take = |length: usize| {
        let (before, last) = rest.split_at(rest.len().checked_sub(length)?);
        rest = before;
        Some(last.to_vec())
    };
    let signature = take(size)?;
    let (key, signer) = (take(usize::from(key))?, take(usize::from(signer))?);
    if kind != PKCS7 {
        return Some(Trailer { kind: name, signer, key, hash: hash.to_owned(), signature });
    }
    let message = signer_info(&signature);
    Some(match message {
        Some(info) => Trailer {
            kind: name,
            signer: info.signer,
            key: info.serial,
            hash: info.hash,
            signature: info.signature,
        },
        None => Trailer {
            kind: name,
            signer: Vec::new(),
            key: Vec::new(),
            hash: "unknown".to_owned(),
            signature: Vec::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(body: &[u8], trailer: [u8; 5], size: u32) -> Vec<u8> {
        [body, &trailer, &[0; 3], &size.to_be_bytes(), MARKER].concat()
    }

    #[test]
    fn trailers_of_old_kinds_have_their_names_before_the_signature() {
        let read = |kind: u8| read(&signed(b"moduleSignerKEYxyz", [1, 4, kind, 6, 3], 3));
        let found = read(1).unwrap();
        assert_eq!((found.kind, &*found.signer, &*found.key), ("X509", &b"Signer"[..], &b"KEY"[..]));
        assert_eq!((&*found.hash, &*found.signature), ("sha256", &b"xyz"[..]));
        assert_eq!(read(0).unwrap().kind, "PGP");
        assert_eq!(read(3), None);
        assert_eq!(read(2).unwrap().hash, "unknown", "no message");
    }

    #[test]
    fn lengths_beyond_the_file_are_no_trailer() {
        assert_eq!(read(&signed(b"abc", [1, 4, 1, 2, 2], 3)), None);
        assert_eq!(read(&signed(b"abc", [1, 4, 1, 0, 0], 0)), None);
        assert_eq!(read(&signed(b"abc", [9, 4, 1, 0, 0], 1)), None);
        assert_eq!(read(MARKER), None);
    }
}
