//! What kernels of different versions do to code and tables after relocation.

use super::KernelVersion;

/// How alternatives are applied (arch/x86/kernel/alternative.c:apply_alternatives).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlternativeStyle {
    /// One entry after the other, in place; only a lone call or jump is moved. Entries have no flags.
    InPlace,
    /// One entry after the other; all relative operands are moved; entries for one place get one length.
    Sequential,
    /// Of the entries for one place only the last that applies.
    LastWins,
}

/// Which NOPs are joined to longer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NopStyle {
    /// Runs of single bytes, to NOPs of at most eight.
    SingleBytes,
    /// Any, to one NOP of at most eleven bytes or a jump over the run.
    AllNops,
}

/// How an indirect call is filled up to the length of the call of a retpoline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndirectPadding {
    /// With NOPs behind it.
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
    /// Whether lock prefixes are changed in the section `.text` only, and not in all of the memory.
    pub locks_in_text_section_only: bool,
    /// How many entries of tracing modules of arm64 have trampolines to: before 6.2 one more, for all registers.
    pub arm64_trampolines: u8,
    /// Alternatives on s390x.
    pub s390_alternatives: S390Alternatives,
    /// Bytes of `struct bug_entry` with relative pointers: from 6.19 on with a format.
    pub bug_entry: u64,
}

impl Patching {
    pub(super) fn of(version: KernelVersion) -> Patching {
        let before = |major, minor| version < KernelVersion::new(major, minor);
        let old = before(6, 4);
        Patching {
            alternatives: match () {
                () if old => AlternativeStyle::InPlace,
                () if before(6, 19) => AlternativeStyle::Sequential,
                () => AlternativeStyle::LastWins,
            },
            nops: if old { NopStyle::SingleBytes } else { NopStyle::AllNops },
            indirect_padding: if before(6, 19) { IndirectPadding::Nops } else { IndirectPadding::Prefixes },
            sort: if old { SortStyle::OneByOne } else { SortStyle::TwoLargest },
            orc: if old { OrcStyle::EndBit } else { OrcStyle::Undefined },
            its_feature: match () {
                () if old => 21 * 32 + 5,
                () if before(6, 15) => 21 * 32 + 6,
                () => 21 * 32 + 10,
            },
            // A NOP of four bytes that is no usual one; later with an illegal opcode inside.
            endbr_poison: if before(6, 16) { [0x66, 0x0f, 0x1f, 0x00] } else { [0x0f, 0x1f, 0x40, 0xd6] },
            locks_in_text_section_only: old,
            arm64_trampolines: if before(6, 2) { 2 } else { 1 },
            s390_alternatives: match () {
                () if before(6, 11) => S390Alternatives::Facility,
                () if before(6, 14) => S390Alternatives::Typed,
                () => S390Alternatives::Features,
            },
            bug_entry: if before(6, 19) { 12 } else { 16 },
        }
    }
}
