//! A kernel's `config` file.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::arch::Machine;

/// The switches that a kernel's `config` file sets to `y` or `m`.
#[derive(Clone)]
pub struct KernelConfig<'a> {
    /// Names without `CONFIG_`, sorted.
    set: Vec<&'a str>,
}

impl<'a> KernelConfig<'a> {
    /// Reads the text of a `config` file (`CONFIG_NAME=y` a line; comments and other values are skipped).
    pub fn parse(text: &'a str) -> KernelConfig<'a> {
        let switch = |line: &'a str| {
            let (name, value) = line.trim_end().strip_prefix("CONFIG_")?.split_once('=')?;
            matches!(value, "y" | "m").then_some(name)
        };
        let mut set: Vec<&str> = text.lines().filter_map(switch).collect();
        set.sort_unstable();
        KernelConfig { set }
    }

    /// Whether `CONFIG_name` is `y` or `m`.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.binary_search(&name).is_ok()
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

    /// The version magic of modules for this kernel (include/linux/vermagic.h; x86-64 adds nothing of its own).
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
        magic
    }
}

impl fmt::Debug for KernelConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelConfig({} switches)", self.set.len())
    }
}
