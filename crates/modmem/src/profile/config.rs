//! A kernel's `config` file.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::KernelVersion;
use crate::arch::{Architecture, Machine, with_machine};

/// From here on a real-time kernel can have PREEMPT_BUILD too, and version magic names the former (0b7a66a2c864).
const RT_FIRST: KernelVersion = KernelVersion::new(6, 13);

/// From here on compilers shuffle structures in other ways than by a plugin, and version magic names none.
const NO_PLUGIN_FIRST: KernelVersion = KernelVersion::new(5, 19);

/// What a kernel's `config` file sets.
#[derive(Clone)]
pub struct KernelConfig<'a> {
    /// Names without `CONFIG_` and their values, sorted.
    set: Vec<(&'a str, &'a str)>,
}

impl<'a> KernelConfig<'a> {
    /// Reads the text of a `config` file (`CONFIG_NAME=y` a line; comments are skipped).
    pub fn parse(text: &'a str) -> KernelConfig<'a> {
        let switch = |line: &'a str| line.trim_end().strip_prefix("CONFIG_")?.split_once('=');
        let mut set: Vec<(&str, &str)> = text.lines().filter_map(switch).collect();
        set.sort_unstable();
        KernelConfig { set }
    }

    /// Whether `CONFIG_name` is `y` or `m`.
    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.value(name), Some("y" | "m"))
    }

    /// What `CONFIG_name` is set to.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        let at = self.set.binary_search_by_key(&name, |&(name, _)| name).ok()?;
        self.set.get(at).map(|&(_, value)| value)
    }

    /// The number that `CONFIG_name` is set to, decimal or with `0x`.
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.value(name)?;
        match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        }
    }

    /// Whether the members of structures lie in an order that was drawn when the kernel was built.
    pub fn has_random_structures(&self) -> bool {
        self.is_set("RANDSTRUCT") || self.is_set("GCC_PLUGIN_RANDSTRUCT")
    }

    /// The machine that the kernel is for, where the file says.
    pub fn machine(&self) -> Option<Machine> {
        const MACHINES: &[(&str, Machine)] = &[
            ("X86_64", Machine::X86_64),
            ("X86_32", Machine::I386),
            ("ARM64", Machine::Arm64),
            ("ARM", Machine::Arm),
            ("RISCV", Machine::RiscV),
            ("PPC64", Machine::PowerPc64),
            ("PPC32", Machine::PowerPc),
            ("S390", Machine::S390),
            ("LOONGARCH", Machine::LoongArch),
            ("MIPS", Machine::Mips),
            ("PARISC", Machine::PaRisc),
            ("SPARC64", Machine::Sparc64),
        ];
        MACHINES.iter().find(|(name, _)| self.is_set(name)).map(|&(_, machine)| machine)
    }

    /// The version magic of modules for this kernel (include/linux/vermagic.h), with what its machine adds. Where
    /// structures are [shuffled](KernelConfig::has_random_structures), a hash follows that no configuration tells: what is
    /// given here ends before it.
    pub fn vermagic(&self, release: &str) -> String {
        let mut magic = String::from(release);
        magic.push(' ');
        let (build, realtime) = (self.is_set("PREEMPT_BUILD"), self.is_set("PREEMPT_RT"));
        let realtime_first = KernelVersion::parse(release).is_none_or(|version| version >= RT_FIRST);
        for (set, word) in [
            (self.is_set("SMP"), "SMP "),
            (build && !(realtime && realtime_first), "preempt "),
            (realtime && (realtime_first || !build), "preempt_rt "),
            (self.is_set("MODULE_UNLOAD"), "mod_unload "),
            (self.is_set("MODVERSIONS"), "modversions "),
        ] {
            if set {
                magic.push_str(word);
            }
        }
        if let Some(machine) = self.machine() {
            magic.push_str(with_machine!(machine, A => A::vermagic(self)).unwrap_or_default());
        }
        if self.has_random_structures() {
            let plugin = KernelVersion::parse(release).is_some_and(|version| version < NO_PLUGIN_FIRST);
            magic.push_str(if plugin { "RANDSTRUCT_PLUGIN_" } else { "RANDSTRUCT_" });
        }
        magic
    }
}

impl fmt::Debug for KernelConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelConfig({} switches)", self.set.len())
    }
}

#[cfg(test)]
mod tests {
    use super::KernelConfig;

    #[test]
    fn version_magic_of_kernels_with_shuffled_structures_ends_before_the_hash() {
        let config = "CONFIG_SMP=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_RANDSTRUCT=y\nCONFIG_RANDSTRUCT_FULL=y\n";
        let magic = KernelConfig::parse(config).vermagic("6.12.0");
        assert_eq!(magic, "6.12.0 SMP mod_unload RANDSTRUCT_");
        let plugin = "CONFIG_SMP=y\nCONFIG_GCC_PLUGIN_RANDSTRUCT=y\n";
        assert_eq!(KernelConfig::parse(plugin).vermagic("5.10.0"), "5.10.0 SMP RANDSTRUCT_PLUGIN_");
    }

    #[test]
    fn version_magic_of_real_time_kernels_that_set_preempt_build_too() {
        let both = "CONFIG_SMP=y\nCONFIG_PREEMPT_BUILD=y\nCONFIG_PREEMPT_RT=y\nCONFIG_MODULE_UNLOAD=y\n";
        let of = |config: &str, release: &str| KernelConfig::parse(config).vermagic(release);
        assert_eq!(of(both, "7.2.13+deb14-rt-amd64"), "7.2.13+deb14-rt-amd64 SMP preempt_rt mod_unload ");
        assert_eq!(of(both, "6.13.0"), "6.13.0 SMP preempt_rt mod_unload ");
        assert_eq!(of(both, "6.12.0"), "6.12.0 SMP preempt mod_unload ");
        for release in ["6.12.0", "7.2.0"] {
            assert_eq!(of("CONFIG_PREEMPT_BUILD=y\n", release), [release, " preempt "].concat());
            assert_eq!(of("CONFIG_PREEMPT_RT=y\n", release), [release, " preempt_rt "].concat());
            assert_eq!(of("", release), [release, " "].concat());
        }
    }
}
