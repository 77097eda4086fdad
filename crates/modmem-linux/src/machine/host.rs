//! The machine that this program runs on, as anybody may see it: what its kernel says of the CPU and of mitigations.
//!
//! | what | from where |
//! |---|---|
//! | CPU features and bugs that have a name (x86-64) | `flags` and `bugs` of /proc/cpuinfo; their numbers from `x86_cap_flags` and `x86_bug_flags` of the kernel that is given |
//! | facilities (s390x) | `facilities` of /proc/cpuinfo |
//! | retpolines, return thunks, call depth, ITS | /sys/devices/system/cpu/vulnerabilities |
//! | lock prefixes | /sys/devices/system/cpu/possible |
//!
//! Static keys are as the kernel is built, and what has no name is not known.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use modmem::arch::Machine;
use modmem::finalize::{Stated, Variable};
use modmem::profile::Profile;
use modmem::verify::{Guest as _, GuestMemory as _};
use modmem::{Name, RunAddr};

use super::DescribedKernel;
use crate::Error;

/// Numbers of features without a name (arch/x86/include/asm/cpufeatures.h).
const ALWAYS: u16 = 3 * 32 + 21;
const RETPOLINE: u16 = 11 * 32 + 12;
const RETPOLINE_LFENCE: u16 = 11 * 32 + 13;
const RETHUNK: u16 = 11 * 32 + 14;
const CALL_DEPTH: u16 = 11 * 32 + 19;
const LFENCE_RDTSC: [u16; 2] = [20 * 32 + 2, 3 * 32 + 18];
const XENPV: u16 = 8 * 32 + 16;
/// Bytes of the longest name of a feature, and more.
const NAME: usize = 32;

/// What this machine's kernel says of it.
#[derive(Debug)]
pub struct HostMachine {
    /// The CPU, in words.
    pub cpu: String,
    on: HashSet<Variable>,
    /// Of what else is known that it is off.
    off: HashSet<Variable>,
    return_thunk: Option<u64>,
}

/// The files that tell.
struct Facts {
    cpuinfo: String,
    spectre_v2: String,
    retbleed: String,
    srso: String,
    its: String,
    possible: String,
}

impl HostMachine {
    /// Looks at the machine whose /proc and /sys are below `root`, for the kernel that is given.
    ///
    /// # Errors
    /// /proc/cpuinfo cannot be read, or says nothing of the kernel's machine.
    pub fn read(root: &Path, kernel: &DescribedKernel, profile: &Profile) -> Result<HostMachine, Error> {
        let path = root.join("proc/cpuinfo");
        let cpuinfo = fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
        // Kernels that know no such weakness have no file.
        let other = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let weakness = |name: &str| other(&format!("sys/devices/system/cpu/vulnerabilities/{name}"));
        HostMachine::of(
            &Facts {
                cpuinfo,
                spectre_v2: weakness("spectre_v2"),
                retbleed: weakness("retbleed"),
                srso: weakness("spec_rstack_overflow"),
                its: weakness("indirect_target_selection"),
                possible: other("sys/devices/system/cpu/possible"),
            },
            kernel,
            profile,
        )
    }

    fn of(facts: &Facts, kernel: &DescribedKernel, profile: &Profile) -> Result<HostMachine, Error> {
        let field = |name: &str| {
            let mut lines = facts.cpuinfo.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
        };
        let mut host = HostMachine {
            cpu: field("model name").or_else(|| field("vendor_id")).unwrap_or("a CPU").to_owned(),
            on: HashSet::new(),
            off: HashSet::new(),
            return_thunk: None,
        };
        match (profile.machine, field("flags"), field("facilities")) {
            (Machine::X86_64, Some(flags), _) => {
                host.name_features(kernel, flags, field("bugs").unwrap_or_default());
                let family = field("cpu family").and_then(|family| family.parse().ok()).unwrap_or(0);
                host.judge(facts, kernel, profile, family, flags.split(' ').any(|flag| flag == "sse2"));
            }
            (Machine::S390, _, Some(facilities)) => {
                let numbers = facilities.split(' ').filter_map(|number| number.parse().ok());
                host.on.extend(numbers.map(Variable::Facility));
            }
            (machine, ..) => {
                let why =
                    format!("it is no {machine}, which the kernel is for, or says nothing of its features");
                return Err(Error::malformed("/proc/cpuinfo", why));
            }
        }
        Ok(host)
    }

    /// Features and bugs that the kernel has a name for.
    fn name_features(&mut self, kernel: &DescribedKernel, flags: &str, bugs: &str) {
        let flags: HashSet<&str> = flags.split(' ').collect();
        let bugs: HashSet<&str> = bugs.split(' ').collect();
        let names = kernel.strings_of("x86_cap_flags", NAME);
        let first_bug = names.len();
        let features = names.iter().enumerate().map(|(number, name)| (number, name, &flags));
        let weak = kernel.strings_of("x86_bug_flags", NAME);
        let weak = weak.iter().enumerate().map(|(number, name)| (first_bug + number, name, &bugs));
        for (number, name, known) in features.chain(weak) {
            let (Some(name), Ok(number)) = (name, u16::try_from(number)) else { continue };
            self.set(number, known.contains(name.as_str()));
        }
    }

    fn set(&mut self, feature: u16, on: bool) {
        let set = if on { &mut self.on } else { &mut self.off };
        set.insert(Variable::Feature(feature));
    }

    /// What mitigations tell.
    fn judge(&mut self, facts: &Facts, kernel: &DescribedKernel, profile: &Profile, family: u32, sse2: bool) {
        self.set(ALWAYS, true);
        self.set(XENPV, false);
        LFENCE_RDTSC.into_iter().for_each(|feature| self.set(feature, sse2));
        let lfence = facts.spectre_v2.contains("LFENCE");
        self.set(RETPOLINE_LFENCE, lfence);
        self.set(RETPOLINE, lfence || facts.spectre_v2.contains("Retpolines"));
        let counted = facts.retbleed.contains("Stuffing");
        self.set(CALL_DEPTH, counted);
        let its = facts.its.contains("thunks");
        if profile.patching.its_feature != 0 {
            self.set(profile.patching.its_feature, its);
        }
        // In the order in which one mitigation takes the place of another (arch/x86/kernel/cpu/bugs.c).
        let thunks: &[&str] = if facts.srso.contains("Safe RET") {
            if family < 0x19 { &["srso_return_thunk"] } else { &["srso_alias_return_thunk"] }
        } else if counted {
            &["call_depth_return_thunk", "__x86_return_thunk"]
        } else if facts.retbleed.contains("untrained return thunk") {
            &["retbleed_return_thunk", "__x86_return_thunk"]
        } else if its {
            &["its_return_thunk"]
        } else {
            &[]
        };
        self.set(RETHUNK, !thunks.is_empty());
        self.return_thunk = thunks.iter().find_map(|name| kernel.kernel_symbol(Name::from(*name)));
        if !facts.possible.is_empty() {
            let set = if facts.possible.trim() == "0" { &mut self.on } else { &mut self.off };
            set.insert(Variable::OneCpu);
        }
    }
}

impl Stated for HostMachine {
    fn value(&self, variable: Variable) -> Option<u64> {
        match variable {
            Variable::ReturnThunk => self.return_thunk,
            Variable::Facility(_) => Some(u64::from(self.on.contains(&variable))),
            _ if self.on.contains(&variable) => Some(1),
            _ => self.off.contains(&variable).then_some(0),
        }
    }
}

impl DescribedKernel {
    /// The strings that an array of pointers of the kernel's names, `None` where one is null.
    fn strings_of(&self, array: &str, longest: usize) -> Vec<Option<String>> {
        const POINTER: u64 = 8;
        let Some(start) = self.kernel_symbol(Name::from(array)) else { return Vec::new() };
        let string = |at: u64| {
            let mut pointer = [0; POINTER as usize];
            let known = self.read(RunAddr(at), &mut pointer) && pointer != [0; POINTER as usize];
            let address = RunAddr(u64::from_le_bytes(pointer));
            let byte = |offset: usize| {
                let mut byte = [0];
                (self.read(address + offset as u64, &mut byte) && byte != [0]).then_some(char::from(byte[0]))
            };
            known.then(|| (0..longest).map_while(byte).collect())
        };
        (start..self.end_of(start)).step_by(POINTER as usize).map(string).collect()
    }
}
