//! How large an xz stream will be once unpacked, from the index at its end: for progress, nothing depends on it.

/// The unpacked size of the last stream in a file that ends with `tail`. `None` if the index is not all in there.
pub(crate) fn unpacked_size(tail: &[u8]) -> Option<u64> {
    let (before, footer) = tail.split_last_chunk::<12>()?;
    let [_, _, _, _, s0, s1, s2, s3, _, _, b'Y', b'Z'] = *footer else {
        return None;
    };
    let index_size = (u32::from_le_bytes([s0, s1, s2, s3]) as usize).checked_add(1)?.checked_mul(4)?;
    let mut index = before.get(before.len().checked_sub(index_size)?..)?;
    let (&0, rest) = index.split_first()? else {
        return None;
    };
    index = rest;
    let records = number(&mut index)?;
    let mut total: u64 = 0;
    for _ in 0..records {
        number(&mut index)?;
        total = total.checked_add(number(&mut index)?)?;
    }
    Some(total)
}

/// A multibyte integer of the xz format: seven bits a byte, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_index_tells_the_unpacked_size() {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(&[7; 123_456]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(unpacked_size(&packed), Some(123_456));
        for length in 0..packed.len() {
            unpacked_size(&packed[..length]);
        }
    }
}
