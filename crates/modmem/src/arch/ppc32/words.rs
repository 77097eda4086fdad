//! What 32-bit PowerPC's kernels know that decides about code.

use crate::arch::words::{KernelWord, word};

pub(super) const CUR_CPU_SPEC: KernelWord =
    word("cur_cpu_spec", 8, "where the CPU's description is, which is the next");
pub(super) const THE_CPU_SPEC: KernelWord =
    word("the_cpu_spec", 256, "the CPU's and its MMU's features, by which sections of code are chosen");

/// All of them.
pub(super) const WORDS: &[KernelWord] = &[CUR_CPU_SPEC, THE_CPU_SPEC];
