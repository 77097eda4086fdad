//! What x86-64's kernels know that decides about code.

use crate::arch::words::{KernelWord, word};

pub(super) const BOOT_CPU_DATA: KernelWord =
    word("boot_cpu_data", 4096, "the CPU's features, by which alternatives are chosen");
pub(super) const PV_OPS: KernelWord = word("pv_ops", 1024, "where paravirtual calls go");
pub(super) const RETURN_THUNK: KernelWord = word("x86_return_thunk", 8, "what returns become");
pub(super) const COUNTING_CODE: KernelWord = word("skl_call_thunk_template", 64, "what counts calls");
pub(super) const UNIPROC_PATCHED: KernelWord =
    word("uniproc_patched", 1, "whether lock prefixes were taken out");

/// All of them.
pub(super) const WORDS: &[KernelWord] =
    &[BOOT_CPU_DATA, PV_OPS, RETURN_THUNK, COUNTING_CODE, UNIPROC_PATCHED];
