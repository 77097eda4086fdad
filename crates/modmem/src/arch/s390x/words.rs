//! What s390x's kernels know that decides about code.

use crate::arch::words::{KernelWord, word};

pub(super) const STFLE_FAC_LIST: KernelWord =
    word("stfle_fac_list", 128, "the machine's facilities, by which alternatives are chosen");
pub(super) const ALT_STFLE_FAC_LIST: KernelWord =
    word("alt_stfle_fac_list", 128, "those that alternatives go by, before Linux 6.12");
pub(super) const NOBP: KernelWord = word("nobp", 4, "whether branch prediction is to be left alone");
pub(super) const RELOCATE_LOWCORE: KernelWord = word("relocate_lowcore", 4, "where each CPU's lowcore lies");
pub(super) const MACHINE_FEATURES: KernelWord =
    word("machine_features", 8, "what the machine has beside its facilities, since Linux 6.14");
pub(super) const MACHINE_FLAGS: KernelWord = word("machine_flags", 8, "the same before");
pub(super) const FTRACE_PLT: KernelWord =
    word("ftrace_plt", 8, "where trampolines of function entries call, before Linux 6.4");

/// All of them.
pub(super) const WORDS: &[KernelWord] = &[
    STFLE_FAC_LIST,
    ALT_STFLE_FAC_LIST,
    NOBP,
    RELOCATE_LOWCORE,
    MACHINE_FEATURES,
    MACHINE_FLAGS,
    FTRACE_PLT,
];
