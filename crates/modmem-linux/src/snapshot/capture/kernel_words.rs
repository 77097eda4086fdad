//! Which of the kernel's own words decide, on each machine, how the code of modules was patched.

/// A word of the kernel: a variable whose contents belong into a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelWord {
    /// The variable.
    pub symbol: &'static str,
    /// The most bytes of it that are wanted: up to the next symbol, if that is nearer.
    pub most: u64,
    /// What it decides.
    pub decides: &'static str,
}

const fn word(symbol: &'static str, most: u64, decides: &'static str) -> KernelWord {
    KernelWord { symbol, most, decides }
}

const X86: [KernelWord; 9] = [
    word("boot_cpu_data", 4096, "the CPU's features, by which alternatives are chosen"),
    word("pv_ops", 1024, "where paravirtual calls go"),
    word("x86_return_thunk", 8, "what returns become"),
    word("skl_call_thunk_template", 64, "what counts calls"),
    word("ftrace_trace_function", 8, "whether functions are traced"),
    word("ftrace_graph_entry", 8, "whether their returns are traced"),
    word("uniproc_patched", 1, "whether lock prefixes were taken out"),
    word("cfi_mode", 8, "how indirect calls are checked"),
    word("cfi_seed", 8, "what the hashes before functions were changed with"),
];

const ARM64: [KernelWord; 4] = [
    word("system_cpucaps", 64, "the capabilities of all CPUs, by which alternatives are chosen"),
    word("boot_cpucaps", 64, "those of the first CPU, which are patched in before"),
    word("ftrace_trace_function", 8, "whether functions are traced"),
    word("ftrace_graph_entry", 8, "whether their returns are traced"),
];

const S390: [KernelWord; 9] = [
    word("stfle_fac_list", 128, "the machine's facilities, by which alternatives are chosen"),
    word("alt_stfle_fac_list", 128, "those that alternatives go by, before Linux 6.12"),
    word("nobp", 4, "whether branch prediction is to be left alone"),
    word("nospec_disable", 4, "whether expolines were taken out"),
    word("relocate_lowcore", 4, "where each CPU's lowcore lies"),
    word("machine_features", 8, "what the machine has beside its facilities, since Linux 6.14"),
    word("machine_flags", 8, "the same before"),
    word("ftrace_trace_function", 8, "whether functions are traced"),
    word("ftrace_graph_entry", 8, "whether their returns are traced"),
];

const POWERPC: [KernelWord; 7] = [
    word("cur_cpu_spec", 8, "where the CPU's description is, which is the next"),
    word("the_cpu_spec", 256, "the CPU's and its MMU's features, by which sections of code are chosen"),
    word("powerpc_firmware_features", 8, "the firmware's features, which decide as those of the CPU do"),
    word("barrier_nospec_enabled", 1, "whether speculation barriers are there"),
    word("btb_flush_enabled", 1, "whether branch predictors are flushed"),
    word("ftrace_trace_function", 8, "whether functions are traced"),
    word("ftrace_graph_entry", 8, "whether their returns are traced"),
];

const RISCV: [KernelWord; 3] = [
    word("riscv_isa", 128, "the extensions of all harts, by which alternatives are chosen"),
    word("ftrace_trace_function", 8, "whether functions are traced"),
    word("ftrace_graph_entry", 8, "whether their returns are traced"),
];

const OTHERS: [KernelWord; 1] = [word("ftrace_trace_function", 8, "whether functions are traced")];

/// The words of a machine's kernels; `machine` is as `uname -m` has it. Those that a kernel does not have are passed over.
pub fn kernel_words(machine: &str) -> &'static [KernelWord] {
    match machine {
        "x86_64" | "i386" | "i486" | "i586" | "i686" | "" => &X86,
        "aarch64" | "aarch64_be" => &ARM64,
        "s390x" => &S390,
        "ppc" | "ppc64" | "ppc64le" => &POWERPC,
        "riscv32" | "riscv64" => &RISCV,
        _ => &OTHERS,
    }
}
