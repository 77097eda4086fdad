//! Why a module cannot be linked.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::relocation::Check;
use crate::arch::NotBuilt;
use crate::image::SectionLabel;

/// Why a module cannot be linked to a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// This build has nothing for the module's machine.
    Machine(NotBuilt),
    /// The module was built for another kernel.
    VersionMagic {
        /// The module's, empty if it has none.
        module: Box<str>,
        /// The kernel's.
        kernel: Box<str>,
    },
    /// The module's versions in their extended form are incomplete.
    ExtendedVersions {
        /// What is wrong, in Linux's words.
        problem: &'static str,
    },
    /// The placement was made from the layout of another image, or by another profile.
    OtherImage,
    /// The module has percpu data and the placement has no place for it
    /// ([`Placement::with_percpu`](super::Placement::with_percpu)).
    NoPerCpuPlace,
    /// Symbols that the module needs and cannot have: all of them.
    Unresolved(Vec<Unresolved>),
    /// A symbol is SHN_COMMON.
    Common {
        /// Its name.
        symbol: Box<str>,
    },
    /// A relocation cannot be applied.
    Relocation(Box<RelocationError>),
    /// An entry of an export table cannot be what it should be.
    BadExport {
        /// The table.
        section: SectionLabel,
        /// Which entry.
        entry: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The module exports symbols without CRCs and the kernel compares CRCs.
    ExportsWithoutVersions {
        /// The table.
        section: SectionLabel,
    },
    /// The module exports symbols, and does not say by `__kflagstab` to whom, as kernels since 7.1 want it (-ENOEXEC).
    ExportsWithoutFlags {
        /// The table.
        section: SectionLabel,
    },
    /// The module imports a namespace that is open to the modules that it names only, and that nobody can import.
    ImportsModuleNamespace {
        /// The namespace.
        namespace: Box<str>,
    },
    /// Livepatch cannot apply its own relocations (-EINVAL).
    Livepatch {
        /// The symbol or section.
        name: Box<str>,
        /// What is wrong.
        problem: LivepatchProblem,
    },
    /// The module is a live patch, and the kernel was built without (-ENOEXEC).
    NoLivepatch,
    /// No memory for our own bookkeeping.
    OutOfMemory,
}

/// What is wrong with a relocation of livepatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LivepatchProblem {
    /// A section's name is not `.klp.rela.OBJECT.SECTION`.
    SectionName,
    /// A symbol's name is not `.klp.sym.OBJECT.NAME,POSITION`.
    SymbolName,
    /// The symbol is not SHN_LIVEPATCH.
    NotMarked,
    /// There is no such symbol.
    Absent,
    /// There are several, and no position says which is meant.
    Ambiguous,
    /// There are fewer of that name than the position says.
    NoSuchPosition,
}

impl fmt::Display for LivepatchProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LivepatchProblem::SectionName | LivepatchProblem::SymbolName => "incorrectly formatted name",
            LivepatchProblem::NotMarked => "not marked as a livepatch symbol",
            LivepatchProblem::Absent => "not found in symbol table",
            LivepatchProblem::Ambiguous => "unresolvable ambiguity",
            LivepatchProblem::NoSuchPosition => "symbol position not found",
        })
    }
}

/// A symbol that could not be resolved, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Its name.
    pub symbol: Box<str>,
    /// Why not.
    pub reason: Reason,
}

/// Why a symbol could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody exports it.
    Absent,
    /// Only GPL-compatible modules may use it and this one is not.
    GplOnly,
    /// It comes from a proprietary module, and this one uses symbols that are for GPL-compatible modules only.
    ProprietaryOwner,
    /// Its CRC differs from the one that the module was built against.
    Version {
        /// CRC that the module has.
        module: u64,
        /// CRC that the provider has.
        provider: u32,
    },
    /// The module has CRCs, but none for this symbol.
    NoVersion,
    /// It is in a namespace that the module does not import.
    Namespace(Box<str>),
    /// It belongs to a module that is still loading.
    Busy(Box<str>),
}

/// A relocation that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelocationError {
    /// The relocation section.
    pub section: SectionLabel,
    /// Which of its entries.
    pub entry: usize,
    /// Type number.
    pub kind: u32,
    /// The type's name, if modules of this machine may carry it.
    pub name: Option<&'static str>,
    /// `r_offset`
    pub offset: u64,
    /// The symbol's name, or its section's.
    pub symbol: Box<str>,
    /// What is wrong.
    pub problem: RelocationProblem,
}

/// What is wrong with a relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelocationProblem {
    /// Modules of this machine may not carry the type.
    UnknownType,
    /// The field does not lie in the target section.
    OutsideSection {
        /// Bytes of the section.
        size: u64,
    },
    /// The value does not fit its field.
    Overflow {
        /// The value.
        value: u64,
        /// What it must fit.
        check: Check,
    },
    /// The field is not zero before it is written.
    NotZero {
        /// What it is.
        found: u64,
    },
    /// The loader's table that the module would reach the symbol through is full.
    TableFull {
        /// The section that it is in.
        table: &'static str,
    },
    /// No memory for that table.
    OutOfMemory,
    /// The section has no addends, and this machine's relocations need them.
    NoAddends,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Absent => f.write_str("nobody exports it"),
            Reason::GplOnly => f.write_str("exported to GPL-compatible modules only"),
            Reason::ProprietaryOwner => {
                f.write_str("from a proprietary module, and the module uses GPL-only symbols")
            }
            Reason::Version { module, provider } => {
                write!(f, "disagrees about its version: built against {module:#010x}, found {provider:#010x}")
            }
            Reason::NoVersion => {
                f.write_str("no symbol version for it in the module, which this kernel refuses")
            }
            Reason::Namespace(name) => write!(f, "in namespace {name}, which the module does not import"),
            Reason::Busy(module) => write!(f, "its module {module} is still loading"),
        }
    }
}

impl fmt::Display for RelocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entry {} (", self.section, self.entry)?;
        match self.name {
            Some(name) => f.write_str(name)?,
            None => write!(f, "type {}", self.kind)?,
        }
        write!(f, ", offset {:#x}", self.offset)?;
        if !self.symbol.is_empty() {
            write!(f, ", against \"{}\"", self.symbol)?;
        }
        f.write_str("): ")?;
        match self.problem {
            RelocationProblem::UnknownType => f.write_str("modules of this machine may not carry this type"),
            RelocationProblem::OutsideSection { size } => {
                write!(f, "the field does not lie in the target section of {size:#x} bytes")
            }
            RelocationProblem::Overflow { value, check } => write!(
                f,
                "value {value:#x} does not fit in {check}; the symbol lies out of reach, or the module was compiled for another code model (on x86-64 it must be -mcmodel=kernel)"
            ),
            RelocationProblem::NotZero { found } => {
                write!(f, "the field holds {found:#x} and must be zero before it is relocated")
            }
            RelocationProblem::TableFull { table } => {
                write!(f, "the symbol lies out of reach, and {table} has no entry left to reach it through")
            }
            RelocationProblem::OutOfMemory => f.write_str("out of memory for its stub"),
            RelocationProblem::NoAddends => f.write_str("SHT_REL, and this machine's modules use SHT_RELA"),
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Machine(machine) => machine.fmt(f),
            LinkError::VersionMagic { module, kernel } if module.is_empty() => {
                write!(f, "no version magic; the kernel's is \"{kernel}\"")
            }
            LinkError::VersionMagic { module, kernel } => {
                write!(f, "version magic \"{module}\" should be \"{kernel}\"")
            }
            LinkError::NoPerCpuPlace => f.write_str("the module's percpu data has been given no place"),
            LinkError::ExtendedVersions { problem } => f.write_str(problem),
            LinkError::OtherImage => {
                f.write_str("the placement was made for another image or by another profile")
            }
            LinkError::Unresolved(symbols) => {
                let plural = if symbols.len() == 1 { "" } else { "s" };
                write!(f, "{} symbol{plural} cannot be resolved:", symbols.len())?;
                for Unresolved { symbol, reason } in symbols {
                    write!(f, "\n  {symbol}: {reason}")?;
                }
                Ok(())
            }
            LinkError::Common { symbol } => {
                write!(f, "symbol \"{symbol}\" is common; compile with -fno-common")
            }
            LinkError::Relocation(error) => error.fmt(f),
            LinkError::BadExport { section, entry, problem } => {
                write!(f, "{section} entry {entry}: {problem}")
            }
            LinkError::ExportsWithoutVersions { section } => {
                write!(
                    f,
                    "{section}: symbols are exported without versions, and the kernel compares versions"
                )
            }
            LinkError::ExportsWithoutFlags { section } => {
                write!(f, "{section}: no flags for exported symbols: no __kflagstab, as before 7.1 (ENOEXEC)")
            }
            LinkError::ImportsModuleNamespace { namespace } => {
                write!(f, "tries to import the module namespace {namespace}")
            }
            LinkError::Livepatch { name, problem } => write!(f, "livepatch: {name}: {problem} (EINVAL)"),
            LinkError::NoLivepatch => f.write_str(
                "the module is marked as livepatch module, but livepatch support is disabled (ENOEXEC)",
            ),
            LinkError::OutOfMemory => f.write_str("out of memory while linking"),
        }
    }
}

impl core::error::Error for LinkError {}

impl From<NotBuilt> for LinkError {
    fn from(machine: NotBuilt) -> LinkError {
        LinkError::Machine(machine)
    }
}
