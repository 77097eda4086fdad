//! What a kernel's memory holds before it runs.

use super::{Form, KernelImage, elf, flat};
use crate::Error;

/// A kernel's memory as its image has it, at the addresses where it was linked.
#[derive(Debug, Default)]
pub struct KernelMemory {
    pub(super) segments: Vec<Segment>,
}

/// Bytes at an address, and zeros behind them.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) size: u64,
}

impl KernelMemory {
    /// Copies the bytes at `address`; `false` if the image does not have them all.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let Some(segment) = self.segments.iter().find(|segment| segment.has(address, buffer.len())) else {
            return false;
        };
        let offset = usize::try_from(address - segment.address).unwrap_or(usize::MAX);
        let held = segment.bytes.get(offset..).unwrap_or_default();
        let held = &held[..held.len().min(buffer.len())];
        buffer[..held.len()].copy_from_slice(held);
        buffer[held.len()..].fill(0);
        true
    }

    /// Puts bytes at `address`; `false` if the kernel has no memory there, which then is as it was.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.has(address, bytes.len())) else {
            return false;
        };
        let offset = usize::try_from(address - segment.address).unwrap_or(usize::MAX);
        let end = offset.saturating_add(bytes.len());
        if segment.bytes.len() < end {
            segment.bytes.resize(end, 0);
        }
        segment.bytes[offset..end].copy_from_slice(bytes);
        true
    }
}

impl Segment {
    fn has(&self, address: u64, length: usize) -> bool {
        let offset = address.checked_sub(self.address);
        offset.and_then(|offset| offset.checked_add(length as u64)).is_some_and(|end| end <= self.size)
    }
}

impl KernelImage {
    /// What the kernel's memory holds before it runs, where it was linked.
    ///
    /// # Errors
    /// The image is damaged, or nothing tells where its bytes go.
    pub fn memory(&self) -> Result<KernelMemory, Error> {
        let mut memory = match &self.form {
            Form::Elf(elf) => elf::memory(&self.file, elf)?,
            Form::Flat(flat) => flat::memory(&self.file, flat)?,
        };
        for segment in &mut memory.segments {
            segment.address = segment.address.wrapping_add(self.moved);
        }
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_bytes_of_a_segment_are_zeros_that_can_be_written_and_behind_that_is_nothing() {
        let segment = Segment { address: 0x1000, bytes: vec![1, 2, 3], size: 6 };
        let mut memory = KernelMemory { segments: vec![segment] };
        let mut buffer = [0xff; 4];
        assert!(memory.read(0x1001, &mut buffer));
        assert_eq!(buffer, [2, 3, 0, 0]);
        assert!(!memory.read(0x1003, &mut buffer));
        assert!(!memory.read(0xfff, &mut buffer));
        assert!(!memory.read(u64::MAX, &mut buffer));
        assert!(memory.write(0x1004, &[7, 8]) && !memory.write(0x1005, &[9, 9]));
        assert!(memory.read(0x1002, &mut buffer));
        assert_eq!(buffer, [3, 0, 7, 8]);
    }
}
