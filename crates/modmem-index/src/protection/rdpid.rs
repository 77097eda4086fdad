//! The processor's number from the RDPID instruction of x86-64.
#![expect(unsafe_code, reason = "CPUID and RDPID are instructions without a safe name")]

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

use super::CpuNumber;

/// Asks the processor for the number that the operating system gave it. Linux does; what another system keeps there
/// is as good a hint if it differs from processor to processor.
///
/// # Examples
/// ```
/// use modmem_index::protection::{Counters, Protection, Rdpid};
///
/// if let Some(rdpid) = Rdpid::new() {
///     let counters = Counters::<Rdpid, 64>::striped(rdpid).with_relax(std::thread::yield_now);
///     drop(counters.enter());
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rdpid {
    /// Only [`Rdpid::new`] makes one, where the instruction exists.
    _exists: (),
}

impl Rdpid {
    /// `None` if this processor does not have the instruction.
    #[allow(unused_unsafe, reason = "newer versions of Rust have CPUID as a safe function")]
    pub fn new() -> Option<Rdpid> {
        // SAFETY: every x86-64 processor has CPUID.
        let leaves = unsafe { __cpuid(0) }.eax;
        if leaves < 7 {
            return None;
        }
        // SAFETY: as above.
        let features = unsafe { __cpuid_count(7, 0) };
        (features.ecx & 1 << 22 != 0).then_some(Rdpid { _exists: () })
    }
}

impl CpuNumber for Rdpid {
    #[inline]
    fn current(&self) -> usize {
        let number: u64;
        // SAFETY: the instruction exists, since a Rdpid does; it writes this register and nothing else.
        unsafe { asm!("rdpid {}", out(reg) number, options(nomem, nostack, preserves_flags)) };
        // Linux keeps the node above the processor's twelve bits.
        (number & 0xfff) as usize
    }
}
