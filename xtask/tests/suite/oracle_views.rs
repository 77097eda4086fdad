//! The same as user space saw: /proc/modules, /sys/module and the modules' part of /proc/kallsyms of recorded kernels.

use xtask::compare::{Held, views};
use xtask::oracle::Oracle;

/// The init function of `libcrc32c` takes an instance of the best crc32c that there is, which this module offers.
const CRC32C_INSTANCE: Held<'_> = &[("crc32c_intel", 1)];

/// Algorithms and sockets in use.
const IN_USE: Held<'_> = &[("crc32c_generic", 1), ("crct10dif_generic", 1), ("sctp", 2)];

fn views_equal_the_kernels(kernel: &str, held: Held<'_>) {
    let oracle = Oracle::from_environment(kernel);
    let result = views(&oracle, held).unwrap();
    let differences: Vec<String> = result.differences.lines().collect();
    assert!(differences.is_empty(), "{differences:#?}");
    println!("{kernel}: {} modules and {} symbols as the kernel shows them", result.modules, result.symbols);
    assert!(result.modules > 30 && result.symbols > 10_000);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn user_space_sees_what_it_saw_on_linux_6_1() {
    views_equal_the_kernels("amd64-6.1", CRC32C_INSTANCE);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn user_space_sees_what_it_saw_on_linux_6_12() {
    views_equal_the_kernels("amd64-6.12", CRC32C_INSTANCE);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn user_space_sees_what_it_saw_on_linux_7_2() {
    views_equal_the_kernels("amd64-7.2", &[]);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn user_space_sees_what_it_saw_on_linux_6_12_on_32_bit_powerpc() {
    views_equal_the_kernels("ppc32-6.12", IN_USE);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn user_space_sees_what_it_saw_on_linux_6_12_on_arm64() {
    views_equal_the_kernels("arm64-6.12", &[("crc32c_generic", 1)]);
}

/// Something done to a recording.
type Change<'c> = &'c dyn Fn(&mut Oracle);

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn whatever_user_space_would_not_have_seen_is_a_difference() {
    let oracle = Oracle::from_environment("amd64-6.12");
    let changed = |change: &dyn Fn(&mut Oracle)| {
        let mut oracle = Oracle::from_environment("amd64-6.12");
        change(&mut oracle);
        views(&oracle, CRC32C_INSTANCE).unwrap().differences.lines().collect::<Vec<String>>()
    };
    let taint = oracle.modinfo["ext4"].replace("taint=", "taint=O");
    let cases: [(&str, Change<'_>); 4] = [
        ("/proc/modules, line 1:", &|oracle| {
            oracle.proc_modules = oracle.proc_modules.replacen(" 0 -", " 1 -", 1)
        }),
        ("/sys/module/ext4:", &|oracle| drop(oracle.modinfo.insert("ext4".into(), taint.clone()))),
        ("/proc/kallsyms, line 6:", &|oracle| oracle.module_symbols.swap(5, 6)),
        ("/proc/kallsyms, line", &|oracle| oracle.module_symbols.push("0 T hidden\t[ext4]".into())),
    ];
    for (wrong, change) in cases {
        let differences = changed(change);
        assert!(differences.len() == 1 && differences[0].starts_with(wrong), "{wrong}: {differences:#?}");
    }
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn user_space_sees_what_it_saw_on_linux_6_12_on_s390x() {
    views_equal_the_kernels("s390x-6.12", &[("crc32c_generic", 1)]);
}
