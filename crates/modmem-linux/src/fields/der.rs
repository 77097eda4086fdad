//! As much of DER and PKCS#7 (RFC 2315) as it takes to say who signed a module.

/// The first signer of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SignerInfo {
    /// The common name of the certificate's issuer, or else what its name ends with.
    pub(super) signer: Vec<u8>,
    pub(super) serial: Vec<u8>,
    pub(super) hash: String,
    pub(super) signature: Vec<u8>,
}

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` and `[1]` with a value inside: certificates, revocation lists, signed attributes.
const TAGGED: [u8; 2] = [0xa0, 0xa1];

/// id-signedData, id-at-commonName.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Digests by object identifier, as OpenSSL calls them.
const HASHES: [(&[u8], &str); 13] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x04], "md4"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05], "md5"),
    (&[0x2b, 0x0e, 0x03, 0x02, 0x1a], "sha1"),
    (&[0x2b, 0x24, 0x03, 0x02, 0x01], "ripemd160"),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], "sha256"),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], "sha384"),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], "sha512"),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x04], "sha224"),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x08], "sha3-256"),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x09], "sha3-384"),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x0a], "sha3-512"),
    (&[0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x83, 0x11], "sm3"),
    (&[0x2a, 0x85, 0x03, 0x07, 0x01, 0x01, 0x02, 0x02], "md_gost12_256"),
];

/// Values one behind the other.
#[derive(Clone, Copy)]
struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    /// The next value: its tag and its bytes.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            // Definite lengths of up to four bytes.
            0x81..=0x84 => {
                let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = behind;
                bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte))
            }
            _ => return None,
        };
        let (value, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, value))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'d [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, value)| value)
    }

    fn enter(&mut self, wanted: u8) -> Option<Reader<'d>> {
        self.expect(wanted).map(Reader)
    }

    fn skip(&mut self, tags: &[u8]) {
        let mut ahead = *self;
        while ahead.next().is_some_and(|(tag, _)| tags.contains(&tag)) {
            *self = ahead;
        }
    }
}

/// Who signed a PKCS#7 message, if it is one that names its signer by issuer and serial number.
pub(super) fn signer_info(message: &[u8]) -> Option<SignerInfo> {
    let mut content = Reader(message).enter(SEQUENCE)?;
    if content.expect(OBJECT)? != SIGNED_DATA {
        return None;
    }
    let mut signed = content.enter(TAGGED[0])?.enter(SEQUENCE)?;
    signed.expect(INTEGER)?;
    signed.expect(SET)?;
    signed.expect(SEQUENCE)?;
    signed.skip(&TAGGED);
    let mut info = signed.enter(SET)?.enter(SEQUENCE)?;
    info.expect(INTEGER)?;
    let mut issuer = info.enter(SEQUENCE)?;
    let signer = name(issuer.enter(SEQUENCE)?)?;
    let serial = issuer.expect(INTEGER)?;
    // A number: without zeros before it.
    let serial = &serial[serial.iter().take_while(|&&byte| byte == 0).count()..];
    let algorithm = info.enter(SEQUENCE)?.expect(OBJECT)?;
    info.skip(&TAGGED[..1]);
    info.expect(SEQUENCE)?;
    let signature = info.expect(OCTETS)?;
    let hash = HASHES.iter().find(|(object, _)| *object == algorithm);
    let hash = hash.map_or_else(|| dotted(algorithm), |(_, name)| (*name).to_owned());
    Some(SignerInfo { signer: signer.to_vec(), serial: serial.to_vec(), hash, signature: signature.to_vec() })
}

/// The common name in a name; its last part if it has none.
fn name(mut parts: Reader<'_>) -> Option<&[u8]> {
    let mut last: &[u8] = &[];
    while let Some(mut part) = parts.enter(SET) {
        while let Some(mut attribute) = part.enter(SEQUENCE) {
            let kind = attribute.expect(OBJECT)?;
            (_, last) = attribute.next()?;
            if kind == COMMON_NAME {
                return Some(last);
            }
        }
    }
    Some(last)
}

/// An object identifier in digits.
fn dotted(object: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0u64;
    for &byte in object {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(number);
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let length = match body.len() {
            short @ 0..=0x7f => vec![short as u8],
            long => vec![0x82, (long >> 8) as u8, long as u8],
        };
        [&[tag][..], &length, &body].concat()
    }

    fn message(hash: &[u8], names: &[(&[u8], &[u8])]) -> Vec<u8> {
        let names: Vec<Vec<u8>> = names
            .iter()
            .map(|(kind, text)| {
                value(SET, &[&value(SEQUENCE, &[&value(OBJECT, &[kind]), &value(0x0c, &[text])])])
            })
            .collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let issuer = value(SEQUENCE, &[&value(SEQUENCE, &names), &value(INTEGER, &[&[0, 0x9a, 0xbc]])]);
        let hash = value(SEQUENCE, &[&value(OBJECT, &[hash])]);
        let info = [
            value(INTEGER, &[&[1]]),
            issuer,
            hash.clone(),
            value(0xa0, &[b"attributes"]),
            value(SEQUENCE, &[]),
            value(OCTETS, &[&[7; 300]]),
        ];
        let info: Vec<&[u8]> = info.iter().map(Vec::as_slice).collect();
        let signed = value(
            SEQUENCE,
            &[
                &value(INTEGER, &[&[1]]),
                &value(SET, &[&hash]),
                &value(SEQUENCE, &[]),
                &value(0xa0, &[b"certificates"]),
                &value(SET, &[&value(SEQUENCE, &info)]),
            ],
        );
        value(SEQUENCE, &[&value(OBJECT, &[SIGNED_DATA]), &value(0xa0, &[&signed])])
    }

    const SHA256: &[u8] = HASHES[4].0;

    #[test]
    fn the_signer_is_the_issuer_s_common_name() {
        let organisation: &[u8] = &[0x55, 0x04, 0x0a];
        let found = signer_info(&message(SHA256, &[(organisation, b"us"), (COMMON_NAME, b"a key")])).unwrap();
        assert_eq!(
            (&*found.signer, &*found.serial, &*found.hash),
            (&b"a key"[..], &[0x9a, 0xbc][..], "sha256")
        );
        assert_eq!(found.signature, [7; 300]);
        let found = signer_info(&message(&[0x2a, 0x03, 0x84, 0x00], &[(organisation, b"us")])).unwrap();
        assert_eq!((&*found.signer, &*found.hash), (&b"us"[..], "1.2.3.512"));
    }

    #[test]
    fn every_message_cut_short_says_nothing() {
        let whole = message(SHA256, &[(COMMON_NAME, b"a key")]);
        for length in 0..whole.len() {
            assert_eq!(signer_info(&whole[..length]), None, "{length}");
        }
        let mut odd = whole;
        for at in 0..odd.len() {
            odd[at] ^= 0xff;
            let _ = signer_info(&odd);
            odd[at] ^= 0xff;
        }
    }
}
