//! Snapshots: what is written comes back, and damage is an error wherever it is.

use std::{io::Read as _, path::Path};

use modmem_linux::snapshot::{
    Area, Kprobe, MemoryRecord, MemoryRecords, ModuleRecord, ModuleState, SectionAddress, Snapshot, Symbol,
    SymbolTable,
};

/// A small snapshot with something in every member.
fn sample() -> Snapshot {
    let symbol = |name, address, letter, module| Symbol { name, address, letter, module };
    let note = [&[4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0][..], b"GNU\0", &[0xab, 0xcd, 0, 0]].concat();
    let ext4 = ModuleRecord {
        name: "ext4".into(),
        size: 8192,
        refcnt: Some(1),
        users: vec!["overlay".into()],
        permanent: true,
        state: ModuleState::Live,
        address: 0xffff_ffff_c000_1000,
        taints: "OE".into(),
        sections: vec![SectionAddress { name: ".text".into(), address: 0xffff_ffff_c000_1000 }],
        core_size: Some(8192),
        init_size: Some(0),
        build_id: Some(vec![0xab, 0xcd]),
        notes: note,
    };
    let overlay =
        ModuleRecord { name: "overlay".into(), state: ModuleState::Loading, ..ModuleRecord::default() };
    Snapshot {
        release: "6.12.1".into(),
        machine: "x86_64".into(),
        version: Some("Linux version 6.12.1".into()),
        config: Some("CONFIG_X86_64=y\n".into()),
        command_line: Some("quiet nokaslr".into()),
        cpus: Some(2),
        cpuinfo: Some("processor\t: 0\nflags\t\t: fpu\n".into()),
        modules: vec![overlay, ext4],
        symbols: SymbolTable::new([
            symbol("_text", 0xffff_ffff_8100_0000, 'T', None),
            symbol("ext4_sync", 0xffff_ffff_c000_1000, 't', Some("ext4")),
        ])
        .unwrap(),
        areas: vec![Area {
            range: 0xffff_ffff_c000_1000..0xffff_ffff_c000_3000,
            caller: "load_module".into(),
            rest: "load_module+0x10/0x20 pages=1 vmalloc".into(),
        }],
        contradictory_areas: vec![Area {
            range: 0xffff_ffff_c000_1000..0xffff_ffff_c000_3000,
            caller: "unpurged".into(),
            rest: "unpurged vm_area".into(),
        }],
        memory: MemoryRecords::new(vec![
            MemoryRecord { address: 0xffff_ffff_c000_1000, bytes: (0..=255).cycle().take(4096).collect() },
            MemoryRecord { address: 0xffff_ffff_8200_0000, bytes: vec![7; 16] },
        ])
        .unwrap()
        .with_scanned(std::iter::once(0xffff_ffff_c000_0000..0xffff_ffff_ff00_0000)),
        torn: std::iter::once(0xffff_ffff_c000_1000..0xffff_ffff_c000_2000).collect(),
        kprobes: Some(vec![Kprobe {
            address: 0xffff_ffff_c000_1004,
            kind: 'k',
            place: "ext4_sync+0x4 ext4".into(),
            on_ftrace: false,
            optimized: true,
            disabled: false,
            gone: false,
        }]),
        missing: vec!["something: no permission".into()],
        module_files: None,
    }
}

fn written(snapshot: &Snapshot) -> Vec<u8> {
    let mut file = Vec::new();
    snapshot.write_to(&mut file).unwrap();
    file
}

fn tar_of(snapshot: &Snapshot) -> Vec<u8> {
    zstd::decode_all(&written(snapshot)[..]).unwrap()
}

fn read(file: &[u8]) -> Result<Snapshot, String> {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    Snapshot::open(path.path()).map_err(|error| error.to_string())
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
    assert_eq!(left.torn, right.torn);
    assert_eq!((&left.kprobes, &left.missing), (&right.kprobes, &right.missing));
}

#[test]
fn what_is_written_comes_back() {
    let snapshot = sample();
    let file = written(&snapshot);
    let again = read(&file).unwrap();
    assert_same(&snapshot, &again);
    assert!(written(&again) == file);
    // As any tar archive: also without its compression.
    assert_same(&snapshot, &read(&tar_of(&snapshot)).unwrap());
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let file = written(&sample());
    for length in 0..file.len() {
        assert!(read(&file[..length]).is_err(), "{length} of {}", file.len());
    }
    let tar = tar_of(&sample());
    // Behind the last member an archive has nothing but zeros.
    let end = tar.iter().rposition(|&byte| byte != 0).unwrap();
    for length in (0..=end).step_by(17).chain((0..=end).step_by(512)) {
        assert!(Snapshot::from_tar("x", &tar[..length]).is_err(), "{length} of {end}");
    }
}

#[test]
fn a_flipped_byte_is_an_error_or_changes_nothing() {
    let (file, tar) = (written(&sample()), tar_of(&sample()));
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        // Of the bits before the first block some mean nothing; a checksum covers the rest.
        match read(&damaged) {
            Ok(snapshot) => assert!(tar_of(&snapshot) == tar, "byte {at} of {}", file.len()),
            Err(error) => assert!(error.contains("snapshot"), "{error}"),
        }
    }
}

/// Names and contents of members.
type Contents = Vec<(String, Vec<u8>)>;

/// The archive of a snapshot with its members' names and texts changed.
fn rebuilt(change: impl Fn(&str, Vec<u8>) -> Contents) -> Vec<u8> {
    let tar = tar_of(&sample());
    let mut builder = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        for (name, bytes) in change(&name, bytes) {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[test]
fn members_that_nobody_knows_are_skipped_and_other_versions_refused() {
    let tar = rebuilt(|name, bytes| match name {
        "end" => vec![("from-the-future".into(), vec![1, 2, 3]), (name.into(), bytes)],
        _ => vec![(name.into(), bytes)],
    });
    assert_same(&sample(), &Snapshot::from_tar("x", &tar[..]).unwrap());
    let tar = rebuilt(|name, bytes| match name {
        "modmem-snapshot" => vec![(name.into(), b"format 2\nmodmem 9.0.0\n".to_vec())],
        _ => vec![(name.into(), bytes)],
    });
    let error = Snapshot::from_tar("x", &tar[..]).unwrap_err().to_string();
    assert!(error.contains("format 2") && error.contains("modmem 9.0.0"), "{error}");
}

#[test]
fn members_that_are_missing_twice_or_behind_the_end_are_errors() {
    let error = |change: &dyn Fn(&str, Vec<u8>) -> Contents| {
        Snapshot::from_tar("x", &rebuilt(change)[..]).unwrap_err().to_string()
    };
    let keep = |name: &str, bytes| vec![(name.to_owned(), bytes)];
    let twice = error(&|name, bytes| match name {
        "modules" => [keep(name, bytes.clone()), keep(name, bytes)].concat(),
        _ => keep(name, bytes),
    });
    assert!(twice.contains("there twice"), "{twice}");
    let none = error(&|name, bytes| if name == "end" { vec![] } else { keep(name, bytes) });
    assert!(none.contains("cut off"), "{none}");
    let behind = error(&|name, bytes| match name {
        "end" => [keep(name, bytes), keep("more", vec![])].concat(),
        _ => keep(name, bytes),
    });
    assert!(behind.contains("nothing may follow"), "{behind}");
    let unnamed = error(&|name, bytes| if name == "kernel" { vec![] } else { keep(name, bytes) });
    assert!(unnamed.contains("\"kernel\""), "{unnamed}");
    let first = error(&|name, bytes| if name == "modmem-snapshot" { vec![] } else { keep(name, bytes) });
    assert!(first.contains("no snapshot"), "{first}");
}

#[test]
fn a_folder_of_members_is_the_same_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    tar::Archive::new(&tar_of(&sample())[..]).unpack(folder.path()).unwrap();
    assert_same(&sample(), &Snapshot::open(folder.path()).unwrap());
    // Any of them may be compressed.
    let symbols = std::fs::read(folder.path().join("kallsyms")).unwrap();
    std::fs::remove_file(folder.path().join("kallsyms")).unwrap();
    let packed = zstd::encode_all(&symbols[..], 1).unwrap();
    std::fs::write(folder.path().join("kallsyms.zst"), &packed).unwrap();
    assert_same(&sample(), &Snapshot::open(folder.path()).unwrap());
    std::fs::write(folder.path().join("kallsyms.zst"), &packed[..packed.len() / 2]).unwrap();
    assert!(Snapshot::open(folder.path()).unwrap_err().to_string().contains("kallsyms.zst"));
}

#[test]
fn other_files_are_no_snapshots() {
    for other in [&b""[..], b"hello", b"\x7fELF", &[0; 1024]] {
        assert!(read(other).unwrap_err().contains("no snapshot"), "{other:?}");
    }
    assert!(read(&zstd::encode_all(&b"hello"[..], 1).unwrap()).is_err());
}

#[test]
fn the_json_of_the_documentation_is_a_snapshot() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/snapshot.md");
    let text = std::fs::read_to_string(docs).unwrap();
    let (_, json) = text.split_once("```json\n").unwrap();
    let (json, _) = json.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine.json");
    std::fs::write(&file, json).unwrap();
    assert!(Snapshot::open(&file).unwrap_err().to_string().contains("config: "));
    std::fs::write(folder.path().join("config"), "CONFIG_X86_64=y\n").unwrap();
    std::fs::write(folder.path().join("mem"), b"ffffffffc0533000 4\n\x90\x90\x90\xcc").unwrap();
    let snapshot = Snapshot::open(&file).unwrap();
    assert_eq!(snapshot.modules[0].build_id.as_deref().map(<[u8]>::len), Some(20));
    assert_eq!(snapshot.memory.bytes(0xffff_ffff_c053_3003, 1), Some(&[0xcc][..]));
    let nearest = snapshot.symbols.nearest(0xffff_ffff_c053_3014, Some("stumble")).unwrap();
    assert_eq!((nearest.symbol.name, nearest.offset), ("stumble_over", 4));
    // As a file of its own it is the same.
    let copy = Snapshot::from_tar("copy", &tar_of(&snapshot)[..]).unwrap();
    assert!(copy.memory == snapshot.memory && copy.symbols == snapshot.symbols);
    assert_eq!((copy.areas, &copy.modules[0].build_id), (snapshot.areas, &snapshot.modules[0].build_id));
    // What it names lies beside it.
    let out = json.replace("\"memory\": \"mem\"", "\"memory\": \"../mem\"");
    std::fs::write(&file, out).unwrap();
    assert!(Snapshot::open(&file).unwrap_err().to_string().contains("leads out"));
}
