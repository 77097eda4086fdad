//! Where arm64 puts modules (arch/arm64/mm/init.c:module_init_limits, execmem_arch_setup; before 6.5
//! arch/arm64/kernel/module.c:module_alloc).
//!
//! Within 128 MiB around the kernel its code can be called without a PLT entry; when that is full, or where the
//! configuration wants it so, modules go anywhere within 2 GiB.

use core::ops::Range;

use crate::address::RunAddr;
use crate::arch::{KernelPlace, Setup};
use crate::profile::{KernelConfig, KernelVersion, Profile, Ranges};

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
    let linked = linked_at(version, config);
    let place = place.unwrap_or(KernelPlace {
        start: linked,
        text_end: linked + USUAL_TEXT,
        end: linked + USUAL_SIZE,
    });
    let moved = place.start.0.wrapping_sub(linked.0) >= SMALLEST_MOVE;
    let anywhere = moved && config.is_some_and(|config| config.is_set("RANDOMIZE_MODULE_REGION_FULL"));
    let (text, fallback) = match version < KernelVersion::new(6, 5) {
        true => old_windows(place, moved, anywhere),
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
/// for modules, which begin where the linear map ends.
fn linked_at(version: KernelVersion, config: Option<&KernelConfig<'_>>) -> RunAddr {
    let kept = if version < KernelVersion::new(6, 5) { DIRECT } else { THROUGH_PLT };
    RunAddr(linear_map(version, config).end.0.wrapping_add(kept))
}

/// The linear map (arch/arm64/include/asm/memory.h:PAGE_OFFSET, PAGE_END): from as many bits of an address as the kernel
/// was built for on, to the half of as many as every CPU has.
pub(super) fn linear_map(version: KernelVersion, config: Option<&KernelConfig<'_>>) -> Range<RunAddr> {
    let bits = config.and_then(|config| config.number("ARM64_VA_BITS")).unwrap_or(48);
    let (bits, of_every_cpu) = match bits {
        49..=52 if page_size(config) == 16 << 10 && version >= KernelVersion::new(6, 9) => (bits, 47),
        49..=52 => (bits, 48),
        36..=48 => (bits, bits),
        _ => (48, 48),
    };
    RunAddr(u64::MAX << bits)..RunAddr(u64::MAX << (of_every_cpu - 1))
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

/// The same before 6.5 (arch/arm64/kernel/kaslr.c:kaslr_init): the first window ends with the kernel's code, the second
/// begins where the first does. Where the kernel was moved, they lie at random: here is all of where they can be.
fn old_windows(place: KernelPlace, moved: bool, anywhere: bool) -> (Range<RunAddr>, Option<Range<RunAddr>>) {
    let usual = RunAddr(place.text_end.0.wrapping_sub(DIRECT));
    let (first, last) = match (moved, anywhere) {
        (false, _) => (usual, usual),
        (true, false) => (usual, place.start),
        (true, true) => (RunAddr(place.end.0.wrapping_sub(THROUGH_PLT)), place.start),
    };
    (first..last + DIRECT, Some(first..last + THROUGH_PLT))
}

/// Whether others than modules have memory at an address that their windows contain: before 6.5 the second window reaches
/// into vmalloc, which begins where the kernel does that was not moved. A kernel that was moved lies, with both windows,
/// in the midst of vmalloc, which is filled from its start.
pub(super) fn is_shared(profile: &Profile, address: RunAddr) -> bool {
    let vmalloc = profile.linear_map.end + DIRECT;
    profile.version < KernelVersion::new(6, 5) && profile.ranges.text.start < vmalloc && address >= vmalloc
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
