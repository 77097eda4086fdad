//! Taking a snapshot: of a folder that looks like a machine's root, whole and with rights missing.

use std::{fs, path::Path};

use modmem_linux::snapshot::Snapshot;

const KERNEL: u64 = 0xffff_ffff_8100_0000;
const MODULES: u64 = 0xffff_ffff_c000_0000;
/// Where the module has its text, and its read-only data after a guard page.
const TEXT: u64 = MODULES + 0x1000;
const RODATA: u64 = MODULES + 0x4000;

/// A core file of two segments: the kernel, and the module range.
fn kcore(kernel: &[u8], modules: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([4u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file.extend([0u64, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 2, 0, 0, 0].map(u16::to_le_bytes).concat());
    let mut offset = 4096u64;
    for (address, bytes) in [(KERNEL, kernel), (MODULES, modules)] {
        let size = bytes.len() as u64;
        file.extend([1u32, 7].map(u32::to_le_bytes).concat());
        file.extend([offset, address, 0, size, size, 4096].map(u64::to_le_bytes).concat());
        offset += size;
    }
    file.resize(4096, 0);
    file.extend(kernel);
    file.extend(modules);
    file
}

/// A jump table's entry at `at`: code, target and key, each relative to its own place.
fn entry(at: u64, code: u64, target: u64, key: u64) -> Vec<u8> {
    let short = |to: u64, field: u64| (to.wrapping_sub(at + field) as u32).to_le_bytes();
    [&short(code, 0)[..], &short(target, 4), &key.wrapping_sub(at + 8).to_le_bytes()].concat()
}

fn write(root: &Path, path: &str, contents: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// A machine with one module, whose init is over, and a BPF program beside it.
fn machine() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "proc/sys/kernel/osrelease", "6.12.1-test\n");
    write(root, "proc/sys/kernel/arch", "x86_64\n");
    write(root, "proc/version", "Linux version 6.12.1-test\n");
    write(root, "proc/cmdline", "quiet\n");
    write(root, "proc/cpuinfo", "processor\t: 0\nflags\t: fpu\n\nprocessor\t: 1\nflags\t: fpu\n\n");
    write(root, "boot/config-6.12.1-test", "CONFIG_X86_64=y\nCONFIG_RANDOMIZE_BASE=y\nCONFIG_KPROBES=y\n");
    write(root, "proc/modules", format!("toy 12288 0 - Live {TEXT:#018x} (OE)\n"));
    let sections = [
        (".text", TEXT),
        (".rodata", RODATA),
        ("__jump_table", RODATA + 0x100),
        ("__ex_table", RODATA + 0x140),
        (".init.text", MODULES + 0x8000),
        (".symtab", MODULES + 0x8100),
    ];
    for (name, address) in sections {
        write(root, &format!("sys/module/toy/sections/{name}"), format!("{address:#018x}\n"));
    }
    write(root, "sys/module/toy/coresize", "12288\n");
    write(root, "sys/module/toy/initsize", "0\n");
    let note = [&[4, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0][..], b"GNU\0", &[1, 2, 3, 0]].concat();
    write(root, "sys/module/toy/notes/.note.gnu.build-id", note);
    write(
        root,
        "sys/kernel/debug/kprobes/list",
        format!("{:016x}  k  toy_init+0x4  toy [DISABLED]\n", TEXT + 4),
    );
    let symbols = [
        ("_text", 'T', KERNEL, ""),
        ("__SCK__might_resched", 'D', KERNEL + 0x1000, ""),
        ("__SCK__cond_resched", 'D', KERNEL + 0x1010, ""),
        ("pv_ops", 'D', KERNEL + 0x1100, ""),
        ("behind_pv_ops", 'd', KERNEL + 0x1120, ""),
        ("a_key", 'D', KERNEL + 0x2000, ""),
        ("_end", 'B', KERNEL + 0x3000, ""),
        ("toy_init", 't', TEXT, "\t[toy]"),
    ];
    let symbols =
        symbols.map(|(name, letter, address, module)| format!("{address:016x} {letter} {name}{module}\n"));
    write(root, "proc/kallsyms", symbols.concat());
    let area = |start: u64, pages: u64, caller: &str| {
        let size = (pages + 1) * 0x1000;
        format!("{start:#018x}-{:#018x} {size:7} {caller}+0x10/0x20 pages={pages} vmalloc\n", start + size)
    };
    let areas = [
        area(TEXT, 2, "load_module"),
        area(RODATA, 1, "load_module"),
        area(MODULES + 0x8000, 1, "bpf_prog_pack_alloc"),
    ];
    write(root, "proc/vmallocinfo", areas.concat());
    let mut modules = vec![0; 0x10000];
    modules[0x1000..0x3000].fill(0x90);
    // A page of one byte throughout is free memory of a pack.
    modules[0x2004] = 0xc3;
    modules[0x4000..0x5000].fill(0x44);
    modules[0x8000..0x9000].fill(0xbb);
    let table = RODATA + 0x100;
    let entries = [
        entry(table, TEXT + 8, TEXT + 0x20, KERNEL + 0x2000 + 1),
        entry(table + 16, MODULES + 0x8010, MODULES + 0x8020, KERNEL + 0x2100 + 2),
        entry(table + 32, TEXT + 0x30, TEXT + 0x40, RODATA + 0x800),
        // No entry: its code lies in the kernel.
        entry(table + 48, KERNEL, KERNEL, KERNEL + 0x2800),
    ];
    modules[0x4100..0x4140].copy_from_slice(&entries.concat());
    write(root, "proc/kcore", kcore(&vec![0x11; 0x3000], &modules));
    folder
}

fn records(snapshot: &Snapshot) -> Vec<(u64, u64)> {
    let records = snapshot.memory.records().iter();
    records.map(|record| (record.address, record.bytes.len() as u64)).collect()
}

#[test]
fn a_machine_s_snapshot_holds_what_is_mapped_for_modules_the_words_that_decide_and_nothing_else() {
    let machine = machine();
    let snapshot = Snapshot::capture(machine.path()).unwrap();
    assert_eq!(snapshot.missing, [""; 0]);
    assert_eq!(snapshot.lacks(), [""; 0]);
    assert_eq!((snapshot.release.as_str(), snapshot.machine.as_str()), ("6.12.1-test", "x86_64"));
    assert_eq!((snapshot.cpus, snapshot.command_line.as_deref()), (Some(2), Some("quiet")));
    assert_eq!(snapshot.cpuinfo.as_deref(), Some("processor\t: 0\nflags\t: fpu\n"));
    assert!(snapshot.config.as_deref().unwrap().contains("KPROBES"));
    let toy = snapshot.module("toy").unwrap();
    assert_eq!((toy.core_size, toy.init_size, toy.taints.as_str()), (Some(12288), Some(0), "OE"));
    assert_eq!((toy.section(".rodata"), toy.build_id.as_deref()), (Some(RODATA), Some(&[1, 2, 3][..])));
    assert_eq!(snapshot.areas.len(), 3);
    assert!(snapshot.kprobes.as_ref().unwrap()[0].disabled);
    assert_eq!(snapshot.symbols.len(), 8);
    let expected = [
        // Two static calls, side by side; pv_ops up to the next symbol; two keys, one of them of init code.
        (KERNEL + 0x1000, 0x20),
        (KERNEL + 0x1100, 0x20),
        (KERNEL + 0x2000, 0x10),
        (KERNEL + 0x2100, 0x10),
        (TEXT, 0x2000),
        (RODATA, 0x1000),
        // Whatever else is mapped there.
        (MODULES + 0x8000, 0x1000),
    ];
    assert_eq!(records(&snapshot), expected, "{:x?}", records(&snapshot));
    assert_eq!(snapshot.memory.scanned(), std::slice::from_ref(&(MODULES..MODULES + 0x10000)));
    assert_eq!(snapshot.torn, []);
    assert_eq!(snapshot.memory.bytes(TEXT, 2), Some(&[0x90; 2][..]));
    let mut file = Vec::new();
    snapshot.write_to(&mut file).unwrap();
    let path = machine.path().join("host.mms");
    snapshot.write(&path).unwrap();
    assert!(fs::read(&path).unwrap() == file);
    assert_eq!(Snapshot::open(&path).unwrap().memory, snapshot.memory);
}

const HASHED: &str = "0x00000000a1b2c3d4-0x00000000051f22e3   12288 load_module+0x10/0x20 pages=2 vmalloc\n";

#[test]
fn where_areas_are_hashed_all_that_is_mapped_is_read_and_nothing_is_missed() {
    let machine = machine();
    write(machine.path(), "proc/vmallocinfo", HASHED);
    // The core file's second segment is the whole range of modules, as in Linux; the file has holes.
    let core = machine.path().join("proc/kcore");
    let mut file = fs::read(&core).unwrap();
    let size = (0xffff_ffff_ff00_0000 - MODULES).to_le_bytes();
    for field in [64 + 56 + 32, 64 + 56 + 40] {
        file[field..field + 8].copy_from_slice(&size);
    }
    fs::write(&core, &file).unwrap();
    let length = 4096 + 0x3000 + u64::from_le_bytes(size);
    fs::File::options().write(true).open(&core).unwrap().set_len(length).unwrap();
    let snapshot = Snapshot::capture(machine.path()).unwrap();
    assert_eq!(snapshot.missing, [""; 0]);
    assert_eq!(snapshot.memory.scanned(), std::slice::from_ref(&(MODULES..0xffff_ffff_ff00_0000)));
    let modules = records(&snapshot).into_iter().filter(|(address, _)| *address >= MODULES);
    let expected = [(TEXT, 0x2000), (RODATA, 0x1000), (MODULES + 0x8000, 0x1000)];
    assert_eq!(modules.collect::<Vec<_>>(), expected);
    assert_eq!(snapshot.memory.bytes(MODULES + 0x6000, 2), Some(&[0, 0][..]));
}

#[test]
fn hashed_areas_are_told_where_not_all_can_be_read() {
    let machine = machine();
    write(machine.path(), "proc/vmallocinfo", HASHED);
    let snapshot = Snapshot::capture(machine.path()).unwrap();
    assert!(snapshot.missing[0].contains("kptr_restrict=1"), "{:?}", snapshot.missing);
    assert_eq!(snapshot.missing.len(), 1);
}

#[test]
fn a_list_of_areas_that_contradicts_itself_is_taken_with_its_contradiction() {
    let machine = machine();
    let areas = fs::read_to_string(machine.path().join("proc/vmallocinfo")).unwrap();
    let freed = format!("{TEXT:#018x}-{:#018x}   12288 unpurged vm_area\n", TEXT + 0x3000);
    write(machine.path(), "proc/vmallocinfo", format!("{areas}{freed}"));
    let snapshot = Snapshot::capture(machine.path()).unwrap();
    assert_eq!((snapshot.areas.len(), snapshot.contradictory_areas.len()), (3, 1));
    assert_eq!(snapshot.missing, [""; 0]);
    assert!(snapshot.areas[0].pages() == Some(2) && snapshot.contradictory_areas[0].is_freed());
    assert!(snapshot.memory.bytes(TEXT, 0x2000).is_some());
    let mut file = Vec::new();
    snapshot.write_to(&mut file).unwrap();
    let tar = zstd::decode_all(&file[..]).unwrap();
    let copy = Snapshot::from_tar("copy", &tar[..]).unwrap();
    assert_eq!((&copy.areas, &copy.contradictory_areas), (&snapshot.areas, &snapshot.contradictory_areas));
    assert!(copy.contradiction().is_some());
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_taken() {
    let machine = machine();
    let root = machine.path();
    for path in ["proc/kcore", "proc/vmallocinfo", "boot/config-6.12.1-test", "proc/cpuinfo"] {
        fs::remove_file(root.join(path)).unwrap();
    }
    fs::remove_dir_all(root.join("sys")).unwrap();
    write(root, "proc/kallsyms", "0000000000000000 T _text\n0000000000000000 t toy_init\t[toy]\n");
    let snapshot = Snapshot::capture(root).unwrap();
    for what in ["mem: ", "vmallocinfo: ", "config: ", "cpuinfo: ", "sections: ", "kprobes: ", "kallsyms: "] {
        let lines = snapshot.missing.iter().filter(|line| line.starts_with(what));
        assert_eq!(lines.count(), 1, "{what} in {:#?}", snapshot.missing);
    }
    assert_eq!(snapshot.modules.len(), 1);
    assert!(snapshot.memory.is_empty() && snapshot.symbols.is_empty());
    assert_eq!(snapshot.lacks(), ["memory of modules", "addresses of sections", "addresses of symbols"]);
    let mut file = Vec::new();
    snapshot.write_to(&mut file).unwrap();
    let tar = zstd::decode_all(&file[..]).unwrap();
    assert_eq!(Snapshot::from_tar("copy", &tar[..]).unwrap().missing, snapshot.missing);
}

#[test]
fn keys_are_taken_from_kernels_that_keep_no_symbols_of_data() {
    let machine = machine();
    let symbols = format!("{KERNEL:016x} T _text\n{TEXT:016x} t toy_init\t[toy]\n");
    write(machine.path(), "proc/kallsyms", symbols);
    let snapshot = Snapshot::capture(machine.path()).unwrap();
    let words = [(KERNEL + 0x2000, 0x10), (KERNEL + 0x2100, 0x10)];
    assert_eq!(records(&snapshot)[..2], words, "{:x?}", records(&snapshot));
}

#[test]
fn hidden_section_addresses_are_missing_and_not_zero() {
    let machine = machine();
    for entry in fs::read_dir(machine.path().join("sys/module/toy/sections")).unwrap() {
        fs::write(entry.unwrap().path(), "0x0000000000000000\n").unwrap();
    }
    let snapshot = Snapshot::capture(machine.path()).unwrap();
    assert!(snapshot.modules[0].sections.is_empty());
    assert!(snapshot.missing[0].starts_with("sections: all addresses are zero"), "{:?}", snapshot.missing);
    assert_eq!(snapshot.lacks(), ["addresses of sections"]);
}

#[test]
fn a_core_file_that_is_none_or_ends_early_leaves_memory_out() {
    let machine = machine();
    let whole = fs::read(machine.path().join("proc/kcore")).unwrap();
    // Up to here the read-only data is whole.
    let enough = 4096 + 0x3000 + 0x5000;
    for length in [0, 20, 63, 64, 100, 175, 4096, enough - 1, enough] {
        write(machine.path(), "proc/kcore", &whole[..length]);
        let snapshot = Snapshot::capture(machine.path()).unwrap();
        assert!(snapshot.missing.iter().any(|line| line.starts_with("mem: ")), "{length}");
        assert_eq!(snapshot.memory.bytes(RODATA, 0x1000).is_some(), length == enough);
        let is_behind = |range: &std::ops::Range<u64>| range.end > RODATA + 0x1000;
        assert!(!snapshot.memory.scanned().iter().any(is_behind), "{length}: what is not there was not read");
    }
    write(machine.path(), "proc/kcore", [&b"\x7fELF\x02\x01\x01"[..], &[0xff; 200]].concat());
    assert!(!Snapshot::capture(machine.path()).unwrap().missing.is_empty());
}

#[test]
fn without_proc_there_is_no_snapshot() {
    let empty = tempfile::tempdir().unwrap();
    assert!(Snapshot::capture(empty.path()).unwrap_err().to_string().contains("osrelease"));
    let machine = machine();
    fs::remove_file(machine.path().join("proc/modules")).unwrap();
    let error = Snapshot::capture(machine.path()).unwrap_err().to_string();
    assert!(error.contains("built without modules"), "{error}");
}
