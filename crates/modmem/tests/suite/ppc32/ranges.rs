//! Where modules go, by configuration and by where the kernel lies.

use modmem::profile::{KernelConfig, KernelPlace, Profile};
use modmem::{AddressSpace, Memory as _, MemoryKind, RunAddr};

fn ranges(config: &str, text_end: Option<u64>) -> modmem::profile::Ranges {
    let config = format!("CONFIG_PPC32=y\n{config}");
    let place = text_end.map(|end| KernelPlace {
        start: RunAddr(0xc000_0000),
        text_end: RunAddr(end),
        end: RunAddr(end + 0x50_0000),
    });
    Profile::from_config_at(&KernelConfig::parse(&config), "6.12.0", place).unwrap().ranges
}

const BOOK3S: &str = "CONFIG_PPC_BOOK3S_32=y\nCONFIG_PAGE_OFFSET=0xc0000000\nCONFIG_KERNEL_START=0xc0000000\n\
    CONFIG_LOWMEM_SIZE=0x30000000\nCONFIG_MODULES_SIZE=64\n";

fn plain(range: &std::ops::Range<RunAddr>) -> std::ops::Range<u64> {
    range.start.0..range.end.0
}

#[test]
fn text_lies_where_branches_reach_and_else_in_all_of_its_range() {
    let ranges = ranges(BOOK3S, Some(0xc061_c000));
    assert_eq!(plain(&ranges.text), 0xbe61_c000..0xc000_0000);
    assert_eq!(ranges.fallback.as_ref().map(plain), Some(0xbc00_0000..0xc000_0000));
    assert_eq!(ranges.data.start, RunAddr(0xf100_0000));
}

#[test]
fn a_kernel_that_is_larger_than_branches_reach_has_one_range() {
    let ranges = ranges(BOOK3S, Some(0xc200_0000));
    assert_eq!(plain(&ranges.text), 0xbc00_0000..0xc000_0000);
    assert_eq!(ranges.fallback, None);
}

#[test]
fn memory_that_the_kernel_maps_moves_what_lies_behind_it_and_the_segment_before_it() {
    let config = "CONFIG_PPC_BOOK3S_32=y\nCONFIG_PAGE_OFFSET=0xb8000000\nCONFIG_KERNEL_START=0xb8000000\n\
        CONFIG_LOWMEM_SIZE=0x38000000\nCONFIG_MODULES_SIZE=256\n";
    let ranges = ranges(config, Some(0xb880_0000));
    // ALIGN_DOWN(PAGE_OFFSET, SZ_256M)
    assert_eq!(plain(&ranges.text), 0xa000_0000..0xb000_0000);
    assert_eq!(ranges.data.start, RunAddr(0xf100_0000));
}

#[test]
fn an_8xx_has_its_modules_right_below_the_kernel() {
    let config = "CONFIG_PPC_8xx=y\nCONFIG_PAGE_OFFSET=0xc0000000\nCONFIG_MODULES_SIZE=32\n\
        CONFIG_LOWMEM_SIZE=0x30000000\nCONFIG_PAGE_SHIFT=14\n";
    let ranges = ranges(config, Some(0xc080_0000));
    assert_eq!(plain(&ranges.text), 0xbe80_0000..0xc000_0000);
    assert_eq!(ranges.fallback.as_ref().map(plain), Some(0xbe00_0000..0xc000_0000));
}

#[test]
fn other_machines_have_one_range_for_everything() {
    let ranges = ranges("CONFIG_44x=y\nCONFIG_PAGE_OFFSET=0xc0000000\nCONFIG_LOWMEM_SIZE=0x30000000\n", None);
    assert_eq!((ranges.text.clone(), ranges.fallback), (ranges.data, None));
}

#[test]
fn nonsense_in_a_configuration_gives_ranges_that_are_empty_and_nothing_worse() {
    for value in ["0", "0xffffffffffffffff", "18446744073709551615", "-1", ""] {
        for name in ["PAGE_OFFSET", "LOWMEM_SIZE", "MODULES_SIZE", "KERNEL_START", "PAGE_SHIFT"] {
            for machine in ["PPC_BOOK3S_32", "PPC_8xx", "E500"] {
                for text_end in [None, Some(0), Some(u64::MAX - 0x50_0000)] {
                    let config = format!("CONFIG_PPC32=y\nCONFIG_{machine}=y\nCONFIG_{name}={value}\n");
                    let place = text_end.map(|end| KernelPlace {
                        start: RunAddr(0),
                        text_end: RunAddr(end),
                        end: RunAddr(end),
                    });
                    let config = KernelConfig::parse(&config);
                    let profile = Profile::from_config_at(&config, "6.12", place).unwrap();
                    let mut space = AddressSpace::new(&profile);
                    let size = profile.page_size;
                    let request = modmem::space::Request { kind: MemoryKind::Text, size, alignment: size };
                    let _ = space.allocate(request);
                }
            }
        }
    }
}
