//! What root reads of a running machine, and a kernel's folder: the input is files, each with a name of a list.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use modmem_linux::snapshot::Snapshot;
use modmem_linux::{Kernel, OpenOptions};

/// Files of `/proc`, `/sys` and of a root with a kernel.
const NAMES: [&str; 24] = [
    "proc/modules",
    "proc/kallsyms",
    "proc/kcore",
    "proc/vmallocinfo",
    "proc/cmdline",
    "proc/cpuinfo",
    "proc/version",
    "proc/config.gz",
    "proc/sys/kernel/arch",
    "sys/module/m/sections/.text",
    "sys/module/m/sections/.data",
    "sys/module/m/notes/.note.gnu.build-id",
    "sys/module/m/coresize",
    "sys/module/m/initsize",
    "sys/kernel/debug/kprobes/list",
    "sys/devices/system/cpu/online",
    "boot/config-6.12",
    "boot/vmlinuz-6.12",
    "boot/System.map-6.12",
    "lib/modules/6.12/modules.dep",
    "lib/modules/6.12/modules.alias",
    "lib/modules/6.12/modules.builtin.modinfo",
    "lib/modules/6.12/kernel/m.ko",
    "etc/modprobe.d/a.conf",
];

fuzz_target!(|input: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let write = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, contents).expect("a file");
    };
    write("proc/sys/kernel/osrelease", b"6.12\n");
    let mut rest = input;
    while let [name, low, high, behind @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (contents, behind) = behind.split_at(length);
        write(NAMES[usize::from(*name) % NAMES.len()], contents);
        rest = behind;
    }
    if let Ok(snapshot) = Snapshot::capture(folder.path()) {
        let mut file = Vec::new();
        snapshot.write_to(&mut file).expect("writing to memory");
    }
    let options = OpenOptions { cache: None, offline: true, ..OpenOptions::default() };
    let Ok(kernel) = Kernel::open(&[folder.path().to_str().expect("a name")], &options) else { return };
    let _ = (kernel.symbols(None).is_ok(), kernel.list().is_ok(), kernel.remarks());
    let modules: Vec<_> = kernel.modules().cloned().collect();
    let _ = kernel.load_order_of(&modules);
});
