//! What the rules must know of the guest's kernel, looked up once.

use crate::arch::s390x::words::{
    ALT_STFLE_FAC_LIST, FTRACE_PLT, MACHINE_FEATURES, MACHINE_FLAGS, NOBP, RELOCATE_LOWCORE, STFLE_FAC_LIST,
};
use crate::arch::words::KernelWord;
use crate::guest::Guest;
use crate::name::Name;
use crate::profile::Profile;

/// The kernel's own entries of tracing (arch/s390/kernel/mcount.S).
const TRACERS: [&[u8]; 2] = [b"ftrace_caller", b"ftrace_regs_caller"];
/// Where the kernel keeps the CPU's facilities: the list that alternatives go by (before 6.11 one of their own).
const FACILITIES: [KernelWord; 2] = [ALT_STFLE_FAC_LIST, STFLE_FAC_LIST];
/// Bytes of such a list (MAX_FACILITY_BIT).
const FACILITY_BYTES: usize = 128;
/// The facility "z/Architecture is active", without which Linux does not run.
const ACTIVE: u32 = 2;

/// Landmarks of the guest's kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The CPU's facilities, where the kernel's memory has them.
    pub(super) facilities: Option<Facilities>,
    tracers: [Option<u64>; TRACERS.len()],
    /// Where trampolines of function entries call, as far as is known.
    pub(super) shared_trampoline: Option<u64>,
    /// Whether that is a copy in a page of its own, at an address that no list has: before 6.4, where the kernel lists
    /// functions alone.
    pub(super) copies_trampoline: bool,
    /// Whether expolines are turned back into branches: the kernel can make some, and has them switched off.
    pub(super) reverts_expolines: bool,
    /// Whether branch prediction is limited, as far as the kernel's variable tells (`nobp`).
    pub(super) nobp: Option<bool>,
    /// Whether the lowcore lies elsewhere than at address 0.
    pub(super) relocated_lowcore: Option<bool>,
    /// Features of the machine (6.14 and later), by number.
    pub(super) machine_features: Option<u64>,
    /// Whether functions are traced without trampolines, as the CPU fetches instructions one after the other.
    pub(super) sequential: Option<bool>,
    /// Whether variables are cleared, so that bytes that nobody writes are zero.
    pub(super) clears_stack: bool,
}

/// A list as STFLE stores it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facilities([u8; FACILITY_BYTES]);

impl Facilities {
    fn read(guest: &dyn Guest) -> Option<Facilities> {
        let list = FACILITIES.iter().find(|word| word.address(guest).is_some())?;
        let list = Facilities(*list.bytes(guest, FACILITY_BYTES)?.first_chunk()?);
        // Not what we think it is: better nothing than nonsense.
        list.has(ACTIVE).then_some(list)
    }

    /// Bits are counted from the left (arch/s390/include/asm/facility.h:__test_facility).
    pub(super) fn has(&self, number: u32) -> bool {
        self.0.get((number >> 3) as usize).is_some_and(|byte| byte << (number & 7) & 0x80 != 0)
    }
}

impl Kernel {
    pub(crate) fn read(guest: &dyn Guest, profile: &Profile) -> Kernel {
        /// MACHINE_FLAG_SEQ_INSN
        const SEQUENTIAL: u64 = 1 << 20;
        /// The facility of the same name.
        const SEQUENTIAL_FACILITY: u32 = 85;
        let symbol = |name: &[u8]| guest.kernel_symbol(Name(name));
        let word = |word: KernelWord| Some(u64::from_be_bytes(*word.bytes(guest, 8)?.first_chunk()?));
        let is_set = |word: KernelWord| word.bytes(guest, 4).map(|bytes| *bytes != [0; 4]);
        let facilities = Facilities::read(guest);
        let expolines = profile.machine_state.expolines;
        let has = |facility| facilities.map(|list| list.has(facility));
        let machine_features = word(MACHINE_FEATURES);
        let shared: &[u8] = match expolines {
            true => b"ftrace_shared_hotpatch_trampoline_exrl",
            false => b"ftrace_shared_hotpatch_trampoline_br",
        };
        Kernel {
            facilities,
            tracers: TRACERS.map(symbol),
            // Before 6.4 a copy of it, in a page of its own (arch/s390/kernel/ftrace.c:ftrace_plt_init).
            shared_trampoline: match (symbol(b"ftrace_plt"), symbol(b"ftrace_plt_init")) {
                (Some(_), _) => word(FTRACE_PLT),
                (None, Some(_)) => None,
                (None, None) => symbol(shared),
            },
            copies_trampoline: symbol(b"ftrace_plt").is_none() && symbol(b"ftrace_plt_init").is_some(),
            reverts_expolines: symbol(b"nospec_disable").is_some() && !expolines,
            nobp: is_set(NOBP),
            relocated_lowcore: is_set(RELOCATE_LOWCORE),
            machine_features,
            sequential: match (word(MACHINE_FLAGS), has(SEQUENTIAL_FACILITY)) {
                (Some(flags), _) => Some(flags & SEQUENTIAL != 0),
                // Older kernels make nothing of the facility.
                (None, Some(true)) if symbol(b"machine_features").is_none() => None,
                (None, has) => has,
            },
            clears_stack: profile.switches.init_stack_zero,
        }
    }

    /// The entries of tracing.
    pub(super) fn tracers(&self) -> impl Iterator<Item = u64> + use<> {
        self.tracers.into_iter().flatten()
    }

    pub(super) fn is_tracer(&self, target: u64) -> bool {
        self.tracers.contains(&Some(target))
    }

    /// The function that trampolines call unless something else was asked for.
    pub(super) fn tracer(&self) -> Option<u64> {
        self.tracers[0]
    }
}
