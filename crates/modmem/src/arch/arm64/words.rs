//! What arm64's kernels know that decides about code.

use crate::arch::words::{KernelWord, word};

pub(super) const SYSTEM_CPUCAPS: KernelWord =
    word("system_cpucaps", 64, "the capabilities of all CPUs, by which alternatives are chosen");
pub(super) const CPU_HWCAPS: KernelWord = word("cpu_hwcaps", 64, "the same before Linux 6.4");

/// All of them.
pub(super) const WORDS: &[KernelWord] = &[SYSTEM_CPUCAPS, CPU_HWCAPS];
