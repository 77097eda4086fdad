//! Percpu data of modules: offsets into every CPU's area, from the chunk that the kernel reserves for modules.

use super::SpaceError;
use super::free_list::FreeList;
use super::held::{HeldRange, SharedRanges};

/// The reserved percpu chunk (mm/percpu.c:pcpu_reserved_chunk): first fit, one for all CPUs.
#[derive(Clone)]
pub struct PerCpuSpace {
    shared: SharedRanges,
    start: u64,
    size: u64,
}

/// Where a module's percpu data lies; given back when dropped.
#[derive(Debug)]
pub struct PerCpuPlace {
    base: u64,
    #[expect(dead_code, reason = "holds the range until it is dropped")]
    held: Option<HeldRange>,
}

impl PerCpuPlace {
    /// A place that somebody else has decided on: a crash report, a running kernel.
    pub const fn given(base: u64) -> PerCpuPlace {
        PerCpuPlace { base, held: None }
    }

    /// Value of a symbol at the start of the data.
    pub const fn base(&self) -> u64 {
        self.base
    }
}

impl PerCpuSpace {
    /// A chunk of `size` bytes that begins at offset `start`: on x86-64 where the kernel's own percpu data ends
    /// (`__per_cpu_end`).
    pub fn new(start: u64, size: u64) -> PerCpuSpace {
        let mut free = FreeList::new();
        // One hole; without memory for it the space is empty and every allocation says so.
        let _ = size > 0 && free.release(start..start.saturating_add(size)).is_ok();
        PerCpuSpace { shared: SharedRanges::new(free), start, size }
    }

    /// Takes `size` bytes. As in Linux sizes are rounded up to 4 bytes (PCPU_MIN_ALLOC_SIZE).
    ///
    /// # Errors
    /// The chunk is full, or the alignment is no power of two, which for Linux is -ENOMEM.
    pub fn allocate(&self, size: u64, alignment: u64) -> Result<PerCpuPlace, SpaceError> {
        let error = SpaceError::NoPerCpu { size, reserve: self.size };
        let Some(rounded) = size.checked_next_multiple_of(4) else { return Err(error) };
        if !alignment.max(4).is_power_of_two() {
            return Err(error);
        }
        let range = self.start..self.start.saturating_add(self.size);
        let held = self.shared.take(rounded, alignment.max(4), range).map_err(|_| SpaceError::OutOfMemory)?;
        let held = held.ok_or(error)?;
        Ok(PerCpuPlace { base: held.range().start, held: Some(held) })
    }
}

impl core::fmt::Debug for PerCpuSpace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PerCpuSpace({:#x}, {:#x} bytes)", self.start, self.size)
    }
}
