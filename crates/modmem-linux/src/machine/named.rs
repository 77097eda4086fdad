//! Machines that are known by name: states that kernels had on machines that were booted.

use modmem::arch::Machine;

/// Architecture, name, version of the kernel that was booted, state.
type Known = (Machine, &'static str, (u32, u32), &'static str);

/// All that `cargo xtask machine-states` recorded.
const STATES: &[Known] = &[
    (Machine::X86_64, "Skylake-Server", (5, 10), include_str!("states/amd64/5.10/Skylake-Server.state")),
    (Machine::X86_64, "default", (5, 10), include_str!("states/amd64/5.10/default.state")),
    (Machine::X86_64, "EPYC-Milan", (6, 1), include_str!("states/amd64/6.1/EPYC-Milan.state")),
    (Machine::X86_64, "Skylake-Server", (6, 1), include_str!("states/amd64/6.1/Skylake-Server.state")),
    (Machine::X86_64, "default", (6, 1), include_str!("states/amd64/6.1/default.state")),
    (
        Machine::X86_64,
        "Cascadelake-Server",
        (6, 12),
        include_str!("states/amd64/6.12/Cascadelake-Server.state"),
    ),
    (Machine::X86_64, "EPYC-Milan", (6, 12), include_str!("states/amd64/6.12/EPYC-Milan.state")),
    (Machine::X86_64, "EPYC-Rome", (6, 12), include_str!("states/amd64/6.12/EPYC-Rome.state")),
    (Machine::X86_64, "EPYC", (6, 12), include_str!("states/amd64/6.12/EPYC.state")),
    (Machine::X86_64, "Haswell", (6, 12), include_str!("states/amd64/6.12/Haswell.state")),
    (Machine::X86_64, "Icelake-Server", (6, 12), include_str!("states/amd64/6.12/Icelake-Server.state")),
    (Machine::X86_64, "IvyBridge", (6, 12), include_str!("states/amd64/6.12/IvyBridge.state")),
    (Machine::X86_64, "Nehalem", (6, 12), include_str!("states/amd64/6.12/Nehalem.state")),
    (Machine::X86_64, "SandyBridge", (6, 12), include_str!("states/amd64/6.12/SandyBridge.state")),
    (Machine::X86_64, "Skylake-Client", (6, 12), include_str!("states/amd64/6.12/Skylake-Client.state")),
    (Machine::X86_64, "Skylake-Server", (6, 12), include_str!("states/amd64/6.12/Skylake-Server.state")),
    (Machine::X86_64, "default", (6, 12), include_str!("states/amd64/6.12/default.state")),
    (Machine::X86_64, "max", (6, 12), include_str!("states/amd64/6.12/max.state")),
    (Machine::X86_64, "default", (6, 17), include_str!("states/amd64/6.17/default.state")),
    (Machine::X86_64, "EPYC-Milan", (7, 3), include_str!("states/amd64/7.3/EPYC-Milan.state")),
    (Machine::X86_64, "Skylake-Server", (7, 3), include_str!("states/amd64/7.3/Skylake-Server.state")),
    (Machine::X86_64, "default", (7, 3), include_str!("states/amd64/7.3/default.state")),
    (Machine::Arm64, "cortex-a53", (6, 12), include_str!("states/arm64/6.12/cortex-a53.state")),
    (Machine::Arm64, "cortex-a72", (6, 12), include_str!("states/arm64/6.12/cortex-a72.state")),
    (Machine::Arm64, "cortex-a76", (6, 12), include_str!("states/arm64/6.12/cortex-a76.state")),
    (Machine::Arm64, "default", (6, 12), include_str!("states/arm64/6.12/default.state")),
    (Machine::Arm64, "max", (6, 12), include_str!("states/arm64/6.12/max.state")),
    (Machine::Arm64, "default", (7, 3), include_str!("states/arm64/7.3/default.state")),
    (Machine::S390, "default", (6, 12), include_str!("states/s390x/6.12/default.state")),
    (Machine::S390, "qemu", (6, 12), include_str!("states/s390x/6.12/qemu.state")),
    (Machine::S390, "default", (7, 3), include_str!("states/s390x/7.3/default.state")),
];

/// The state that a kernel finds on a machine of that name: of the newest version that is not newer than `release`, or else of
/// the oldest there is.
pub fn text(name: &str, machine: Machine, release: &str) -> Option<&'static str> {
    let version = version(release);
    let known = || STATES.iter().filter(|(of, known, ..)| *of == machine && *known == name);
    let older = known().filter(|(_, _, known, _)| *known <= version).max_by_key(|(_, _, known, _)| *known);
    older.or_else(|| known().min_by_key(|(_, _, known, _)| *known)).map(|(.., text)| *text)
}

/// The names of machines that are known for an architecture.
pub fn names(machine: Machine) -> Vec<&'static str> {
    let of_machine = STATES.iter().filter(|(of, ..)| *of == machine);
    let mut names: Vec<&str> = of_machine.map(|(_, name, ..)| *name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::machine::MachineState;

    #[test]
    fn every_state_that_was_recorded_is_known_and_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/machine/states");
        let mut count = 0;
        for machine in std::fs::read_dir(folder).unwrap() {
            for version in std::fs::read_dir(machine.unwrap().path()).unwrap() {
                for state in std::fs::read_dir(version.unwrap().path()).unwrap() {
                    let path = state.unwrap().path();
                    let text = std::fs::read_to_string(&path).unwrap();
                    assert!(STATES.iter().any(|(.., known)| *known == text), "{}", path.display());
                    let state = MachineState::parse("", &text).unwrap();
                    assert!(!state.about.is_empty() && !state.values.is_empty(), "{}", path.display());
                    count += 1;
                }
            }
        }
        assert_eq!(STATES.len(), count);
    }

    #[test]
    fn a_kernel_is_taken_for_the_nearest_older_one() {
        let release = |release| text("default", Machine::X86_64, release).unwrap().lines().nth(2).unwrap();
        assert!(release("6.12.1").starts_with("release 6.12."));
        assert!(release("6.13.0-rc1").starts_with("release 6.12."));
        assert_eq!(release("5.4"), release("5.10.0"));
        assert_eq!(text("toaster", Machine::X86_64, "6.12"), None);
        assert!(names(Machine::X86_64).contains(&"default") && names(Machine::Arm).is_empty());
    }
}
