//! Machines: what a module's machine decides.
//!
//! One folder a machine, with the same file names in each. Everything here is data about a *target*; nothing asks
//! what machine the code itself runs on.

pub mod x86_64;

use core::fmt;

/// A machine that a module's code can be for (`e_machine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Machine {
    /// EM_X86_64
    X86_64,
    /// EM_386
    I386,
    /// EM_AARCH64
    Arm64,
    /// EM_ARM
    Arm,
    /// EM_RISCV
    RiscV,
    /// EM_PPC
    PowerPc,
    /// EM_PPC64
    PowerPc64,
    /// EM_S390
    S390,
    /// EM_LOONGARCH
    LoongArch,
    /// EM_MIPS
    Mips,
    /// EM_PARISC
    PaRisc,
    /// EM_SPARCV9
    Sparc64,
    /// Any other number.
    Other(u16),
}

impl Machine {
    /// The machine of an `e_machine` number.
    pub fn from_elf(number: u16) -> Machine {
        match number {
            62 => Machine::X86_64,
            3 => Machine::I386,
            183 => Machine::Arm64,
            40 => Machine::Arm,
            243 => Machine::RiscV,
            20 => Machine::PowerPc,
            21 => Machine::PowerPc64,
            22 => Machine::S390,
            258 => Machine::LoongArch,
            8 => Machine::Mips,
            15 => Machine::PaRisc,
            43 => Machine::Sparc64,
            other => Machine::Other(other),
        }
    }

    /// The name of relocation type `kind`, where this build knows the machine.
    pub fn relocation_name(self, kind: u32) -> Option<&'static str> {
        match self {
            Machine::X86_64 => x86_64::RELOCATIONS.get(kind).map(|relocation| relocation.name),
            _ => None,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Machine::X86_64 => "x86-64",
            Machine::I386 => "i386",
            Machine::Arm64 => "arm64",
            Machine::Arm => "arm",
            Machine::RiscV => "riscv",
            Machine::PowerPc => "powerpc",
            Machine::PowerPc64 => "powerpc64",
            Machine::S390 => "s390",
            Machine::LoongArch => "loongarch",
            Machine::Mips => "mips",
            Machine::PaRisc => "parisc",
            Machine::Sparc64 => "sparc64",
            Machine::Other(number) => return write!(f, "machine {number}"),
        })
    }
}
