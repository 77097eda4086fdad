//! The same as user space saw: /proc/modules, /sys/module and the modules' part of /proc/kallsyms of recorded kernels.

use xtask::compare::{Held, views};
use xtask::oracle::Oracle;

/// The init function of `libcrc32c` takes an instance of the best crc32c that there is, which this module offers.
const CRC32C_INSTANCE: Held<'_> = &[("crc32c_intel", 1)];

fn views_equal_the_kernels(kernel: &str, held: Held<'_>) {
    let Some(oracle) = Oracle::from_environment(kernel) else { return };
    let result = views(&oracle, held).unwrap();
    let differences: Vec<String> = result.differences.lines().collect();
    assert!(differences.is_empty(), "{differences:#?}");
    println!("{kernel}: {} modules and {} symbols as the kernel shows them", result.modules, result.symbols);
    assert!(result.modules > 30 && result.symbols > 10_000);
}

#[test]
fn user_space_sees_what_it_saw_on_linux_6_1() {
    views_equal_the_kernels("amd64-6.1", CRC32C_INSTANCE);
}

#[test]
fn user_space_sees_what_it_saw_on_linux_6_12() {
    views_equal_the_kernels("amd64-6.12", CRC32C_INSTANCE);
}

#[test]
fn user_space_sees_what_it_saw_on_linux_7_2() {
    views_equal_the_kernels("amd64-7.2", &[]);
}
