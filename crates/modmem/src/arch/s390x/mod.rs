//! s390x: GOT and PLT before the text.

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
use crate::image::elf::{Big64, ByteOrder, Class, Format};
use crate::layout::{LayoutError, Shapes};
use crate::link::relocation::{Expression, NUMBERS, Relocations};
use crate::profile::{KernelConfig, KernelVersion, MachineState, Profile, Switches};
#[cfg(feature = "finalize")]
use crate::{finalize::Rules, guest::Guest};

/// S390x.
#[derive(Debug)]
pub(crate) struct S390x;

impl Architecture for S390x {
    const FORMAT: Format = Format { class: Class::Elf64, order: ByteOrder::Big };
    type Encoding = Big64;
    type Stubs = stubs::Tables;
    /// Older assemblers leave it undefined (module.c:module_frob_arch_sections).
    const DEFINED: &'static [&'static str] = &["_GLOBAL_OFFSET_TABLE_"];
    /// Whether expolines are in use can be decided at boot.
    const STATES: &'static [MachineState] = &[
        MachineState { expolines: false, erratum_843419: false },
        MachineState { expolines: true, erratum_843419: false },
    ];

    const PROVEN: &'static [KernelVersion] =
        &[KernelVersion::new(6, 1), KernelVersion::new(6, 12), KernelVersion::new(7, 2)];

    const WORDS: &'static [super::words::KernelWord] = words::WORDS;

    fn switches(_: KernelVersion) -> Switches {
        Switches { prel32: false, livepatch: false, ..Switches::debian() }
    }

    fn bug_entry(version: KernelVersion) -> u64 {
        if version < KernelVersion::new(7, 0) { 12 } else { 16 }
    }

    fn setup(version: KernelVersion, config: Option<&KernelConfig<'_>>, place: Option<KernelPlace>) -> Setup {
        ranges::setup(version, config, place)
    }

    fn relocations(_: &MachineState) -> &'static Relocations {
        RELOCATIONS
    }

    fn shapes(image: &Image<'_>, profile: &Profile) -> Result<Shapes, LayoutError> {
        shapes::shapes(image, profile)
    }

    #[cfg(feature = "finalize")]
    fn rules(guest: &dyn Guest, profile: &Profile) -> Box<dyn Rules> {
        Box::new(finalize::Kernel::read(guest, profile))
    }
}

/// The table that a relocation needs an entry in.
const IN_GOT: u8 = 1;
const IN_PLT: u8 = 2;

/// The table that relocations of each type need an entry in, if any.
const TABLES: [u8; NUMBERS] = {
    let mut tables = [0; NUMBERS];
    let mut number = 0;
    while number < NUMBERS {
        if let Some(row) = RELOCATIONS.at(number) {
            tables[number] = match row.expression {
                Expression::GotEntryPlusAddend | Expression::GotEntryPlusAddendMinusPlace => IN_GOT,
                Expression::BranchMinusPlace
                | Expression::StubPlusAddendMinusPlace
                | Expression::StubPlusAddendMinusGot => IN_PLT,
                _ => 0,
            };
        }
        number += 1;
    }
    tables
};

#[inline]
fn tables_of(number: u32) -> u8 {
    TABLES.get(number as usize).copied().unwrap_or(0)
}
