//! The functions that compiled Rust calls for copies, fills and comparisons, which the C library has otherwise.
//!
//! They are string instructions, because a loop written in Rust may be recognised for what it is and compiled into a
//! call of the very function that it is in.

use core::arch::asm;
use core::ffi::{c_char, c_int};

/// # Safety
/// As C says: `count` bytes are readable at `from` and writable at `to`, and the two do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: reads and writes what the caller vouches for, upwards, as the calling convention has the direction flag.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") count => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
/// As C says: `count` bytes are readable at `from` and writable at `to`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= count {
        // SAFETY: `to` does not start within `from`, so that a copy upwards reads each byte before it is overwritten.
        return unsafe { memcpy(to, from, count) };
    }
    // SAFETY: downwards, from the last bytes on, for the same reason; the direction flag is put back. `count` is not 0
    // here, or the difference would not be smaller.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rcx") count => _,
            inout("rdi") to.wrapping_add(count - 1) => _,
            inout("rsi") from.wrapping_add(count - 1) => _,
            options(nostack),
        );
    }
    to
}

/// # Safety
/// As C says: `count` bytes are writable at `to`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: c_int, count: usize) -> *mut u8 {
    // SAFETY: writes what the caller vouches for.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") count => _,
            inout("rdi") to => _,
            in("al") value as u8,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
/// As C says: `count` bytes are readable at both.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> c_int {
    let order;
    // SAFETY: reads what the caller vouches for. The flags are those of the last pair that was compared; without any,
    // those of the xor, which say equal. Above makes 1, below 0 - 1, equal 0.
    unsafe {
        asm!(
            "xor eax, eax",
            "repe cmpsb",
            "seta al",
            "sbb eax, 0",
            out("eax") order,
            inout("rcx") count => _,
            inout("rsi") left => _,
            inout("rdi") right => _,
            options(nostack, readonly),
        );
    }
    order
}

/// # Safety
/// As C says: `count` bytes are readable at both.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> c_int {
    // SAFETY: asks the same of the caller.
    unsafe { memcmp(left, right, count) }
}

/// # Safety
/// As C says: `text` ends with a NUL.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    let left: usize;
    // SAFETY: reads up to the NUL that the caller vouches for.
    unsafe {
        asm!(
            "repne scasb",
            inout("rcx") usize::MAX => left,
            inout("rdi") text => _,
            in("al") 0_u8,
            options(nostack, readonly),
        );
    }
    // It has counted the NUL as well: down from -1, to -1 - (length + 1).
    usize::MAX - left - 1
}
