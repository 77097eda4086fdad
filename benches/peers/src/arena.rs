//! The memory that every contender loads into.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The unit of protection, to which blocks are rounded.
pub(crate) const PAGE: usize = 4096;

/// Where the arena is mapped: the loaders that relocate for the address they write to need all of it, and the
/// names they refer to, in the low 2 GiB, or `R_X86_64_32S` does not fit.
const HOST_BASE: usize = 0x1000_0000;

/// Tells the C library to keep what is freed: what contenders allocate beside the arena is the system's only in the
/// round that warms up.
pub(crate) fn keep_freed_memory() {
    for option in [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD] {
        // SAFETY: sets a number, before there is a second thread.
        unsafe { libc::mallopt(option, libc::c_int::MAX) };
    }
}

/// One mapped, touched region. Before each load it is all zero and all free, so that no contender pays for page
/// faults, system calls or clearing, and each is free to hand out its memory in any shape.
#[derive(Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    len: usize,
    bump: Bump,
}

impl Arena {
    /// Maps and touches `len` bytes.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let hint = std::ptr::without_provenance_mut(HOST_BASE);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: an anonymous mapping that replaces nothing; the result is checked below.
        let mapped = unsafe { libc::mmap(hint, len, protection, flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(mapped.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let start = base.as_ptr().expose_provenance();
        let bump = Bump::default();
        bump.set(start, start + len);
        Ok(Self { base, len, bump })
    }

    /// Frees and clears what the last load used.
    pub(crate) fn reset(&mut self) {
        let used = self.used();
        let start = self.host_address();
        self.bytes_mut()[..used].fill(0);
        self.bump.set(start, start + self.len);
    }

    /// The address of the first byte in this process.
    pub(crate) fn host_address(&self) -> usize {
        self.base.as_ptr().addr()
    }

    /// How many bytes, from the first on, were handed out.
    pub(crate) fn used(&self) -> usize {
        self.bump.next() - self.host_address()
    }

    /// Takes whole pages; the offset of the first byte.
    pub(crate) fn take(&self, size: usize) -> Option<usize> {
        Some(self.bump.take(size)? - self.host_address())
    }

    /// The allocator, for contenders that write through addresses.
    pub(crate) fn bump(&self) -> &Bump {
        &self.bump
    }

    /// All bytes, used or not.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is `len` bytes, initialised by the system, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// All bytes, used or not.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; contenders that write through addresses do so only inside `load_all`, which
        // borrows the arena exclusively and keeps no slice of it.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made; nothing borrows it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Hands out whole pages, upwards. Shared because the peers' memory interfaces take `&self` or nothing at all, and
/// because several threads may take at a time.
#[derive(Debug, Default)]
pub(crate) struct Bump {
    next: AtomicUsize,
    end: AtomicUsize,
}

impl Bump {
    /// Nothing to hand out yet.
    pub(crate) const fn empty() -> Self {
        Self { next: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }

    fn set(&self, next: usize, end: usize) {
        self.next.store(next, Relaxed);
        self.end.store(end, Relaxed);
    }

    /// Continues where `other` is.
    pub(crate) fn follow(&self, other: &Bump) {
        self.set(other.next.load(Relaxed), other.end.load(Relaxed));
    }

    /// The address that the next block gets.
    pub(crate) fn next(&self) -> usize {
        self.next.load(Relaxed)
    }

    /// The address of `size` bytes, rounded up to pages.
    pub(crate) fn take(&self, size: usize) -> Option<usize> {
        let (size, end) = (size.checked_next_multiple_of(PAGE)?, self.end.load(Relaxed));
        // Which block is whose is all that counts: what is in it reaches others by locks and joins.
        let after = |start: usize| start.checked_add(size).filter(|next| *next <= end);
        self.next.fetch_update(Relaxed, Relaxed, after).ok()
    }
}
