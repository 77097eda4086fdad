//! Where s390x puts modules (arch/s390/boot/startup.c:setup_kernel_memory_layout; arch/s390/mm/init.c).
//!
//! Two GiB below the kernel, which since Linux 6.10 has an address of its own; before that, at the end of an address
//! space of three levels of tables. Machines with terabytes of memory had four levels then: such a range must be stated.

use crate::address::RunAddr;
use crate::arch::{KernelPlace, Setup};
use crate::profile::{KernelConfig, KernelVersion, Ranges};

/// Bytes that modules may lie in (MODULES_LEN).
const LENGTH: u64 = 2 << 30;
/// What the range's end is a multiple of (_SEGMENT_SIZE).
const SEGMENT: u64 = 1 << 20;
/// Where kernels are linked to lie: CONFIG_KERNEL_IMAGE_BASE, as it is if nobody changes it.
const KERNEL_BASE: u64 = 0x3ff_e000_0000;
/// The end of an address space of three levels (_REGION2_SIZE).
const SPACE_END: u64 = 1 << 42;
/// Before it lie a page to copy through, and a lowcore for each CPU that there may be (__memcpy_real_area,
/// ABS_LOWCORE_MAP_SIZE).
const COPY_PAGE: u64 = 4096;
const LOWCORE: u64 = 8192;
/// CONFIG_NR_CPUS as Debian has it.
const CPUS: u64 = 256;

/// Page size and ranges of a kernel.
pub(super) fn setup(
    version: KernelVersion,
    config: Option<&KernelConfig<'_>>,
    place: Option<KernelPlace>,
) -> Setup {
    let base = config.and_then(|config| config.number("KERNEL_IMAGE_BASE"));
    let end = match (place, base) {
        _ if version < KernelVersion::new(6, 10) => {
            let cpus = config.and_then(|config| config.number("NR_CPUS")).unwrap_or(CPUS);
            SPACE_END.saturating_sub(cpus.saturating_mul(LOWCORE).saturating_add(COPY_PAGE))
        }
        (Some(place), _) => place.start.0,
        (None, base) => base.unwrap_or(KERNEL_BASE),
    };
    let end = end & !(SEGMENT - 1);
    let region = RunAddr(end.saturating_sub(LENGTH))..RunAddr(end);
    Setup {
        page_size: 4096,
        ranges: Ranges { text: region.clone(), data: region, fallback: None },
        text_pack: None,
    }
}

#[cfg(test)]
mod tests {
    use super::setup;
    use crate::address::RunAddr;
    use crate::profile::{KernelConfig, KernelPlace, KernelVersion};

    #[test]
    fn modules_end_in_the_segment_where_the_kernel_begins() {
        let range = |version, config: &str, start: Option<u64>| {
            let config = KernelConfig::parse(config);
            let place = start.map(|start| {
                let start = RunAddr(start);
                KernelPlace { start, text_end: start + 0x100_0000, end: start + 0x200_0000 }
            });
            let range = setup(version, Some(&config), place).ranges.text;
            (range.start.0, range.end.0)
        };
        let modern = KernelVersion::new(6, 12);
        assert_eq!(range(modern, "", None), (0x3ff_6000_0000, 0x3ff_e000_0000));
        let moved = "CONFIG_KERNEL_IMAGE_BASE=0x1000000000\n";
        assert_eq!(range(modern, moved, None), (0xf_8000_0000, 0x10_0000_0000));
        assert_eq!(range(modern, moved, Some(0x3ff_fe7f_8000)), (0x3ff_7e70_0000, 0x3ff_fe70_0000));
        assert_eq!(range(KernelVersion::new(6, 1), "", None), (0x3ff_7fd0_0000, 0x3ff_ffd0_0000));
        assert_eq!(range(KernelVersion::new(6, 1), "CONFIG_NR_CPUS=512\n", None).0, 0x3ff_7fb0_0000);
        // A place that no kernel can have.
        assert_eq!(range(modern, "", Some(0x1000)), (0, 0));
    }
}
