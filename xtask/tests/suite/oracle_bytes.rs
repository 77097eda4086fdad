//! Byte for byte: modules linked at the addresses where a running kernel had them, compared with its memory.
//!
//! What the kernel patches or sorts after relocation (kernel text, exception and unwind tables, ftrace's list) and
//! what modules write themselves is not compared here; read-only data that nobody touches and the symbol tables that
//! the loader builds must be equal to the last byte.

use modmem::Name;
use modmem::arch::Machine;
use modmem::layout::MemoryKind;
use xtask::oracle::Oracle;
use xtask::replay::Replay;

/// Sections of read-only data that the kernel changes after relocation.
const REWRITTEN: &[&str] = &["__ex_table", "__mcount_loc", ".orc_unwind", ".orc_unwind_ip"];

fn untouched_bytes_equal_the_kernels(name: &str) {
    let oracle = Oracle::from_environment(name);
    let mut replay = Replay::new(&oracle).unwrap();
    let (mut compared, mut text, mut text_equal) = (0, 0, 0);
    for module in &oracle.order {
        let id = replay.load(module).unwrap();
        replay.modules.start(id, |_| 0).unwrap();
        assert_eq!(replay.modules.protection_violation(), None);
        let loaded = replay.modules.get(id).unwrap();
        for section in loaded.sections().filter(|section| !section.kind.is_init() && section.size > 0) {
            let range = section.offset as usize..(section.offset + section.size) as usize;
            let ours = &loaded.bytes(section.kind)[range];
            let address = loaded.address(section.kind).unwrap() + section.offset;
            let theirs =
                oracle.bytes(address.0, ours.len()).unwrap_or_else(|| panic!("{module}: {}", section.name));
            let name = section.name.to_text();
            if section.kind == MemoryKind::Text {
                text += ours.len();
                text_equal += ours.iter().zip(theirs).filter(|(a, b)| a == b).count();
            }
            if section.kind == MemoryKind::RoData && !REWRITTEN.contains(&&*name) {
                assert!(ours == theirs, "{module}: {name} differs from the kernel's at {address}");
                compared += ours.len();
            }
        }
        // The loader's own tables, where the machine has some before the first section.
        let head = loaded.layout().text_head() as usize;
        if let Some(address) = loaded.address(MemoryKind::Text).filter(|_| head > 0) {
            let ours = &loaded.bytes(MemoryKind::Text)[..head];
            assert!(oracle.bytes(address.0, head) == Some(ours), "{module}: its GOT and PLT differ");
            compared += head;
        }
        // 32-bit PowerPC's gets the tracer's stubs later.
        let is_whole = replay.profile.machine != Machine::PowerPc;
        let is_plt = |name: Name<'_>| name == ".plt" && is_whole;
        for plt in loaded.sections().filter(|section| is_plt(section.name)) {
            let range = plt.offset as usize..(plt.offset + plt.size) as usize;
            let address = loaded.address(plt.kind).unwrap() + plt.offset;
            let (ours, theirs) =
                (&loaded.bytes(plt.kind)[range.clone()], oracle.bytes(address.0, range.len()));
            assert!(theirs == Some(ours), "{module}: its PLT differs");
            compared += ours.len();
        }
        let kallsyms = loaded.layout().kallsyms().unwrap();
        let tables = kallsyms.core_symbols as usize..(kallsyms.core_types + kallsyms.core_count) as usize;
        let ours = &loaded.bytes(MemoryKind::Data)[tables.clone()];
        let address = loaded.address(MemoryKind::Data).unwrap() + tables.start as u64;
        assert!(oracle.bytes(address.0, ours.len()) == Some(ours), "{module}: its symbol tables differ");
        compared += ours.len();
        let padding = loaded.layout().memories()[MemoryKind::RoData].used as usize;
        let tail = &loaded.bytes(MemoryKind::RoData)[padding..];
        assert!(tail.iter().all(|&byte| byte == 0), "{module}: padding");
    }
    let share = text_equal as f64 / text as f64;
    println!("{name}: {compared} bytes equal; text equal before patching: {:.2} %", share * 100.0);
    assert!(compared > 900_000 && share > 0.95, "{name}: {compared} bytes, {share}");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn untouched_bytes_equal_those_of_linux_6_12() {
    untouched_bytes_equal_the_kernels("amd64-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn untouched_bytes_equal_those_of_linux_6_1() {
    untouched_bytes_equal_the_kernels("amd64-6.1");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn untouched_bytes_equal_those_of_linux_7_2() {
    untouched_bytes_equal_the_kernels("amd64-7.2");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn untouched_bytes_equal_those_of_s390x() {
    untouched_bytes_equal_the_kernels("s390x-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn untouched_bytes_equal_those_of_arm64() {
    untouched_bytes_equal_the_kernels("arm64-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn untouched_bytes_equal_those_of_linux_6_12_on_32_bit_powerpc() {
    untouched_bytes_equal_the_kernels("ppc32-6.12");
}
