//! A heap in a static: blocks are powers of two, and each size has a list of blocks that were freed.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::{Cell, UnsafeCell};
use core::ptr::{self, NonNull};

const SIZE: usize = 1 << 20;
const SMALLEST: usize = size_of::<Free>();
const LARGEST_ALIGNMENT: usize = 4096;
const SIZES: usize = (SIZE / SMALLEST).trailing_zeros() as usize + 1;

#[global_allocator]
pub(crate) static HEAP: Heap = Heap {
    memory: UnsafeCell::new(Bytes([0; SIZE])),
    unused: Cell::new(0),
    freed: [const { Cell::new(None) }; SIZES],
    taken: Cell::new(0),
    allowed: Cell::new(usize::MAX),
};

#[repr(C, align(4096))]
struct Bytes([u8; SIZE]);

/// What a freed block holds.
#[repr(C, align(16))]
struct Free {
    next: Option<NonNull<Free>>,
}

pub(crate) struct Heap {
    memory: UnsafeCell<Bytes>,
    /// Where the bytes begin that never were in a block.
    unused: Cell<usize>,
    freed: [Cell<Option<NonNull<Free>>>; SIZES],
    /// Blocks that are not free.
    taken: Cell<usize>,
    allowed: Cell<usize>,
}

// SAFETY: the program has one thread, and no signal handler.
unsafe impl Sync for Heap {}

impl Heap {
    /// How many blocks are in use.
    pub(crate) fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Has no memory left after so many more allocations: for tests of who must live with that.
    pub(crate) fn allow(&self, allocations: usize) {
        self.allowed.set(allocations);
    }

    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        let allowed = self.allowed.get().checked_sub(1)?;
        let list = list_of(layout)?;
        let freed = self.freed.get(list)?;
        let block = match freed.get() {
            Some(block) => {
                // SAFETY: what is in a list was freed, holds a `Free`, and is nobody else's.
                freed.set(unsafe { block.read() }.next);
                block.cast()
            }
            None => self.cut(SMALLEST << list)?,
        };
        self.allowed.set(allowed);
        self.taken.set(self.taken.get() + 1);
        Some(block)
    }

    /// Takes a block off the bytes that never were in one, aligned to its size as far as anybody asks for.
    fn cut(&self, size: usize) -> Option<NonNull<u8>> {
        let start = self.unused.get().checked_next_multiple_of(size.min(LARGEST_ALIGNMENT))?;
        let end = start.checked_add(size).filter(|&end| end <= SIZE)?;
        self.unused.set(end);
        NonNull::new(self.memory.get().cast::<u8>().wrapping_add(start))
    }
}

/// The list of the smallest blocks that are large enough and, as they are aligned to their size, aligned enough.
fn list_of(layout: Layout) -> Option<usize> {
    if layout.align() > LARGEST_ALIGNMENT {
        return None;
    }
    let size = layout.size().max(layout.align()).max(SMALLEST).checked_next_power_of_two()?;
    Some((size / SMALLEST).trailing_zeros() as usize)
}

// SAFETY: a block is in a list or in use and never both, was cut from bytes that no other block has, and is as large
// and as aligned as its list says.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let (Some(list), Some(block)) = (list_of(layout), NonNull::new(block.cast::<Free>())) else { return };
        let Some(freed) = self.freed.get(list) else { return };
        // SAFETY: the caller gives up a block that came from `alloc` with this layout: of at least the size and
        // alignment of `Free`.
        unsafe { block.write(Free { next: freed.get() }) };
        freed.set(Some(block));
        self.taken.set(self.taken.get() - 1);
    }
}
