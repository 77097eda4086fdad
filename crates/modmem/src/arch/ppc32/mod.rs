//! 32-bit PowerPC: text below the kernel, data far away in vmalloc, and a PLT for branches that do not reach.

#[cfg(feature = "finalize")]
mod finalize;
mod ranges;
mod relocations;
mod shapes;
mod stubs;
mod words;

#[cfg(feature = "finalize")]
use alloc::boxed::Box;

pub use relocations::RELOCATIONS;

use super::architecture::{Architecture, KernelPlace, Setup};
use crate::image::Image;
use crate::image::elf::{Big32, ByteOrder, Class, Format};
use crate::layout::{LayoutError, Shapes};
use crate::link::relocation::Relocations;
use crate::profile::{KernelConfig, KernelVersion, MachineState, Profile, Switches};
#[cfg(feature = "finalize")]
use crate::{finalize::Rules, guest::Guest};

/// 32-bit PowerPC, of Book III-S (`PPC_BOOK3S_32`), 8xx and others.
#[derive(Debug)]
pub(crate) struct Ppc32;

impl Architecture for Ppc32 {
    const FORMAT: Format = Format { class: Class::Elf32, order: ByteOrder::Big };
    type Encoding = Big32;
    /// arch/powerpc/kernel/vmlinux.lds.S: the lower half of 64 bits.
    const MADE_SYMBOLS: &'static [(&'static str, &'static str, u64)] = &[("jiffies", "jiffies_64", 4)];
    type Stubs = stubs::Plt;

    const PROVEN: &'static [KernelVersion] = &[KernelVersion::new(6, 12)];

    const WORDS: &'static [super::words::KernelWord] = words::WORDS;

    /// What arch/powerpc/Kconfig selects for Book III-S, with Debian's settings otherwise.
    fn switches(_: KernelVersion) -> Switches {
        Switches { prel32: false, data_in_vmalloc: true, livepatch: false, ..Switches::debian() }
    }

    fn setup(_: KernelVersion, config: Option<&KernelConfig<'_>>, place: Option<KernelPlace>) -> Setup {
        ranges::setup(config, place)
    }

    fn vermagic(config: &KernelConfig<'_>) -> &'static str {
        let patchable = config.is_set("ARCH_USING_PATCHABLE_FUNCTION_ENTRY");
        match (patchable, config.is_set("MPROFILE_KERNEL"), config.is_set("RELOCATABLE")) {
            (true, _, true) => "patchable-function-entry relocatable ",
            (true, _, false) => "patchable-function-entry ",
            (false, true, true) => "mprofile-kernel relocatable ",
            (false, true, false) => "mprofile-kernel ",
            (false, false, true) => "relocatable ",
            (false, false, false) => "",
        }
    }

    fn relocations(_: &MachineState) -> &'static Relocations {
        RELOCATIONS
    }

    fn shapes(image: &Image<'_>, profile: &Profile) -> Result<Shapes, LayoutError> {
        shapes::shapes(image, profile)
    }

    #[cfg(feature = "finalize")]
    fn rules(guest: &dyn Guest, _: &Profile) -> Box<dyn Rules> {
        Box::new(finalize::Kernel::read(guest))
    }
}
