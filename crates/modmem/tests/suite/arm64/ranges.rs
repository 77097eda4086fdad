//! Where modules go, by where the kernel is and how it was configured.

use modmem::RunAddr;
use modmem::profile::{KernelConfig, KernelPlace, Profile, Ranges};

const MIB: u64 = 1 << 20;

const DEBIAN: &str = "CONFIG_ARM64=y\nCONFIG_ARM64_4K_PAGES=y\nCONFIG_ARM64_VA_BITS=52\nCONFIG_RANDOMIZE_BASE=y\n\
    CONFIG_RANDOMIZE_MODULE_REGION_FULL=y\n";
const WINDOWS: &str =
    "CONFIG_ARM64=y\nCONFIG_ARM64_4K_PAGES=y\nCONFIG_ARM64_VA_BITS=48\nCONFIG_RANDOMIZE_BASE=y\n";
const PAGES_16K: &str =
    "CONFIG_ARM64=y\nCONFIG_ARM64_16K_PAGES=y\nCONFIG_ARM64_VA_BITS=52\nCONFIG_RANDOMIZE_BASE=y\n";
const PAGES_64K: &str = "CONFIG_ARM64=y\nCONFIG_ARM64_64K_PAGES=y\nCONFIG_ARM64_VA_BITS=52\n";

fn profile(config: &str, release: &str, start: u64, size: u64) -> Profile {
    let place = KernelPlace {
        start: RunAddr(start),
        text_end: RunAddr(start + size / 2),
        end: RunAddr(start + size),
    };
    Profile::from_config_at(&KernelConfig::parse(config), release, Some(place)).unwrap()
}

fn text(ranges: &Ranges) -> (u64, u64) {
    assert_eq!(ranges.text, ranges.data);
    (ranges.text.start.0, ranges.text.end.0)
}

fn fallback(ranges: &Ranges) -> Option<(u64, u64)> {
    ranges.fallback.as_ref().map(|range| (range.start.0, range.end.0))
}

#[test]
fn a_kernel_where_it_was_linked_has_its_modules_within_reach_and_then_anywhere_within_2_gib() {
    let start = 0xffff_8000_8000_0000;
    let end = start + 43 * MIB;
    let ranges = profile(DEBIAN, "6.12.117", start, 43 * MIB).ranges;
    assert_eq!(text(&ranges), (end - 128 * MIB, end));
    assert_eq!(fallback(&ranges), Some((end - 2048 * MIB, end)));
    let unknown = Profile::from_config(&KernelConfig::parse(DEBIAN), "6.12.117").unwrap();
    assert_eq!(text(&unknown.ranges).1, 0xffff_8000_82b3_0000, "Debian's size");
}

#[test]
fn a_kernel_that_was_moved_has_them_anywhere_where_its_configuration_says_so() {
    let start = 0xffff_b208_8240_0000;
    let end = start + 43 * MIB;
    let ranges = profile(DEBIAN, "6.12.117", start, 43 * MIB).ranges;
    assert_eq!((text(&ranges), fallback(&ranges)), ((end - 2048 * MIB, end), None));
    let ranges = profile(WINDOWS, "6.12.117", start, 43 * MIB).ranges;
    assert_eq!(text(&ranges), (end - 128 * MIB, end));
    assert_eq!(fallback(&ranges), Some((end - 2048 * MIB, end)));
}

#[test]
fn a_kernel_moved_by_less_than_2_mib_was_not_moved_at_random() {
    let start = 0xffff_8000_8000_0000 + MIB;
    assert!(fallback(&profile(DEBIAN, "6.12.117", start, 43 * MIB).ranges).is_some());
    assert!(fallback(&profile(DEBIAN, "6.12.117", start + MIB, 43 * MIB).ranges).is_none());
}

#[test]
fn a_kernel_that_is_too_large_to_reach_across_has_one_window() {
    let start = 0xffff_8000_8000_0000;
    let ranges = profile(WINDOWS, "6.12.117", start, 128 * MIB).ranges;
    assert_eq!((text(&ranges), fallback(&ranges)), ((start - 1920 * MIB, start + 128 * MIB), None));
}

#[test]
fn larger_pages_have_other_addresses_to_be_linked_to() {
    // With 16 KiB the kernel must do with 47 bits, where CPUs may have 52.
    let start = 0xffff_c000_8000_0000;
    let moved = |config, start| fallback(&profile(config, "6.12.117", start, 40 * MIB).ranges).is_none();
    assert_eq!(profile(PAGES_16K, "6.12.117", start, 40 * MIB).page_size, 16 << 10);
    let full = [PAGES_16K, "CONFIG_RANDOMIZE_MODULE_REGION_FULL=y\n"].concat();
    assert!(!moved(&*full, start) && moved(&*full, 0xffff_8000_8000_0000));
    let profile = profile(PAGES_64K, "6.12.117", 0xffff_8000_8000_0000, 40 * MIB);
    assert_eq!(profile.page_size, 64 << 10);
    assert_eq!(text(&profile.ranges).1, 0xffff_8000_8280_0000);
}

#[test]
fn linux_6_1_keeps_128_mib_that_end_with_the_kernels_code() {
    let start = 0xffff_8000_0800_0000;
    let ranges = profile(WINDOWS, "6.1.0", start, 40 * MIB).ranges;
    let first = start + 20 * MIB - 128 * MIB;
    assert_eq!(text(&ranges), (first, start + 20 * MIB));
    assert_eq!(fallback(&ranges), Some((first, first + 2048 * MIB)));
}

#[test]
fn linux_6_1_that_was_moved_draws_both_windows_at_random() {
    let start = 0xffff_ac5e_8600_0000;
    let (text_end, end) = (start + 20 * MIB, start + 40 * MIB);
    let ranges = profile(DEBIAN, "6.1.0", start, 40 * MIB).ranges;
    assert_eq!(text(&ranges), (end - 2048 * MIB, start + 128 * MIB));
    assert_eq!(fallback(&ranges), Some((end - 2048 * MIB, start + 2048 * MIB)));
    let ranges = profile(WINDOWS, "6.1.0", start, 40 * MIB).ranges;
    assert_eq!(text(&ranges), (text_end - 128 * MIB, start + 128 * MIB));
}

#[test]
fn modules_of_linux_6_1_share_addresses_behind_the_kernel_with_vmalloc() {
    let linked = 0xffff_8000_0800_0000;
    let shared =
        |version, start, address| profile(DEBIAN, version, start, 40 * MIB).is_shared(RunAddr(address));
    assert!(shared("6.1.0", linked, linked) && shared("6.1.0", linked, linked + 1024 * MIB));
    assert!(!shared("6.1.0", linked, linked - 1));
    assert!(!shared("6.1.0", 0xffff_ac5e_8600_0000, 0xffff_ac5e_9600_0000));
    assert!(!shared("6.12.0", linked + 1920 * MIB, linked + 1900 * MIB));
}

#[test]
fn the_linear_map_ends_where_the_half_of_every_cpu_s_addresses_does() {
    let map = |config: &str| {
        let map = Profile::from_config(&KernelConfig::parse(config), "6.12.117").unwrap().linear_map;
        (map.start.0, map.end.0)
    };
    assert_eq!(map(WINDOWS), (0xffff_0000_0000_0000, 0xffff_8000_0000_0000));
    assert_eq!(map(DEBIAN), (0xfff0_0000_0000_0000, 0xffff_8000_0000_0000));
    assert_eq!(map(PAGES_16K), (0xfff0_0000_0000_0000, 0xffff_c000_0000_0000));
}

#[test]
fn kaslr_moves_both_windows() {
    let start = 0xffff_b208_8240_0000;
    let profile = profile(WINDOWS, "6.12.117", start, 43 * MIB);
    let (before, after) = (profile.ranges.clone(), profile.with_kaslr_offset(0x1000).ranges);
    assert_eq!(after.text.start.0 - before.text.start.0, 16 * MIB);
    assert_eq!(after.text.end.0 - before.text.end.0, 16 * MIB);
    assert_eq!(fallback(&after).unwrap().0 - fallback(&before).unwrap().0, 16 * MIB);
}

#[test]
fn the_version_magic_names_the_machine() {
    let config = [DEBIAN, "CONFIG_SMP=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_MODVERSIONS=y\n"].concat();
    let magic = KernelConfig::parse(&config).vermagic("6.12.117");
    assert_eq!(magic, "6.12.117 SMP mod_unload modversions aarch64");
}
