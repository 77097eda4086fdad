//! Numbers in the bytes of a foreign machine.

/// Bytes with the order and the size of words of the machine that they are for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'d> {
    pub(crate) data: &'d [u8],
    pub(crate) little: bool,
    /// Bytes of a pointer.
    pub(crate) word: usize,
}

impl<'d> Bytes<'d> {
    pub(crate) fn u16(self, at: usize) -> Option<u16> {
        let bytes = *self.data.get(at..)?.first_chunk()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    pub(crate) fn u32(self, at: usize) -> Option<u32> {
        let bytes = *self.data.get(at..)?.first_chunk()?;
        Some(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    pub(crate) fn u64(self, at: usize) -> Option<u64> {
        let bytes = *self.data.get(at..)?.first_chunk()?;
        Some(if self.little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }

    /// A pointer.
    pub(crate) fn word(self, at: usize) -> Option<u64> {
        if self.word == 4 { self.u32(at).map(u64::from) } else { self.u64(at) }
    }

    /// The same machine's bytes of another place.
    pub(crate) fn with(self, data: &[u8]) -> Bytes<'_> {
        Bytes { data, little: self.little, word: self.word }
    }
}
