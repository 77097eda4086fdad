//! x86-64: no PLT and no GOT, because the kernel and its modules share the top 2 GiB of the address space.

#[cfg(feature = "finalize")]
mod finalize;
mod ranges;
mod relocations;
mod words;

#[cfg(feature = "finalize")]
use alloc::boxed::Box;

pub use relocations::RELOCATIONS;

use super::architecture::{Architecture, KernelPlace, Setup};
use crate::image::elf::{ByteOrder, Class, Format, Little64};
use crate::link::relocation::Relocations;
use crate::link::stubs::NoStubs;
use crate::profile::{KernelConfig, KernelVersion, MachineState, Switches};
#[cfg(feature = "finalize")]
use crate::{finalize::Rules, guest::Guest, profile::Profile};

/// x86-64.
#[derive(Debug)]
pub(crate) struct X86_64;

impl Architecture for X86_64 {
    const FORMAT: Format = Format { class: Class::Elf64, order: ByteOrder::Little };
    type Encoding = Little64;
    const ZERO_BEFORE: bool = true;
    const IGNORED: &'static [&'static str] = &["_GLOBAL_OFFSET_TABLE_"];
    type Stubs = NoStubs;

    const PROVEN: &'static [KernelVersion] = &[
        KernelVersion::new(5, 10),
        KernelVersion::new(6, 1),
        KernelVersion::new(6, 12),
        KernelVersion::new(6, 16),
        KernelVersion::new(6, 17),
        KernelVersion::new(7, 2),
        KernelVersion::new(7, 3),
    ];

    const WORDS: &'static [super::words::KernelWord] = words::WORDS;

    /// What Debian sets in 6.1 and 6.12; 7.2 compares no CRCs.
    fn switches(version: KernelVersion) -> Switches {
        Switches { modversions: version < KernelVersion::new(6, 15), ..Switches::debian() }
    }

    fn bug_entry(version: KernelVersion) -> u64 {
        if version < KernelVersion::new(6, 19) { 12 } else { 16 }
    }

    fn setup(version: KernelVersion, config: Option<&KernelConfig<'_>>, _: Option<KernelPlace>) -> Setup {
        ranges::setup(version, config)
    }

    fn relocations(_: &MachineState) -> &'static Relocations {
        RELOCATIONS
    }

    #[cfg(feature = "finalize")]
    fn rules(guest: &dyn Guest, _: &Profile) -> Box<dyn Rules> {
        Box::new(finalize::Kernel::read(guest))
    }
}
