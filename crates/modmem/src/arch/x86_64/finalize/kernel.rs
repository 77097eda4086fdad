//! What the rules must know of the guest's kernel, looked up once.

use alloc::borrow::Cow;

use super::call_thunks;
use super::features::CpuWords;
use super::insn::Code;
use super::nops::{self, Nops};
use super::paravirt::ParavirtCode;
use crate::address::RunAddr;
use crate::arch::x86_64::words::{COUNTING_CODE, PV_OPS, RETURN_THUNK, UNIPROC_PATCHED};
use crate::guest::{Guest, GuestSymbol};
use crate::name::Name;

/// What returns may jump to (arch/x86/lib/retpoline.S, by the mitigation in force).
const RETURN_THUNKS: [&[u8]; 6] = [
    b"__x86_return_thunk",
    b"retbleed_return_thunk",
    b"srso_return_thunk",
    b"srso_alias_return_thunk",
    b"call_depth_return_thunk",
    b"its_return_thunk",
];
/// Targets whose calls are never counted (arch/x86/kernel/callthunks.c:skip_addr).
const UNCOUNTED: [&[u8]; 6] = [
    b"error_entry",
    b"paranoid_entry",
    b"xen_error_entry",
    b"__switch_to_asm",
    b"ret_from_fork",
    b"__fentry__",
];
/// The kernel's own entries of tracing (arch/x86/kernel/ftrace_64.S). The last is what the tracer of function graphs has
/// for itself until 5.10 (kernel/trace/fgraph.c:graph_ops); later kernels have no such symbol.
const TRACERS: [&[u8]; 3] = [b"ftrace_caller", b"ftrace_regs_caller", b"ftrace_graph_caller"];

/// A word of 64 bits.
fn word(bytes: Cow<'_, [u8]>) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Landmarks of the guest's kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its own words about the CPU, where its memory has them.
    pub(crate) words: Option<CpuWords>,
    return_thunks: [Option<u64>; RETURN_THUNKS.len()],
    uncounted: [Option<u64>; UNCOUNTED.len()],
    tracers: [Option<u64>; TRACERS.len()],
    /// The thunk of returns that are unsafe in the lower half of a cache line.
    pub(super) its_return_thunk: Option<u64>,
    /// The return thunk in force, as the kernel's variable has it.
    pub(super) return_thunk: Option<u64>,
    /// Whether lock prefixes were taken out, as the kernel's variable has it.
    pub(super) one_cpu: Option<bool>,
    /// The array of retpolines, one a register, and those that count calls.
    pub(super) retpolines: Option<u64>,
    pub(super) counting_calls: Option<u64>,
    pub(super) counting_jumps: Option<u64>,
    /// The paravirt function that does nothing, and the one that stops the machine.
    pub(super) nop_function: Option<u64>,
    pub(super) bug_function: Option<u64>,
    pub(super) pv_ops: Option<RunAddr>,
    /// Paravirt functions that are code of their own at each site.
    pub(super) paravirt_code: ParavirtCode,
    /// The NOPs that it writes.
    pub(super) nops: &'static Nops,
    /// Functions that static calls have instructions for.
    pub(super) return_zero: Option<u64>,
    pub(super) warn: Option<u64>,
    pub(super) unlock: Option<u64>,
    pub(super) static_return: Option<u64>,
    /// Where the code that counts calls is copied from, and its bytes if they are at hand.
    count: Option<(RunAddr, Option<Code>)>,
}

impl Kernel {
    pub(crate) fn read(guest: &dyn Guest) -> Kernel {
        let symbol = |name: &[u8]| guest.kernel_symbol(Name(name));
        let count = symbol(b"skl_call_thunk_template").zip(symbol(b"skl_call_thunk_tail"));
        let words = CpuWords::read(guest);
        let count = count.filter(|(start, end)| (1..=32).contains(&end.wrapping_sub(*start)));
        Kernel {
            words,
            return_thunks: RETURN_THUNKS.map(symbol),
            uncounted: UNCOUNTED.map(symbol),
            tracers: TRACERS.map(symbol),
            its_return_thunk: symbol(b"its_return_thunk"),
            return_thunk: RETURN_THUNK.bytes(guest, 8).and_then(word),
            one_cpu: UNIPROC_PATCHED.bytes(guest, 1).map(|bytes| *bytes != [0]),
            retpolines: symbol(b"__x86_indirect_thunk_array"),
            counting_calls: symbol(b"__x86_indirect_call_thunk_array"),
            counting_jumps: symbol(b"__x86_indirect_jump_thunk_array"),
            // Its name in 6.4 and later, and before.
            nop_function: symbol(b"nop_func").or_else(|| symbol(b"_paravirt_nop")),
            bug_function: symbol(b"BUG_func").or_else(|| symbol(b"paravirt_BUG")),
            pv_ops: PV_OPS.address(guest),
            paravirt_code: ParavirtCode::read(guest),
            // Only kernels that choose them have the variable.
            nops: match symbol(b"ideal_nops").and(words) {
                Some(words) => words.ideal_nops(),
                None => &nops::P6,
            },
            return_zero: symbol(b"__static_call_return0"),
            warn: symbol(b"__WARN_trap"),
            unlock: symbol(b"__raw_callee_save___native_queued_spin_unlock"),
            static_return: symbol(b"__static_call_return"),
            count: count.map(|(start, end)| {
                let bytes = COUNTING_CODE.bytes(guest, (end - start) as usize);
                // What does not count calls is not copied because a variable says so.
                let bytes = bytes.filter(|bytes| call_thunks::counts(bytes));
                (RunAddr(start), bytes.map(|bytes| Code::of(&bytes)))
            }),
        }
    }

    /// Whether the kernel could have chosen that address for returns to jump to.
    pub(super) fn may_be_return_thunk(&self, guest: &dyn Guest, target: u64) -> bool {
        // One of a mitigation that is younger than this list has such a name too.
        let is_named = |symbol: &GuestSymbol<'_>| {
            symbol.offset == 0 && symbol.module.is_none() && symbol.name.ends_with("return_thunk")
        };
        self.is_return_thunk(target) || guest.symbol_at(RunAddr(target)).is_some_and(|at| is_named(&at))
    }

    pub(super) fn is_return_thunk(&self, target: u64) -> bool {
        self.return_thunks.contains(&Some(target))
    }

    pub(super) fn is_uncounted(&self, target: u64) -> bool {
        self.uncounted.contains(&Some(target))
    }

    /// The entries of tracing.
    pub(super) fn tracers(&self) -> impl Iterator<Item = u64> + use<> {
        self.tracers.into_iter().flatten()
    }

    pub(super) fn is_tracer(&self, target: u64) -> bool {
        self.tracers.contains(&Some(target))
    }

    /// The code that counts calls, where its bytes are at hand, and where they stand.
    pub(super) fn counting_code(&self) -> Option<(RunAddr, Code)> {
        let (address, code) = self.count.as_ref()?;
        Some((*address, (*code)?))
    }
}
