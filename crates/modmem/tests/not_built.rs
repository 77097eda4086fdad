//! Machines that a build has nothing for are named, with what to do about it. `cargo xtask machines` runs this in builds
//! with one machine each; with all of them built only those that modmem does not know at all are refused.

use modmem::Profile;
use modmem::arch::Machine;

/// Machines with a feature, and whether this build has it.
const MACHINES: [(Machine, &str, bool); 4] = [
    (Machine::X86_64, "x86_64", cfg!(feature = "x86_64")),
    (Machine::Arm64, "arm64", cfg!(feature = "arm64")),
    (Machine::S390, "s390x", cfg!(feature = "s390x")),
    (Machine::PowerPc, "ppc32", cfg!(feature = "ppc32")),
];

#[test]
fn a_machine_that_was_left_out_is_refused_by_name_with_its_feature() {
    for (machine, feature, built) in MACHINES {
        let profile = Profile::named_for(machine, "6.12");
        assert_eq!(profile.is_ok(), built, "{machine}");
        assert_eq!(machine.relocations().is_ok(), built);
        let Err(error) = profile else { continue };
        let text = error.to_string();
        assert!(text.contains(&format!("this build has no {machine}")), "{text}");
        assert!(text.contains(&format!("feature \"{feature}\"")), "{text}");
    }
}

#[test]
fn a_machine_that_modmem_does_not_know_is_refused_by_name() {
    let error = Profile::named_for(Machine::Mips, "6.12").unwrap_err().to_string();
    assert!(error.contains("this build has no mips") && error.contains("not know"), "{error}");
}
