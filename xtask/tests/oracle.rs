//! The same as Linux: layouts and bytes against what real kernels reported.
//!
//! `MODMEM_ORACLE` names a folder of recorded kernels (`amd64-6.12` and so on). Where it is not set, these tests
//! say so and pass: the small tables in `crates/modmem/tests/goldens` cover the same ground for everybody.

use std::collections::BTreeMap;

use modmem::image::Image;
use modmem::layout::{Layout, MemoryKind};
use modmem::profile::{KernelConfig, Profile, Standing};
use xtask::oracle::Oracle;

/// Every section of every module at the kernel's offset, every memory of the kernel's size.
fn layouts_equal_the_kernels(name: &str) {
    let Some(oracle) = Oracle::from_environment(name) else { return };
    let config = KernelConfig::parse(&oracle.config);
    let profile = Profile::from_config(&config, &oracle.release).expect("a profile");
    let mut modules = 0;
    for (module, file) in &oracle.files {
        let image = Image::parse(file).unwrap_or_else(|error| panic!("{module}: {error}"));
        let layout = Layout::of(&image, &profile).unwrap_or_else(|error| panic!("{module}: {error}"));
        let reported = &oracle.sections[module.as_str()];
        let mut bases = BTreeMap::new();
        let mut seen = 0;
        for section in image.sections() {
            let name = section.name().to_text();
            match layout.place(section.index()) {
                Some(place) if section.size() > 0 => {
                    let address =
                        reported.get(&name).unwrap_or_else(|| panic!("{module}: no {name} in the kernel"));
                    let base = address.wrapping_sub(place.offset);
                    let first = *bases.entry(place.kind).or_insert(base);
                    assert_eq!(base, first, "{module}: {name} lies elsewhere in {}", place.kind);
                    assert_eq!(base % profile.page_size, 0, "{module}: {name}");
                    seen += 1;
                }
                _ => assert!(!reported.contains_key(&name), "{module}: the kernel keeps {name}"),
            }
        }
        assert_eq!(seen, reported.len(), "{module}: sections");
        let core: u64 =
            layout.memories().iter().filter(|(k, _)| !k.is_init()).map(|(_, m)| m.allocated).sum();
        assert_eq!(core, oracle.core_sizes[module.as_str()], "{module}: core size");
        for block in layout.blocks() {
            let memory = layout.memories()[block.kind];
            if block.kind.is_init() {
                continue;
            }
            assert_eq!(memory.offset, 0);
            // The address of a block that holds no section with bytes is not reported.
            let Some(base) = bases.get(&block.kind) else { continue };
            if let Some(pack) = profile.text_pack.filter(|_| block.kind.is_text()) {
                // It lies in a pack, with the text of other modules.
                let (start, size) = oracle.areas.range(..=base).next_back().expect("an area");
                assert!(
                    start.is_multiple_of(pack) && (size - profile.page_size).is_multiple_of(pack),
                    "{module}"
                );
                assert!(base + block.size <= start + size - profile.page_size, "{module}");
                continue;
            }
            assert_eq!(
                oracle.areas.get(base),
                Some(&(block.size + profile.page_size)),
                "{module}: {}",
                block.kind
            );
        }
        assert!(bases.contains_key(&MemoryKind::Data), "{module}");
        modules += 1;
    }
    assert!(modules > 30, "{name}: only {modules} modules");
    println!("{name}: {modules} modules laid out as the kernel has them");
}

#[test]
fn profiles_by_name_are_those_of_debians_configurations() {
    for name in ["amd64-6.1", "amd64-6.12", "amd64-7.2"] {
        let Some(oracle) = Oracle::from_environment(name) else { return };
        let configured = Profile::from_config(&KernelConfig::parse(&oracle.config), &oracle.release).unwrap();
        let named = Profile::named(&oracle.release).unwrap();
        assert_eq!(named.standing, Standing::Proven);
        assert_eq!(Profile { vermagic: None, ..configured }, named, "{name}");
    }
}

#[test]
fn layouts_equal_those_of_linux_7_2() {
    layouts_equal_the_kernels("amd64-7.2");
}

#[test]
fn layouts_equal_those_of_linux_6_12() {
    layouts_equal_the_kernels("amd64-6.12");
}

#[test]
fn layouts_equal_those_of_linux_6_1() {
    layouts_equal_the_kernels("amd64-6.1");
}
