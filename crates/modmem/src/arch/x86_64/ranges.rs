//! Where x86-64 puts modules (arch/x86/include/asm/pgtable_64_types.h: MODULES_VADDR, MODULES_END).

use crate::address::RunAddr;
use crate::arch::Setup;
use crate::profile::{KernelConfig, KernelVersion, Ranges};

/// `__START_KERNEL_map`
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// First address behind the modules.
const REGION_END: u64 = 0xffff_ffff_ff00_0000;

/// The same with CONFIG_DEBUG_KMAP_LOCAL_FORCE_MAP.
const REGION_END_KMAP_DEBUG: u64 = 0xffff_ffff_fe00_0000;

/// Bytes of a huge page (PMD_SIZE), which text is packed into from 6.15 on.
const TEXT_PACK: u64 = 2 << 20;

/// First address for modules: behind the kernel image's window, which is 1 GiB with CONFIG_RANDOMIZE_BASE and
/// 512 MiB without (KERNEL_IMAGE_SIZE).
const fn region_start(randomize_base: bool) -> u64 {
    KERNEL_MAP + if randomize_base { 1 << 30 } else { 512 << 20 }
}

/// Page size and ranges of a kernel.
pub(super) fn setup(version: KernelVersion, config: Option<&KernelConfig<'_>>) -> Setup {
    let set = |name, otherwise| config.map_or(otherwise, |config| config.is_set(name));
    let end = if set("DEBUG_KMAP_LOCAL_FORCE_MAP", false) { REGION_END_KMAP_DEBUG } else { REGION_END };
    let region = RunAddr(region_start(set("RANDOMIZE_BASE", true)))..RunAddr(end);
    let packs = set("ARCH_HAS_EXECMEM_ROX", version >= KernelVersion::new(6, 15));
    Setup {
        page_size: 4096,
        ranges: Ranges { text: region.clone(), data: region, fallback: None },
        text_pack: packs.then_some(TEXT_PACK),
    }
}
