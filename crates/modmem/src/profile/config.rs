//! A kernel's `config` file.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::arch::{Architecture, Machine, with_machine};

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

    /// The version magic of modules for this kernel (include/linux/vermagic.h), with what its machine adds.
    pub fn vermagic(&self, release: &str) -> String {
        let mut magic = String::from(release);
        magic.push(' ');
        let preempt = self.is_set("PREEMPT_BUILD");
        for (set, word) in [
            (self.is_set("SMP"), "SMP "),
            (preempt, "preempt "),
            (!preempt && self.is_set("PREEMPT_RT"), "preempt_rt "),
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
        magic
    }
}

impl fmt::Debug for KernelConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelConfig({} switches)", self.set.len())
    }
}
