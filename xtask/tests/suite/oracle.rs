//! The same as Linux: layouts against what real kernels reported.
//!
//! `MODMEM_ORACLE` names a folder of recorded kernels (`amd64-6.12` and so on). Where it is not set, these tests are
//! ignored, and counted so: the small tables in `crates/modmem/tests/goldens` cover the same ground for everybody.

use modmem::profile::{KernelConfig, Profile};
use xtask::compare::layouts;
use xtask::oracle::Oracle;

/// Every section of every module at the kernel's offset, every memory of the kernel's size.
fn layouts_equal_the_kernels(name: &str) {
    let oracle = Oracle::from_environment(name);
    let result = layouts(&oracle).unwrap();
    let differences: Vec<String> = result.differences.lines().collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(result.modules > 30, "{name}: only {} modules", result.modules);
    println!("{name}: {} modules laid out as the kernel has them", result.modules);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn profiles_by_name_are_those_of_debians_configurations() {
    for name in ["amd64-6.1", "amd64-6.12", "amd64-7.2", "s390x-6.12"] {
        let oracle = Oracle::from_environment(name);
        let configured = Profile::from_config(&KernelConfig::parse(&oracle.config), &oracle.release).unwrap();
        let named = Profile::named_for(configured.machine, &oracle.release).unwrap();
        assert_eq!(named.doubts, []);
        assert_eq!(Profile { vermagic: None, ..configured }, named, "{name}");
    }
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn layouts_equal_those_of_linux_6_12() {
    layouts_equal_the_kernels("amd64-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn layouts_equal_those_of_linux_6_1() {
    layouts_equal_the_kernels("amd64-6.1");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn layouts_equal_those_of_linux_7_2() {
    layouts_equal_the_kernels("amd64-7.2");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn layouts_equal_those_of_s390x() {
    layouts_equal_the_kernels("s390x-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn layouts_equal_those_of_arm64() {
    layouts_equal_the_kernels("arm64-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn layouts_equal_those_of_linux_6_12_on_32_bit_powerpc() {
    layouts_equal_the_kernels("ppc32-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn a_memory_and_a_section_elsewhere_are_differences() {
    let mut oracle = Oracle::from_environment("amd64-6.12");
    let address = oracle.sections.get_mut("ext4").and_then(|sections| sections.get_mut(".data")).unwrap();
    *address += 32;
    *oracle.core_sizes.get_mut("xor").unwrap() += 4096;
    let (&start, _) =
        oracle.areas.iter().find(|(start, _)| oracle.sections["kvm"][".text"] == **start).unwrap();
    *oracle.areas.get_mut(&start).unwrap() += 4096;
    let differences: Vec<String> = layouts(&oracle).unwrap().differences.lines().collect();
    for wrong in ["ext4: .data lies at", "xor: coresize", "kvm: Text of"] {
        assert!(differences.iter().any(|line| line.starts_with(wrong)), "{wrong}: {differences:#?}");
    }
}
