//! Names of what modules' code depends on in a machine: CPU features, capabilities, facilities.

use modmem::arch::Machine;
use modmem::profile::Profile;
use modmem::verify::Variable;

/// The feature that makes returns jump to a thunk.
pub(crate) const RETURN_THUNKS: &str = "RETHUNK";

/// Features by number (`X86_FEATURE_*`, arch/x86/include/asm/cpufeatures.h) that mean the same from Linux 6.1 to 7.2.
const NAMES: &[(u16, &str)] = &[
    (4, "TSC"),
    (19, "CLFLUSH"),
    (32 + 27, "RDTSCP"),
    (3 * 32 + 8, "CONSTANT_TSC"),
    (3 * 32 + 11, "ARCH_PERFMON"),
    (3 * 32 + 16, "REP_GOOD"),
    (3 * 32 + 21, "ALWAYS"),
    (4 * 32 + 19, "XMM4_1"),
    (4 * 32 + 23, "POPCNT"),
    (6 * 32 + 8, "3DNOWPREFETCH"),
    (7 * 32 + 26, "IBPB"),
    (8 * 32 + 16, "XENPV"),
    (9 * 32 + 9, "ERMS"),
    (9 * 32 + 20, "SMAP"),
    (9 * 32 + 23, "CLFLUSHOPT"),
    (10 * 32 + 3, "XSAVES"),
    (11 * 32 + 12, "RETPOLINE"),
    (11 * 32 + 13, "RETPOLINE_LFENCE"),
    (11 * 32 + 14, RETURN_THUNKS),
    (11 * 32 + 19, "CALL_DEPTH"),
    (12 * 32 + 11, "FSRS"),
    (16 * 32 + 3, "PKU"),
    (16 * 32 + 4, "OSPKE"),
    (16 * 32 + 16, "LA57"),
    (18 * 32 + 4, "FSRM"),
    (18 * 32 + 15, "HYBRID_CPU"),
    (20 * 32 + 2, "LFENCE_RDTSC"),
    (20 * 32 + 29, "SRSO_NO"),
    (21 * 32 + 14, "IBPB_EXIT_TO_USER"),
    (22 * 32 + 10, "BUG_NULL_SEG"),
];

/// The name of an x86 feature, where it has the same one in all versions or the profile tells it.
pub(crate) fn name(feature: u16, profile: &Profile) -> Option<&'static str> {
    if profile.machine != Machine::X86_64 {
        return None;
    }
    if feature == profile.patching.its_feature {
        return Some("INDIRECT_THUNK_ITS");
    }
    NAMES.iter().find(|(number, _)| *number == feature).map(|(_, name)| *name)
}

/// The number that the kernel has for it.
pub(crate) fn number(variable: Variable) -> Option<u32> {
    match variable {
        Variable::Feature(number) | Variable::Capability(number) => Some(number.into()),
        Variable::Facility(number) | Variable::MachineFeature(number) => Some(number),
        _ => None,
    }
}

/// As reports show it: `SMAP`, or `3*32+18` where nothing tells its name; `facility 129`.
pub(crate) fn shown(variable: Variable, profile: &Profile) -> String {
    match variable {
        Variable::Feature(number) => {
            name(number, profile).map_or_else(|| format!("{}*32+{}", number / 32, number % 32), str::to_owned)
        }
        Variable::Capability(number) => format!("capability {number}"),
        other => other.to_string(),
    }
}
