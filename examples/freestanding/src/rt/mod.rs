//! What stands in for a runtime: the entry point, two system calls of x86-64 Linux, what to do on panic, a heap, and
//! the memory functions that compiled code calls.

mod heap;
mod mem;

use core::arch::{asm, naked_asm};
use core::fmt::{self, Write};
use core::panic::PanicInfo;

pub(crate) use heap::HEAP;

const SYS_WRITE: usize = 1;
const SYS_EXIT_GROUP: usize = 231;

const STDOUT: usize = 1;
const STDERR: usize = 2;

/// Where the system jumps to. The stack pointer is at `argc` and the frame pointer unspecified: the call that follows
/// wants the first aligned to 16 bytes, and debuggers want the second zero in the outermost frame.
///
/// # Safety
/// Nobody calls this: it is no function by any calling convention.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym start)
}

extern "C" fn start() -> ! {
    crate::main();
    exit(0)
}

/// Ends the program.
fn exit(status: u8) -> ! {
    // SAFETY: exit_group takes one number and touches no memory of ours that anybody will see again.
    unsafe { system_call(SYS_EXIT_GROUP, usize::from(status), 0, 0) };
    unreachable!("the process has ended")
}

/// Writes to a file descriptor, unbuffered.
struct Output(usize);

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // SAFETY: write reads `rest.len()` bytes at `rest` and changes none.
            let written = unsafe { system_call(SYS_WRITE, self.0, rest.as_ptr().addr(), rest.len()) };
            let written = usize::try_from(written).ok().filter(|&written| written > 0).ok_or(fmt::Error)?;
            rest = rest.get(written..).ok_or(fmt::Error)?;
        }
        Ok(())
    }
}

/// Prints a line.
pub(crate) fn print(line: fmt::Arguments<'_>) {
    // Whoever closed the output does not want to know; the exit status says how it went.
    let _ = Output(STDOUT).write_fmt(format_args!("{line}\n"));
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = Output(STDERR).write_fmt(format_args!("{info}\n"));
    exit(1)
}

// This target's `alloc` comes compiled for unwinding and names these two. A panic ends this program, so that nothing
// ever unwinds; for a target without an operating system, such as x86_64-unknown-none, they are not needed.

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    unreachable!("nothing unwinds")
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    unreachable!("nothing unwinds")
}

/// # Safety
/// What the call does with its arguments must be sound.
unsafe fn system_call(number: usize, first: usize, second: usize, third: usize) -> isize {
    let result;
    // SAFETY: the kernel keeps all registers but these three; what it does to memory is the caller's to answer for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
