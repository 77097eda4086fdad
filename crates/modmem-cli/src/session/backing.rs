//! Where the bytes of modelled module memory are: on the heap, up to the limit of memory. A small file may ask for any.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use modmem::space::{Backing, Fresh};

/// Hands out bytes as long as there are some.
#[derive(Clone, Debug)]
pub(crate) struct Limited {
    left: Arc<AtomicU64>,
}

impl Default for Limited {
    fn default() -> Limited {
        Limited { left: Arc::new(AtomicU64::new(modmem_linux::memory_limit())) }
    }
}

/// Bytes of one block, which count until they are dropped.
#[derive(Debug)]
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    left: Arc<AtomicU64>,
}

impl Backing for Limited {
    type Bytes = Bytes;

    fn bytes(&mut self, size: usize) -> Option<Fresh<Bytes>> {
        let take = |left: u64| left.checked_sub(size as u64);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        // Counted from here on: dropped, it is given back.
        let mut block = Bytes { bytes: Vec::new(), left: Arc::clone(&self.left) };
        if block.bytes.try_reserve_exact(size).is_err() {
            self.left.fetch_add(size as u64, Ordering::Relaxed);
            return None;
        }
        block.bytes.resize(size, 0);
        Some(Fresh { bytes: block, zeroed: true })
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Bytes {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_had_again() {
        let mut backing = Limited { left: Arc::new(AtomicU64::new(100)) };
        let first = backing.bytes(60).unwrap();
        assert!(backing.bytes(60).is_none());
        drop(first);
        assert_eq!(backing.bytes(100).unwrap().bytes.as_ref().len(), 100);
    }
}
