//! Where x86-64 puts modules (arch/x86/include/asm/pgtable_64_types.h: MODULES_VADDR, MODULES_END).

/// `__START_KERNEL_map`
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// First address for modules: behind the kernel image's window, which is 1 GiB with CONFIG_RANDOMIZE_BASE and
/// 512 MiB without (KERNEL_IMAGE_SIZE).
pub(crate) const fn module_region_start(randomize_base: bool) -> u64 {
    KERNEL_MAP + if randomize_base { 1 << 30 } else { 512 << 20 }
}

/// First address behind the modules.
pub(crate) const MODULE_REGION_END: u64 = 0xffff_ffff_ff00_0000;

/// The same with CONFIG_DEBUG_KMAP_LOCAL_FORCE_MAP.
pub(crate) const MODULE_REGION_END_KMAP_DEBUG: u64 = 0xffff_ffff_fe00_0000;

/// Bytes of a huge page (PMD_SIZE), which text is packed into.
pub(crate) const TEXT_PACK: u64 = 2 << 20;
