//! Recorded kernels as snapshots: read whole, and the same when they are written as one file.

use modmem_linux::snapshot::Snapshot;
use xtask::oracle::folder;

/// Modules, symbols, bytes of memory and areas of each recorded kernel.
const RECORDED: [(&str, &str, [usize; 4]); 9] = [
    ("amd64-6.1", "x86_64", [44, 114_764, 5_877_760, 119]),
    ("amd64-6.12", "x86_64", [37, 190_448, 6_156_288, 205]),
    ("amd64-7.2", "x86_64", [33, 228_166, 7_999_488, 171]),
    ("arm64-6.12", "aarch64", [35, 169_960, 3_923_968, 204]),
    ("armhf-6.12", "arm", [35, 58_928, 0, 191]),
    ("ppc32-6.12", "ppc", [133, 75_568, 9_981_952, 455]),
    ("ppc64el-6.12", "ppc64le", [37, 110_000, 4_988_928, 166]),
    ("riscv64-6.12", "riscv64", [35, 999_437, 31_264_768, 195]),
    ("s390x-6.12", "s390x", [33, 94_815, 3_432_448, 201]),
];

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn recorded_kernels_are_read_whole() {
    for (name, machine, counts) in RECORDED {
        let snapshot = Snapshot::open(folder(name)).unwrap_or_else(|error| panic!("{error}"));
        let found = [
            snapshot.modules.len(),
            snapshot.symbols.len(),
            snapshot.memory.len() as usize,
            snapshot.areas.len(),
        ];
        assert_eq!((snapshot.machine.as_str(), found), (machine, counts), "{name}");
        assert_eq!(snapshot.missing, [""; 0], "{name}");
        assert!(
            snapshot.modules.iter().all(|module| !module.sections.is_empty() && module.core_size.is_some())
        );
        let files = snapshot.module_files.as_ref().expect("module files").read().unwrap();
        assert!(snapshot.modules.iter().all(|module| files.contains_key(&module.name)), "{name}");
        assert_same(&snapshot, &copied(&snapshot));
    }
}

/// The snapshot, written and read again.
fn copied(snapshot: &Snapshot) -> Snapshot {
    let mut file = Vec::new();
    snapshot.write_to(&mut file).unwrap();
    Snapshot::from_tar("copy", &zstd::decode_all(&file[..]).unwrap()[..]).unwrap()
}

fn assert_same(left: &Snapshot, right: &Snapshot) {
    assert_eq!(
        (
            &left.release,
            &left.machine,
            &left.version,
            &left.config,
            &left.command_line,
            left.cpus,
            &left.cpuinfo
        ),
        (
            &right.release,
            &right.machine,
            &right.version,
            &right.config,
            &right.command_line,
            right.cpus,
            &right.cpuinfo
        )
    );
    assert_eq!(left.modules, right.modules);
    assert!(left.symbols == right.symbols && left.memory == right.memory);
    assert_eq!((&left.areas, &left.contradictory_areas), (&right.areas, &right.contradictory_areas));
    assert_eq!((&left.kprobes, &left.missing), (&right.kprobes, &right.missing));
}
