//! arm64: a PLT in two sections that the loader sizes, for branches that do not reach.

#[cfg(feature = "finalize")]
mod finalize;
mod insn;
mod ranges;
mod relocations;
mod shapes;
mod stubs;
mod words;

#[cfg(feature = "finalize")]
use alloc::boxed::Box;
use core::ops::Range;

pub use relocations::RELOCATIONS;

use super::architecture::{Architecture, KernelPlace, Setup};
use crate::address::RunAddr;
use crate::image::Image;
use crate::image::elf::{ByteOrder, Class, Format, Little64};
use crate::layout::{LayoutError, Shapes};
use crate::link::relocation::Relocations;
use crate::profile::{KernelConfig, KernelVersion, MachineState, Profile, Ranges, Switches};
#[cfg(feature = "finalize")]
use crate::{finalize::Rules, guest::Guest};

/// Arm64.
#[derive(Debug)]
pub(crate) struct Arm64;

impl Architecture for Arm64 {
    const FORMAT: Format = Format { class: Class::Elf64, order: ByteOrder::Little };
    type Encoding = Little64;
    type Stubs = stubs::Plts;
    const STATES: &'static [MachineState] = &[MachineState { erratum_843419: true, expolines: false }];

    const PROVEN: &'static [KernelVersion] =
        &[KernelVersion::new(6, 1), KernelVersion::new(6, 12), KernelVersion::new(7, 3)];

    const WORDS: &'static [super::words::KernelWord] = words::WORDS;

    fn switches(_: KernelVersion) -> Switches {
        Switches { livepatch: false, ..Switches::debian() }
    }

    fn setup(version: KernelVersion, config: Option<&KernelConfig<'_>>, place: Option<KernelPlace>) -> Setup {
        ranges::setup(version, config, place)
    }

    fn linear_map(version: KernelVersion, config: Option<&KernelConfig<'_>>) -> Range<RunAddr> {
        ranges::linear_map(version, config)
    }

    fn is_shared(profile: &Profile, address: RunAddr) -> bool {
        ranges::is_shared(profile, address)
    }

    fn shift(ranges: &mut Ranges, bytes: u64) {
        ranges::shift(ranges, bytes);
    }

    fn vermagic(_: &KernelConfig<'_>) -> &'static str {
        "aarch64"
    }

    fn relocations(state: &MachineState) -> &'static Relocations {
        if state.erratum_843419 { relocations::WITH_ERRATUM } else { RELOCATIONS }
    }

    fn shapes(image: &Image<'_>, profile: &Profile) -> Result<Shapes, LayoutError> {
        shapes::shapes(image, profile)
    }

    #[cfg(feature = "finalize")]
    fn rules(guest: &dyn Guest, _: &Profile) -> Box<dyn Rules> {
        Box::new(finalize::Kernel::read(guest))
    }
}
