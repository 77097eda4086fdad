//! Why a module cannot be laid out for a kernel.

use core::fmt;

use super::MemoryKind;
use crate::arch::{Machine, NotBuilt};
use crate::image::SectionLabel;
use crate::image::elf::Format;

/// Why a module cannot be laid out under a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// The module is for another machine than the kernel.
    OtherMachine {
        /// The module's.
        module: Machine,
        /// The kernel's.
        kernel: Machine,
    },
    /// The module has addresses of another width, or another byte order, than kernels for its machine.
    OtherFormat {
        /// The module's.
        module: Format,
        /// The kernel's.
        kernel: Format,
    },
    /// This build has nothing for the machine.
    Machine(NotBuilt),
    /// The loader keeps a table in a section of that name, and the module has none.
    NoTable {
        /// The section's name.
        section: &'static str,
    },
    /// A relocation names a symbol that the module does not have, in a section that is not loaded: the loader counts
    /// its tables' entries there too.
    NoSuchSymbol {
        /// The relocation section.
        section: SectionLabel,
        /// Index of the relocation.
        entry: usize,
        /// Index of the symbol.
        symbol: u32,
        /// How many the module has.
        count: usize,
    },
    /// `.gnu.linkonce.this_module` is not as large as the kernel's `struct module`.
    OtherThisModule {
        /// The section.
        section: SectionLabel,
        /// Its size.
        found: u64,
        /// `sizeof(struct module)`.
        expected: u64,
    },
    /// `struct module` lies in a memory that is made read-only, and the kernel writes to it as long as the module is
    /// there; 6.4 and later free that memory before they are done with it (main.c:free_mod_mem).
    ThisModuleReadOnly {
        /// The section.
        section: SectionLabel,
        /// The memory that its flags lead to.
        kind: MemoryKind,
    },
    /// A section is writable and executable at once.
    WritableAndExecutable {
        /// The section.
        section: SectionLabel,
    },
    /// Two sections that are loaded have one name, of which sysfs would make one file (-EEXIST).
    DuplicateSections {
        /// The earlier one.
        first: SectionLabel,
        /// The later one.
        second: SectionLabel,
    },
    /// The pointer to a function of the module is not where the kernel's `struct module` has it.
    OtherEntry {
        /// The section.
        section: SectionLabel,
        /// Which one: init or exit.
        entry: &'static str,
        /// Its offset in the section.
        found: u64,
        /// Its offset in the kernel's `struct module`.
        expected: u64,
    },
    /// A memory grows past 4 GiB.
    TooLarge {
        /// Which memory.
        kind: MemoryKind,
        /// The size that did not fit.
        size: u64,
    },
    /// Both `.ctors` and `.init_array` are there.
    TwoKindsOfConstructors,
    /// No memory for our own bookkeeping.
    OutOfMemory,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::OtherMachine { module, kernel } => {
                write!(f, "the module is for {module}, the kernel is for {kernel}")
            }
            LayoutError::OtherFormat { module, kernel } => {
                write!(f, "the module is {module}, the kernel is {kernel}")
            }
            LayoutError::Machine(machine) => machine.fmt(f),
            LayoutError::NoTable { section } => write!(
                f,
                "no section {section}, in which Linux makes a table of its own; linked without the kernel's module.lds?"
            ),
            LayoutError::NoSuchSymbol { section, entry, symbol, count } => write!(
                f,
                "{section} entry {entry}: symbol {symbol} of {count}; Linux looks at the relocations of all sections here, those of sections that are not loaded included"
            ),
            LayoutError::OtherThisModule { section, found, expected } => write!(
                f,
                "{section}: section size must match the kernel's built struct module size at run time: it is {found:#x}, not {expected:#x}; built for another kernel or configuration (ENOEXEC)"
            ),
            LayoutError::ThisModuleReadOnly { section, kind } => write!(
                f,
                "{section}: its flags lead to {kind}, and the kernel writes to struct module: it must be plain data"
            ),
            LayoutError::WritableAndExecutable { section } => {
                write!(f, "{section}: writable and executable at once, which Linux refuses")
            }
            LayoutError::DuplicateSections { first, second } => write!(
                f,
                "{first} and {second} have one name: sysfs: cannot create duplicate filename (EEXIST)"
            ),
            LayoutError::OtherEntry { section, entry, found, expected } => write!(
                f,
                "{section}: the module's {entry} is at offset {found:#x}, struct module of this kernel has it at {expected:#x}; built for another kernel or configuration (ENOEXEC)"
            ),
            LayoutError::TooLarge { kind, size } => {
                write!(f, "{kind} would take {size:#x} bytes, more than the 4 GiB that Linux can count")
            }
            LayoutError::TwoKindsOfConstructors => {
                f.write_str("both .ctors and .init_array are there; Linux takes one of them")
            }
            LayoutError::OutOfMemory => f.write_str("out of memory while laying out"),
        }
    }
}

impl core::error::Error for LayoutError {}

impl From<NotBuilt> for LayoutError {
    fn from(machine: NotBuilt) -> LayoutError {
        LayoutError::Machine(machine)
    }
}
