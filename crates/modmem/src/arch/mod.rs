//! Machines: what a module's machine decides.
//!
//! One folder a machine, with the same file names in each. Everything here is data about a *target*; nothing asks
//! what machine the code itself runs on.

mod architecture;
#[cfg(feature = "arm64")]
pub mod arm64;
#[cfg(feature = "ppc32")]
pub mod ppc32;
#[cfg(feature = "s390x")]
pub mod s390x;
mod words;
#[cfg(feature = "x86_64")]
pub mod x86_64;

use core::fmt;

pub use architecture::KernelPlace;
pub(crate) use architecture::{Architecture, Setup};
pub use words::KernelWord;

use crate::image::elf::Format;
use crate::link::relocation::Relocations;
use crate::name::Name;
use crate::profile::MachineState;

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

    /// The cargo feature that a build with support for the machine has.
    const fn feature(self) -> Option<&'static str> {
        match self {
            Machine::X86_64 => Some("x86_64"),
            Machine::Arm64 => Some("arm64"),
            Machine::S390 => Some("s390x"),
            Machine::PowerPc => Some("ppc32"),
            _ => None,
        }
    }

    /// Whether it depends on where the kernel lies, and on how large it is, where modules go. A profile that is not told
    /// takes a kernel as large as Debian's, where it was linked to lie.
    pub const fn places_modules_by_kernel(self) -> bool {
        matches!(self, Machine::Arm64 | Machine::S390 | Machine::PowerPc)
    }

    /// Width of addresses and byte order of its modules and kernels.
    ///
    /// # Errors
    /// This build has nothing for the machine.
    pub fn format(self) -> Result<Format, NotBuilt> {
        with_machine!(self, A => A::FORMAT)
    }

    /// The relocations that modules of the machine may carry.
    ///
    /// # Errors
    /// This build has nothing for the machine.
    pub fn relocations(self) -> Result<&'static Relocations, NotBuilt> {
        with_machine!(self, A => A::relocations(&MachineState::default()))
    }

    /// Of what other symbol the kernel's linker makes the exported symbol `name`, and how far behind that it lies, where
    /// kallsyms does not list it.
    pub fn made_symbol(self, name: Name<'_>) -> Option<(&'static str, u64)> {
        let made: &[(&str, &str, u64)] = with_machine!(self, A => A::MADE_SYMBOLS).ok()?;
        made.iter().find(|(known, ..)| name == *known).map(|&(_, other, offset)| (other, offset))
    }

    /// The kernel's own variables that decide how code of modules is patched; none where this build does not know the
    /// machine. Those that a kernel does not have are to be passed over.
    pub fn kernel_words(self) -> &'static [KernelWord] {
        with_machine!(self, A => A::WORDS).unwrap_or_default()
    }

    /// The name of relocation type `kind`, where this build knows the machine.
    pub fn relocation_name(self, kind: u32) -> Option<&'static str> {
        Some(self.relocations().ok()?.get(kind)?.name)
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
            Machine::PowerPc => "ppc32",
            Machine::PowerPc64 => "powerpc64",
            Machine::S390 => "s390x",
            Machine::LoongArch => "loongarch",
            Machine::Mips => "mips",
            Machine::PaRisc => "parisc",
            Machine::Sparc64 => "sparc64",
            Machine::Other(number) => return write!(f, "machine {number}"),
        })
    }
}

/// This build has nothing for a machine: its feature was left out, or there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBuilt(pub Machine);

impl fmt::Display for NotBuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this build has no {}", self.0)?;
        match self.0.feature() {
            Some(feature) => write!(f, "; build modmem with its feature \"{feature}\""),
            None => f.write_str(": modmem does not know its modules yet"),
        }
    }
}

impl core::error::Error for NotBuilt {}

/// `Ok` of `$body` with `$architecture` standing for the type that has what `$machine` decides, or [`NotBuilt`].
macro_rules! with_machine {
    ($machine:expr, $architecture:ident => $body:expr) => {{
        let machine: $crate::arch::Machine = $machine;
        match machine {
            #[cfg(feature = "x86_64")]
            $crate::arch::Machine::X86_64 => {
                type $architecture = $crate::arch::x86_64::X86_64;
                Ok($body)
            }
            #[cfg(feature = "arm64")]
            $crate::arch::Machine::Arm64 => {
                type $architecture = $crate::arch::arm64::Arm64;
                Ok($body)
            }
            #[cfg(feature = "s390x")]
            $crate::arch::Machine::S390 => {
                type $architecture = $crate::arch::s390x::S390x;
                Ok($body)
            }
            #[cfg(feature = "ppc32")]
            $crate::arch::Machine::PowerPc => {
                type $architecture = $crate::arch::ppc32::Ppc32;
                Ok($body)
            }
            other => Err($crate::arch::NotBuilt(other)),
        }
    }};
}
pub(crate) use with_machine;
