//! The state of one machine, as far as sizes and relocated bytes depend on it.

/// What a machine that runs modules is like. Its CPU's features change code only after relocation, and are no part of
/// this: see [`verify`](crate::verify).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineState {
    /// arm64: a CPU has Cortex-A53's erratum 843419 (ARM64_WORKAROUND_843419). Modules get room for veneers, and ADRP
    /// instructions at the end of a page are replaced.
    pub erratum_843419: bool,
    /// s390x: expolines are in use (CONFIG_EXPOLINE, not booted with `nospectre_v2=off`): modules with a PLT get room for
    /// one more entry, through which all others jump.
    pub expolines: bool,
}
