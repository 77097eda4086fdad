//! Where arm64 puts modules (arch/arm64/mm/init.c:module_init_limits, execmem_arch_setup; before 6.5
//! arch/arm64/kernel/module.c:module_alloc).
//!
//! Within 128 MiB around the kernel its code can be called without a PLT entry; when that is full, or where the
//! configuration wants it so, modules go anywhere within 2 GiB.

use core::ops::Range;

use crate::address::RunAddr;
use crate::arch::{KernelPlace, Setup};
use crate::profile::{KernelConfig, KernelVersion, Ranges};

const MIB: u64 = 1 << 20;
/// What a branch reaches.
const DIRECT: u64 = 128 * MIB;
/// What ADRP reaches, at least.
const THROUGH_PLT: u64 = 2048 * MIB;
/// A kernel that lies so far behind where it was linked to be has been moved at random (MIN_KIMG_ALIGN).
const SMALLEST_MOVE: u64 = 2 * MIB;

/// Code, and all, of Debian's kernel: what a kernel whose place is not known is taken for.
const USUAL_TEXT: u64 = 0x00f5_0000;
const USUAL_SIZE: u64 = 0x02b3_0000;

/// Page size and ranges of a kernel.
pub(super) fn setup(
    version: KernelVersion,
    config: Option<&KernelConfig<'_>>,
    place: Option<KernelPlace>,
) -> Setup {
    let page_size = page_size(config);
    let linked = linked_at(version, config, page_size);
    let place = place.unwrap_or(KernelPlace {
        start: linked,
        text_end: linked + USUAL_TEXT,
        end: linked + USUAL_SIZE,
    });
    let moved = place.start.0.wrapping_sub(linked.0) >= SMALLEST_MOVE;
    let anywhere = moved && config.is_some_and(|config| config.is_set("RANDOMIZE_MODULE_REGION_FULL"));
    let (text, fallback) = match version < KernelVersion::new(6, 5) {
        true => old_windows(place),
        false => windows(place, anywhere),
    };
    Setup { page_size, ranges: Ranges { text: text.clone(), data: text, fallback }, text_pack: None }
}

fn page_size(config: Option<&KernelConfig<'_>>) -> u64 {
    let set = |name| config.is_some_and(|config| config.is_set(name));
    match () {
        () if set("ARM64_16K_PAGES") => 16 << 10,
        () if set("ARM64_64K_PAGES") => 64 << 10,
        () => 4 << 10,
    }
}

/// Where a kernel is linked to lie (arch/arm64/include/asm/memory.h:KIMAGE_VADDR): behind the addresses that are kept
/// for modules, which begin where the linear map ends, with as many bits of an address as every CPU has.
fn linked_at(version: KernelVersion, config: Option<&KernelConfig<'_>>, page_size: u64) -> RunAddr {
    let bits = config.and_then(|config| config.number("ARM64_VA_BITS")).unwrap_or(48);
    let bits = match bits {
        49.. if page_size == 16 << 10 && version >= KernelVersion::new(6, 9) => 47,
        36..=47 => bits,
        _ => 48,
    };
    let kept = if version < KernelVersion::new(6, 5) { DIRECT } else { THROUGH_PLT };
    RunAddr((u64::MAX << (bits - 1)).wrapping_add(kept))
}

/// The window that modules go to, and the one that is tried next.
///
/// Both contain the kernel. Where it lies in them is random if the kernel itself was moved at random; without that, or
/// where it is not known how far they were moved, they end with the kernel.
fn windows(place: KernelPlace, anywhere: bool) -> (Range<RunAddr>, Option<Range<RunAddr>>) {
    let size = place.end.0.wrapping_sub(place.start.0);
    let window = |reach: u64| RunAddr(place.end.0.wrapping_sub(reach))..place.end;
    let through_plt = (size < THROUGH_PLT).then(|| window(THROUGH_PLT));
    match (size < DIRECT && !anywhere, through_plt) {
        (true, through_plt) => (window(DIRECT), through_plt),
        (false, Some(through_plt)) => (through_plt, None),
        // Nothing is tried: Linux loads no module then.
        (false, None) => (place.end..place.end, None),
    }
}

/// The same before 6.5: the first window ends with the kernel's code, the second begins where the first does.
fn old_windows(place: KernelPlace) -> (Range<RunAddr>, Option<Range<RunAddr>>) {
    let start = RunAddr(place.text_end.0.wrapping_sub(DIRECT));
    (start..place.text_end, Some(start..start + THROUGH_PLT))
}

/// Moves the windows up by so many bytes, as KASLR does, but not past the kernel that they contain.
pub(super) fn shift(ranges: &mut Ranges, bytes: u64) {
    for range in
        [Some(&mut ranges.text), Some(&mut ranges.data), ranges.fallback.as_mut()].into_iter().flatten()
    {
        let room = u64::MAX - range.end.0;
        let bytes = bytes.min(room);
        *range = range.start + bytes..range.end + bytes;
    }
}
