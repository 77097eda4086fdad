//! An allocator that ends the process if a signal handler comes to it, and that overwrites what is freed.
#![expect(unsafe_code, reason = "it is an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// It is constant at first and has no destructor: in an executable it is a place in the memory that each thread
    /// begins with, so that a handler can use it.
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
}

/// Does what a handler does: whatever allocates meanwhile on this thread ends the process.
pub(crate) fn as_handler(work: impl FnOnce()) {
    IN_HANDLER.set(true);
    work();
    IN_HANDLER.set(false);
}

/// What freed memory is filled with.
const FREED: u8 = 0xdd;

struct NotForHandlers;

#[global_allocator]
static ALLOCATOR: NotForHandlers = NotForHandlers;

fn refuse_handlers() {
    if IN_HANDLER.get() {
        let message = b"a signal handler allocates or frees memory\n";
        // SAFETY: the pointer and the length are those of a byte string; the call is allowed in handlers.
        unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
        std::process::abort();
    }
}

// SAFETY: it is the system's allocator, called with what this one is called with.
unsafe impl GlobalAlloc for NotForHandlers {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        refuse_handlers();
        // SAFETY: the caller keeps the same promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        refuse_handlers();
        // SAFETY: the caller keeps the same promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        refuse_handlers();
        // SAFETY: the block has that size, and the caller gives it up.
        unsafe { block.write_bytes(FREED, layout.size()) };
        // The compiler knows that nobody may read what is freed, and would leave the bytes as they are.
        let block = std::hint::black_box(block);
        // SAFETY: the caller keeps the same promises.
        unsafe { System.dealloc(block, layout) }
    }
}
