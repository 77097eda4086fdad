//! Where the bytes of modelled blocks are kept.

use alloc::vec::Vec;

/// Keeps the bytes of an [`AddressSpace`](super::AddressSpace)'s blocks.
pub trait Backing {
    /// The bytes of one block, freed when dropped.
    type Bytes: AsRef<[u8]> + AsMut<[u8]>;

    /// Bytes for a block; their contents are unspecified.
    fn bytes(&mut self, size: usize) -> Option<Self::Bytes>;
}

/// Keeps each block in a vector of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapBacking;

impl Backing for HeapBacking {
    type Bytes = Vec<u8>;

    fn bytes(&mut self, size: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).ok()?;
        bytes.resize(size, 0);
        Some(bytes)
    }
}
