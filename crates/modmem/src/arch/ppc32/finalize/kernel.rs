//! What the rules must know of the guest's kernel, looked up once.

use crate::arch::ppc32::words::{CUR_CPU_SPEC, THE_CPU_SPEC};
use crate::guest::Guest;
use crate::name::Name;

/// The kernel's entries of tracing (arch/powerpc/kernel/trace/ftrace_entry.S), in the order in which modules get stubs
/// to them (module_32.c:module_finalize_ftrace).
const TRACERS: [&[u8]; 2] = [b"ftrace_caller", b"ftrace_regs_caller"];

/// Landmarks of the guest's kernel.
#[derive(Debug)]
pub(in crate::arch::ppc32) struct Kernel {
    /// Its own words about the CPU, where its memory has them.
    pub(super) words: Option<CpuWords>,
    pub(super) tracers: [Option<u32>; TRACERS.len()],
    /// The function that returns 0.
    pub(super) return_zero: Option<u32>,
}

impl Kernel {
    pub(in crate::arch::ppc32) fn read(guest: &dyn Guest) -> Kernel {
        let symbol = |name: &[u8]| u32::try_from(guest.kernel_symbol(Name(name))?).ok();
        Kernel {
            words: CpuWords::read(guest),
            tracers: TRACERS.map(symbol),
            return_zero: symbol(b"__static_call_return0"),
        }
    }

    pub(super) fn is_tracer(&self, target: u32) -> bool {
        self.tracers.contains(&Some(target))
    }
}

/// Features of CPU and MMU, from `*cur_cpu_spec`.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuWords {
    pub(super) cpu: u32,
    pub(super) mmu: u32,
}

impl CpuWords {
    /// Reads them from the guest, if its memory has them. `struct cpu_spec`: the processor version with its mask, the
    /// name, then `cpu_features`, two words for user space, `mmu_features` (arch/powerpc/include/asm/cputable.h).
    fn read(guest: &dyn Guest) -> Option<CpuWords> {
        const LENGTH: usize = 36;
        const NAME: usize = 2;
        const CPU: usize = 3;
        const MMU: usize = 6;
        let pointer = CUR_CPU_SPEC.bytes(guest, 4)?;
        let spec = u64::from(u32::from_be_bytes(*pointer.first_chunk()?));
        // It leads nowhere else (cputable.c:setup_cpu_spec).
        THE_CPU_SPEC.address(guest).filter(|own| own.0 == spec)?;
        let bytes = THE_CPU_SPEC.bytes(guest, LENGTH)?;
        let word = |index: usize| Some(u32::from_be_bytes(*bytes.get(index * 4..)?.first_chunk()?));
        // The mask covers the version, and cache lines are of 16 to 128 bytes: elsewhere is better nothing than nonsense.
        let (mask, version, line) = (word(0)?, word(1)?, word(7)?);
        let plausible = version & !mask == 0 && line.is_power_of_two() && (16..=128).contains(&line);
        let words = CpuWords { cpu: word(CPU)?, mmu: word(MMU)? };
        (plausible && word(NAME)? != 0).then_some(words)
    }
}
