//! The states in which kernels are booted: a table for each machine.

mod amd64;
mod arm64;
mod debian;
mod modules;
mod ppc32;
mod s390x;
mod settings;

use super::arch::{ARCHES, Arch};

/// All boots, those of a machine together, its default one first.
pub(super) fn all() -> impl Iterator<Item = &'static Boot> {
    [amd64::BOOTS, debian::BOOTS, settings::BOOTS, arm64::BOOTS, s390x::BOOTS, ppc32::BOOTS]
        .into_iter()
        .flatten()
}

/// The boot by which a machine is proven where nothing else is asked for.
pub(super) fn default_of(name: &str) -> Option<&'static Boot> {
    let arch: &Arch = ARCHES.into_iter().find(|arch| arch.name == name)?;
    all().find(|boot| boot.arch.name == arch.name)
}

/// One kernel, one machine, one state.
#[derive(Debug)]
pub(super) struct Boot {
    /// What `--boot` calls it.
    pub(super) name: &'static str,
    /// What it is for, in a line.
    pub(super) about: &'static str,
    /// The machine.
    pub(super) arch: &'static Arch,
    /// The kernel.
    pub(super) kernel: KernelFrom,
    /// The model of CPU, as QEMU's `-cpu` takes it.
    pub(super) cpu: &'static str,
    /// How many of them.
    pub(super) cpus: u32,
    /// What is added to the kernel's command line.
    pub(super) append: &'static str,
    /// What `kernel.kptr_restrict` is set to; `None`: it stays as it is, which with Debian is 0.
    pub(super) kptr_restrict: Option<u8>,
    /// Commands for the guest, run when all modules are loaded.
    pub(super) setup: &'static str,
    /// What the guest must report afterwards: without it, the state is not the one that the boot is named for.
    pub(super) expect: &'static [Expected],
    /// The modules; what they need comes with them.
    pub(super) modules: &'static [&'static str],
    /// So many modules must have been loaded, else nothing is proven.
    pub(super) least: usize,
    /// Is a module of ours loaded that waits in its init function? Lockdown lets none in that Debian did not sign.
    pub(super) waits: bool,
    /// A state drawn by random: the kernel is taken as the cache has it, and the views of user space are not compared,
    /// since what references others hold on modules is known of the boots by name alone.
    pub(super) drawn: bool,
    /// In this state no snapshot can be taken: what `modmem snapshot` has to speak of when it fails.
    pub(super) refuses: Option<&'static str>,
    /// What a verification of the live machine has to find, and nothing else.
    pub(super) finds: Option<&'static str>,
    /// Whether the setup records writes to text, or a snapshot before them, which are put to the patch oracle.
    pub(super) pokes: bool,
    /// Does a difference fail the chore? A kernel that others upload must not block anybody. One that only reports may
    /// lack modules, and refuse some.
    pub(super) gates: bool,
}

/// Where a kernel comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum KernelFrom {
    /// A package, as modmem's `--kernel` takes it.
    Archive(&'static str),
    /// Built here, from Debian's sources of this version.
    Sources(&'static str),
    /// That of a root of this suite of Debian's, which debootstrap makes and which boots as Debian does.
    Root(&'static str),
}

/// A line that a file of the guest's must have.
#[derive(Debug)]
pub(super) struct Expected {
    /// The file, below the guest's `/out`.
    pub(super) file: &'static str,
    /// A part of the line.
    pub(super) line: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_machine_has_a_default() {
        assert_eq!(all().next().map(|boot| boot.name), Some("default"));
        let names: Vec<&str> = all().map(|boot| boot.name).collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{name}");
        }
        for arch in ARCHES {
            assert_eq!(default_of(arch.name).map(|boot| boot.arch.name), Some(arch.name));
        }
        assert!(default_of("vax").is_none());
    }
}
