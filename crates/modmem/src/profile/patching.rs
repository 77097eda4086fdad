//! What kernels of different versions do to code and tables after relocation.

use super::KernelVersion;
use crate::arch::{Architecture, Machine, with_machine};

/// How alternatives are applied (arch/x86/kernel/alternative.c:apply_alternatives).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlternativeStyle {
    /// One entry after the other, in place; only a lone call or jump is moved.
    InPlace,
    /// One entry after the other; all relative operands are moved; entries for one place get one length.
    Sequential,
    /// Of the entries for one place only the last that applies.
    LastWins,
}

/// When calls are changed that are counted (arch/x86/kernel/callthunks.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedCalls {
    /// The kernel counts none.
    None,
    /// When alternatives have been applied, where these are too.
    AfterAlternatives,
    /// Before, in what alternatives put in place too.
    BeforeAlternatives,
}

/// Which NOPs are joined to longer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NopStyle {
    /// Runs of single bytes, to NOPs of at most eight.
    SingleBytes,
    /// Any, to one NOP of at most eleven bytes or a jump over the run.
    AllNops,
    /// The same, and what does nothing in other ways counts as one: a move of a register to itself, an address that is
    /// a register as it is, a jump to the next instruction.
    Idle,
}

/// How an indirect call is filled up to the length of the call of a retpoline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndirectPadding {
    /// With NOPs behind it.
    NopsAlone,
    /// With NOPs behind it, a breakpoint first where it jumps.
    Nops,
    /// With prefixes before a call, and breakpoints behind a jump.
    Prefixes,
}

/// Steps of the kernel's sort that decide the order of equal elements (lib/sort.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortStyle {
    /// One element leaves the heap at a time.
    OneByOne,
    /// The two largest leave it at a time.
    TwoLargest,
}

/// Which unwind entries end what is known (arch/x86/include/asm/orc_types.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrcStyle {
    /// Those without a stack pointer and without the end bit.
    EndBit,
    /// Those of the type "undefined".
    Undefined,
}

/// What an alternative of s390x says that decides it (arch/s390/include/asm/alternative.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S390Alternatives {
    /// A facility of the CPU.
    Facility,
    /// One of several types: a facility, limited branch prediction, the lowcore.
    Typed,
    /// One of several types, with features of the machine among them.
    Features,
}

/// The behaviour of a version where it patches code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patching {
    /// Alternatives.
    pub alternatives: AlternativeStyle,
    /// Whether entries of alternatives have flags of their own, beside the number of the feature: from 6.3 on
    /// (5d1dd961e743).
    pub alternative_flags: bool,
    /// Calls whose depth is counted.
    pub counted_calls: CountedCalls,
    /// NOPs.
    pub nops: NopStyle,
    /// Indirect calls without retpolines.
    pub indirect_padding: IndirectPadding,
    /// Order of equal entries of sorted tables.
    pub sort: SortStyle,
    /// Unwind tables.
    pub orc: OrcStyle,
    /// Number of X86_FEATURE_INDIRECT_THUNK_ITS, which stable kernels have too, each with its own.
    pub its_feature: u16,
    /// What stands in place of a sealed ENDBR.
    pub endbr_poison: [u8; 4],
    /// Whether static calls of the kernel's own unlocking of a spinlock have an instruction instead: from 7.3 on.
    pub unlock_inlined: bool,
    /// Whether lock prefixes are changed in the section `.text` only, and not in all of the memory.
    pub locks_in_text_section_only: bool,
    /// How many entries of tracing modules of arm64 have trampolines to: before 6.2 one more, for all registers.
    pub arm64_trampolines: u8,
    /// Alternatives on s390x.
    pub s390_alternatives: S390Alternatives,
    /// Whether entries of exception tables name their handlers by a third distance, and not by a type: until 5.17
    /// (46d28947d987). arm64 had neither (d6e2cc564775).
    pub exception_handlers: bool,
    /// Whether s390x has its stack protector's canary in the lowcore, and changes code to load it from there: from 6.19
    /// on (f5730d44e05e).
    pub s390_stack_protector: bool,
    /// Bytes of `struct bug_entry` with relative pointers: on some machines with a format, from some version on.
    pub bug_entry: u64,
}

impl Patching {
    /// Each version is the first that has the change.
    pub(super) fn of(machine: Machine, version: KernelVersion) -> Patching {
        let before = |major, minor| version < KernelVersion::new(major, minor);
        Patching {
            alternatives: match () {
                // 270a69c4485d moves all operands.
                () if before(6, 5) => AlternativeStyle::InPlace,
                () if before(6, 19) => AlternativeStyle::Sequential,
                () => AlternativeStyle::LastWins,
            },
            alternative_flags: !before(6, 3),
            counted_calls: match () {
                () if before(6, 2) => CountedCalls::None,
                // ab9fea59487d.
                () if before(6, 15) => CountedCalls::AfterAlternatives,
                () => CountedCalls::BeforeAlternatives,
            },
            nops: match () {
                // 6c480f222128; arch/x86/lib/insn-eval.c:insn_is_nop.
                () if before(6, 5) => NopStyle::SingleBytes,
                () if before(6, 19) => NopStyle::AllNops,
                () => NopStyle::Idle,
            },
            // arch/x86/kernel/alternative.c:emit_indirect is told how much room there is.
            indirect_padding: match () {
                // 8c03af3e090e.
                () if before(6, 1) => IndirectPadding::NopsAlone,
                () if before(6, 18) => IndirectPadding::Nops,
                () => IndirectPadding::Prefixes,
            },
            // 0e02ca29a563.
            sort: if before(6, 9) { SortStyle::OneByOne } else { SortStyle::TwoLargest },
            // 6.4 describes entries by types (fb799447ae29).
            orc: if before(6, 4) { OrcStyle::EndBit } else { OrcStyle::Undefined },
            // The stable kernels got the mitigation when 6.15 did, each with the first number that it had to spare.
            its_feature: match () {
                () if before(5, 11) => 11 * 32 + 9,
                () if before(6, 4) => 21 * 32 + 5,
                () if before(6, 15) => 21 * 32 + 6,
                () => 21 * 32 + 10,
            },
            // A NOP of four bytes that is no usual one; later with an illegal opcode inside.
            endbr_poison: if before(6, 18) { [0x66, 0x0f, 0x1f, 0x00] } else { [0x0f, 0x1f, 0x40, 0xd6] },
            unlock_inlined: !before(7, 3),
            // `struct module_memory` knows no sections any more (ac3b43283923).
            locks_in_text_section_only: before(6, 4),
            arm64_trampolines: if before(6, 2) { 2 } else { 1 },
            s390_alternatives: match () {
                () if before(6, 11) => S390Alternatives::Facility,
                () if before(6, 14) => S390Alternatives::Typed,
                () => S390Alternatives::Features,
            },
            exception_handlers: before(5, 17),
            s390_stack_protector: !before(6, 19),
            bug_entry: with_machine!(machine, A => A::bug_entry(version)).unwrap_or(12),
        }
    }
}
