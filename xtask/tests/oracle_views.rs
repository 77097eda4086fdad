//! The same as user space saw: /proc/modules, /sys/module and the modules' part of /proc/kallsyms of recorded kernels,
//! against what modmem's own table shows after the same loads at the same addresses.

use std::collections::HashMap;

use xtask::oracle::Oracle;
use xtask::replay::Replay;

/// Modules of which the running kernel held references that loading does not make, and how many.
type Held = &'static [(&'static str, u64)];

/// The init function of `libcrc32c` takes an instance of the best crc32c that there is, which this module offers.
const CRC32C_INSTANCE: Held = &[("crc32c_intel", 1)];

/// What /proc/kallsyms prints like modules and that are none.
const NO_MODULES: &[&str] = &["[bpf]", "[__builtin__ftrace]", "[__builtin__kprobes]"];

/// Lines that differ are worth more than the fact that they do.
fn assert_same_lines(what: &str, ours: &[&str], theirs: &[&str]) {
    for (number, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours, theirs, "{what}, line {}", number + 1);
    }
    assert_eq!(ours.len(), theirs.len(), "{what}: lines");
}

/// The kernel's line of a module without the references that only its running made.
fn without_held(line: &str, held: Held) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if let Some((_, count)) = held.iter().find(|(name, _)| *name == words[0]) {
        let references: u64 = words[2].parse().unwrap();
        words[2] = (references - count).to_string();
    }
    words.join(" ")
}

fn views_equal_the_kernels(kernel: &str, held: Held) {
    let Some(oracle) = Oracle::from_environment(kernel) else { return };
    let mut replay = Replay::new(&oracle);
    for name in &oracle.order {
        let id = replay.load(name);
        replay.modules.start(id, |_| 0).unwrap();
    }
    let modules = &replay.modules;

    let ours = modules.proc_modules().to_string();
    let theirs: Vec<String> = oracle.proc_modules.lines().map(|line| without_held(line, held)).collect();
    let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
    assert_same_lines("/proc/modules", &ours.lines().collect::<Vec<_>>(), &theirs);

    for module in modules.iter() {
        let (name, shown) = (module.name(), modules.sysfs(module.id()).unwrap());
        let extra = held.iter().find(|(held, _)| *held == name).map_or(0, |&(_, count)| count as i64);
        let values = format!(
            "core={} init={} refcnt={} taint={} state={}",
            shown.coresize(),
            shown.initsize(),
            shown.refcnt().unwrap() + extra,
            shown.taint(),
            shown.initstate(),
        );
        assert_eq!(values, oracle.modinfo[name], "{name}");
        let sections: HashMap<String, u64> =
            shown.sections().map(|(name, address)| (name.to_text(), address.0)).collect();
        assert_eq!(sections, oracle.sections[name], "{name}: sections");
    }

    let ours = modules.kallsyms().to_string();
    let ours: Vec<&str> = ours.lines().collect();
    let of_modules = |line: &&str| !NO_MODULES.iter().any(|other| line.ends_with(other));
    let theirs: Vec<&str> = oracle.module_symbols.iter().map(String::as_str).filter(of_modules).collect();
    assert_same_lines("/proc/kallsyms", &ours, &theirs);
    println!("{kernel}: {} modules and {} symbols shown as the kernel shows them", modules.len(), ours.len());
    assert!(modules.len() > 30 && ours.len() > 10_000);
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
