//! What every machine says of itself: one implementation a folder.

#[cfg(feature = "finalize")]
use alloc::boxed::Box;
use core::ops::Range;

use super::words::KernelWord;
use crate::address::RunAddr;
use crate::image::Image;
use crate::image::elf::{Encoding, Format};
use crate::layout::{LayoutError, Shapes};
use crate::link::relocation::Relocations;
use crate::link::stubs::Stubs;
use crate::profile::{KernelConfig, KernelVersion, MachineState, Profile, Ranges, Switches};
#[cfg(feature = "finalize")]
use crate::{finalize::Rules, guest::Guest};

/// Where a kernel lies: on some machines the range of its modules follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelPlace {
    /// Its first byte: `_text`, on s390x `__kaslr_offset`.
    pub start: RunAddr,
    /// The end of its code: `_etext`.
    pub text_end: RunAddr,
    /// Its last byte: `_end`.
    pub end: RunAddr,
}

/// What a kernel's machine and configuration make of a profile.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Bytes of a page.
    pub(crate) page_size: u64,
    /// Where modules lie.
    pub(crate) ranges: Ranges,
    /// Bytes of the huge pages that text is cut from, if it is.
    pub(crate) text_pack: Option<u64>,
}

/// One machine.
pub(crate) trait Architecture {
    /// Width and byte order of its modules and kernels.
    const FORMAT: Format;
    /// The same for loops that know it when they are compiled.
    type Encoding: Encoding;
    /// Whether a field must be zero before it is relocated.
    const ZERO_BEFORE: bool = false;
    /// Exported symbols that the kernel's linker script makes of others, and that kallsyms does not list: name, the
    /// other, and how far behind that it lies.
    const MADE_SYMBOLS: &'static [(&'static str, &'static str, u64)] = &[];
    /// The tables that its modules reach others through.
    type Stubs: Stubs;
    /// Undefined symbols that the loader makes absolute and does not look up.
    const DEFINED: &'static [&'static str] = &[];

    /// Undefined symbols that need no definition (main.c:ignore_undef_symbol).
    const IGNORED: &'static [&'static str] = &[];

    /// States of the machine that sizes depend on, besides the one that a profile begins with.
    const STATES: &'static [MachineState] = &[];

    /// The versions of which running kernels were compared with, all bytes of text and read-only data (docs/verify.md
    /// has the boots), the oldest first.
    const PROVEN: &'static [KernelVersion];

    /// The kernel's variables that decide how code is patched.
    const WORDS: &'static [KernelWord];

    /// What Debian's kernels are configured to be, where nothing else tells.
    fn switches(version: KernelVersion) -> Switches;

    /// Page size and ranges. Without a configuration Debian's is meant; without a `place` the kernel lies where it was
    /// linked to lie.
    fn setup(version: KernelVersion, config: Option<&KernelConfig<'_>>, place: Option<KernelPlace>) -> Setup;

    /// Where the kernel maps all of the machine's memory, and what it allocates lies; empty where no rule asks.
    fn linear_map(_version: KernelVersion, _config: Option<&KernelConfig<'_>>) -> Range<RunAddr> {
        Range::default()
    }

    /// Whether others than modules have memory at an address in the range that is tried last.
    fn is_shared(_profile: &Profile, _address: RunAddr) -> bool {
        false
    }

    /// Bytes of `struct bug_entry` with relative pointers: with a format (HAVE_ARCH_BUG_FORMAT) four more.
    fn bug_entry(_version: KernelVersion) -> u64 {
        12
    }

    /// Moves the ranges as a random number of KASLR's does: here everything behind their start.
    fn shift(ranges: &mut Ranges, bytes: u64) {
        for range in [&mut ranges.text, &mut ranges.data] {
            range.start = RunAddr(range.start.0.saturating_add(bytes)).min(range.end);
        }
    }

    /// What the version magic of its modules ends with (include/asm/vermagic.h).
    fn vermagic(_config: &KernelConfig<'_>) -> &'static str {
        ""
    }

    /// Its relocations, on a machine in that state.
    fn relocations(state: &MachineState) -> &'static Relocations;

    /// The headers of sections that the loader changes before it lays a module out.
    fn shapes(_image: &Image<'_>, _profile: &Profile) -> Result<Shapes, LayoutError> {
        Ok(Shapes::default())
    }

    /// What its kernels do to a module after relocation.
    #[cfg(feature = "finalize")]
    fn rules(guest: &dyn Guest, profile: &Profile) -> Box<dyn Rules>;
}
