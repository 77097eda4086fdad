//! Where 32-bit PowerPC puts modules: text below the kernel or near it, so that branches reach, and data wherever
//! vmalloc has room (arch/powerpc/mm/mem.c:execmem_arch_setup).

use core::ops::Range;

use crate::address::{RunAddr, align_up};
use crate::arch::{KernelPlace, Setup};
use crate::profile::{KernelConfig, Ranges};

/// How far a branch reaches.
const REACH: u64 = 32 << 20;
/// What Kconfig asks for where nothing is set: CONFIG_PAGE_OFFSET, CONFIG_LOWMEM_SIZE, CONFIG_MODULES_SIZE in MiB.
const PAGE_OFFSET: u64 = 0xc000_0000;
const LOWMEM_SIZE: u64 = 0x3000_0000;
const MODULES_SIZE: u64 = 64;
const MODULES_SIZE_8XX: u64 = 32;
/// Bytes of the code of an ordinary kernel, for one of which nobody says where it ends.
const ORDINARY_TEXT: u64 = 8 << 20;
/// What is left free behind the memory that the kernel has mapped (VMALLOC_OFFSET).
const VMALLOC_GAP: u64 = 16 << 20;
/// The vmalloc range ends where what was mapped early begins, below the fixed mappings: 12 to 16 MiB from the top on
/// the machines that there are (`ioremap_bot`).
const VMALLOC_END: u64 = 0xff00_0000;

/// Page size and ranges of a kernel.
pub(super) fn setup(config: Option<&KernelConfig<'_>>, place: Option<KernelPlace>) -> Setup {
    let number = |name, otherwise| config.and_then(|config| config.number(name)).unwrap_or(otherwise);
    let set = |name| config.is_some_and(|config| config.is_set(name));
    let page_offset = number("PAGE_OFFSET", PAGE_OFFSET);
    let data = vmalloc(page_offset.saturating_add(number("LOWMEM_SIZE", LOWMEM_SIZE)));
    let end = match config {
        _ if set("PPC_8xx") => page_offset,
        // ALIGN_DOWN(PAGE_OFFSET, SZ_256M): a segment of its own, which may be executable.
        None => page_offset & !0x0fff_ffff,
        Some(_) if set("PPC_BOOK3S_32") => page_offset & !0x0fff_ffff,
        // All others have one range for everything.
        Some(_) => return setup_of(number("PAGE_SHIFT", 12), data.clone(), data, None),
    };
    let default_size = if set("PPC_8xx") { MODULES_SIZE_8XX } else { MODULES_SIZE };
    let size = number("MODULES_SIZE", default_size).min(256) << 20;
    let all = RunAddr(end.saturating_sub(size))..RunAddr(end);
    let linked_end = || number("KERNEL_START", page_offset).saturating_add(ORDINARY_TEXT);
    let text_end = place.map_or_else(linked_end, |place| place.text_end.0);
    let near = RunAddr(text_end.saturating_sub(REACH));
    let (text, fallback) =
        if all.start.0 < page_offset && all.end > near { (near..all.end, Some(all)) } else { (all, None) };
    setup_of(number("PAGE_SHIFT", 12), text, data, fallback)
}

fn setup_of(
    page_shift: u64,
    text: Range<RunAddr>,
    data: Range<RunAddr>,
    fallback: Option<Range<RunAddr>>,
) -> Setup {
    Setup {
        // 4 KiB to 256 KiB.
        page_size: 1 << page_shift.clamp(12, 18),
        ranges: Ranges { text, data, fallback },
        text_pack: None,
    }
}

/// `VMALLOC_START..VMALLOC_END` of a machine that has at least as much memory as the kernel can map
/// (arch/powerpc/include/asm/book3s/32/pgtable.h).
fn vmalloc(high_memory: u64) -> Range<RunAddr> {
    let start = align_up(high_memory.saturating_add(1), VMALLOC_GAP).unwrap_or(VMALLOC_END);
    RunAddr(start.min(VMALLOC_END))..RunAddr(VMALLOC_END)
}
