//! arm64: a PLT in two sections that the loader sizes, for branches that do not reach.

#[cfg(feature = "verify")]
mod patching;
mod ranges;
mod relocations;

#[cfg(feature = "verify")]
use alloc::boxed::Box;

pub use relocations::RELOCATIONS;

use super::architecture::{Architecture, KernelPlace, Setup};
use crate::image::elf::{ByteOrder, Class, Format, Little64};
use crate::link::relocation::Relocations;
use crate::link::stubs::NoStubs;
use crate::profile::{KernelConfig, KernelVersion, MachineState, Switches};
#[cfg(feature = "verify")]
use crate::{
    profile::Profile,
    verify::{Guest, rules::Rules},
};

/// Arm64.
#[derive(Debug)]
pub(crate) struct Arm64;

impl Architecture for Arm64 {
    const FORMAT: Format = Format { class: Class::Elf64, order: ByteOrder::Little };
    type Encoding = Little64;
    type Stubs = NoStubs;

    fn switches(_: KernelVersion) -> Switches {
        Switches::debian()
    }

    fn setup(_: KernelVersion, config: Option<&KernelConfig<'_>>, place: Option<KernelPlace>) -> Setup {
        ranges::setup(config, place)
    }

    fn relocations(_: &MachineState) -> &'static Relocations {
        RELOCATIONS
    }

    #[cfg(feature = "verify")]
    fn rules(guest: &dyn Guest, _: &Profile) -> Box<dyn Rules> {
        Box::new(patching::Kernel::read(guest))
    }
}
