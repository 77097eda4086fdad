//! Where the bytes of modelled blocks are kept.

use alloc::vec::Vec;

/// Keeps the bytes of an [`AddressSpace`](super::AddressSpace)'s blocks.
pub trait Backing {
    /// The bytes of one block, freed when dropped.
    type Bytes: AsRef<[u8]> + AsMut<[u8]>;

    /// Bytes for a block; `None` if there are none left.
    fn bytes(&mut self, size: usize) -> Option<Fresh<Self::Bytes>>;
}

/// Bytes that nobody has written to since they were handed out.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<T> {
    /// The bytes.
    pub bytes: T,
    /// Whether they are all known to be zero; otherwise they may be anything.
    pub zeroed: bool,
}

/// Keeps each block in a vector of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapBacking;

impl Backing for HeapBacking {
    type Bytes = Vec<u8>;

    fn bytes(&mut self, size: usize) -> Option<Fresh<Vec<u8>>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).ok()?;
        bytes.resize(size, 0);
        Some(Fresh { bytes, zeroed: true })
    }
}
