//! What the rules must know of the guest's kernel, looked up once.

use crate::address::RunAddr;
use crate::arch::arm64::words::{CPU_HWCAPS, SYSTEM_CPUCAPS};
use crate::guest::Guest;
use crate::name::Name;

/// The kernel's own entries of tracing (arch/arm64/kernel/entry-ftrace.S); the second is gone in 6.2.
const TRACERS: [&[u8]; 2] = [b"ftrace_caller", b"ftrace_regs_caller"];

/// Those of the kernel's own that trace functions (`struct ftrace_ops`), the one for several at once first.
pub(super) const OPS: [&[u8]; 8] = [
    b"ftrace_list_ops",
    b"global_ops",
    b"graph_ops",
    b"ftrace_profile_ops",
    b"trace_ops",
    b"kprobe_ftrace_ops",
    b"kprobe_ipmodify_ops",
    b"fprobe_ftrace_ops",
];

/// Landmarks of the guest's kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its bitmap of capabilities, and whether its memory has that.
    pub(super) capabilities: Option<RunAddr>,
    pub(super) has_capabilities: bool,
    /// The callback of alternatives that puts NOPs in place of the code.
    pub(super) nop_callback: Option<u64>,
    pub(super) tracers: [Option<u64>; TRACERS.len()],
    /// What functions are marked with that nobody traces: there if functions are marked at all
    /// (CONFIG_DYNAMIC_FTRACE_WITH_CALL_OPS).
    pub(super) nop_ops: Option<u64>,
    /// What those may be marked with that somebody does.
    pub(super) ops: [Option<u64>; OPS.len()],
    /// The static key that says whether return addresses go to a shadow stack instead of being signed.
    pub(super) shadow_stacks: Option<RunAddr>,
}

impl Kernel {
    pub(in crate::arch::arm64) fn read(guest: &dyn Guest) -> Kernel {
        let symbol = |name: &[u8]| guest.kernel_symbol(Name(name));
        let capabilities = [SYSTEM_CPUCAPS, CPU_HWCAPS].iter().find_map(|word| word.address(guest));
        Kernel {
            capabilities,
            has_capabilities: capabilities.is_some_and(|address| guest.bytes(address, 8).is_some()),
            nop_callback: symbol(b"alt_cb_patch_nops"),
            tracers: TRACERS.map(symbol),
            nop_ops: symbol(b"ftrace_nop_ops"),
            ops: OPS.map(symbol),
            shadow_stacks: symbol(b"dynamic_scs_enabled").map(RunAddr),
        }
    }
}
