//! The commands that work on snapshots, as a user types them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn modmem(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modmem"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command
        .args(words)
        .env("MODMEM_CACHE", cache)
        .env("XDG_STATE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("state"))
        .stdin(Stdio::null());
    command
}

fn stdout(words: &[&str]) -> String {
    let output = modmem(words).output().expect("the command runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn failure(words: &[&str]) -> String {
    let output = modmem(words).output().expect("the command runs");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{words:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn fed(words: &[&str], input: &[u8]) -> Output {
    let mut child = modmem(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || to.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    output
}

/// A machine whose module `stumble` called a function of its init after that was freed (Linux 6.12.117 of Debian).
fn stumble() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stumble").display().to_string()
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(&stumble()).join(name)).unwrap()
}

/// A snapshot of the modelled kernel with the sample modules loaded, made of what user space would see of it.
fn modelled(folder: &Path, module: &str) {
    let view = |view: &str| stdout(&["load", module, "--kernel", "sample", "--view", view]);
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("kernel"), "6.12.0-sample\n").unwrap();
    fs::write(folder.join("modules"), view("proc-modules")).unwrap();
    fs::write(folder.join("kallsyms"), view("kallsyms")).unwrap();
    let (mut sections, mut sizes) = (String::new(), String::new());
    for line in view("sysfs").lines() {
        let (path, value) = line.split_once(':').unwrap();
        let path = path.strip_prefix("/sys/module/").unwrap();
        let (module, name) = path.split_once('/').unwrap();
        match name.strip_prefix("sections/") {
            Some(section) => sections += &format!("{module} {section} {value}\n"),
            None if name == "coresize" => sizes += &format!("{module} core={value} init=0\n"),
            None => {}
        }
    }
    fs::write(folder.join("sections"), sections).unwrap();
    fs::write(folder.join("modinfo"), sizes).unwrap();
}

fn temporary(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("snapshots").join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_snapshot_s_addresses_are_told_as_those_of_a_modelled_kernel() {
    let folder = temporary("modelled");
    modelled(&folder, "sample_fs");
    let document = stdout(&["load", "sample_fs", "--kernel", "sample", "-v", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let mut addresses = vec!["0x1234".to_owned()];
    for module in document["modules"].as_array().unwrap() {
        // Its percpu area and symbols of other modules come in between: one module's sections are enough.
        for section in module["sections"].as_array().unwrap() {
            // Between memory and sysfs: only what is not empty has an address there.
            if section["size"].as_u64() > Some(0) {
                addresses.push(section["address"].as_str().unwrap().to_owned());
            }
        }
    }
    assert!(addresses.len() > 40, "{}", addresses.len());
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let (snapshot, kernel) = (folder.to_str().unwrap(), ["--kernel", "sample"]);
    let modelled = stdout(&[&["lookup", "sample_fs"], &addresses[..], &kernel].concat());
    let taken = stdout(&[&["lookup", "--snapshot", snapshot], &addresses[..], &kernel].concat());
    assert_eq!(modelled.lines().count(), addresses.len());
    let mut present = Vec::new();
    for ((modelled, taken), address) in modelled.lines().zip(taken.lines()).zip(addresses) {
        // The file still names what was freed, which the modelled kernel forgets as Linux does.
        match modelled.contains(" freed with init of ") {
            true => assert!(taken.starts_with(modelled), "{modelled}\n{taken}"),
            false => {
                assert_eq!(modelled, taken);
                present.push(address);
            }
        }
    }
    assert!(present.len() > 30, "{}", present.len());
    let modelled = stdout(&[&["lookup", "sample_fs", "--json"], &present[..], &kernel].concat());
    let taken = stdout(&[&["lookup", "--snapshot", snapshot, "--json"], &present[..], &kernel].concat());
    assert_eq!(modelled, taken);
}

#[test]
fn without_files_types_are_probable() {
    let text = stdout(&["lookup", "--snapshot", &stumble(), "0xffffffffc0533020", "0xffffffffc0539011"]);
    assert_eq!(
        text,
        "0xffffffffc0533020 stumble probably Text .text+0x20 stumble_over.isra.0+0x10/0x50\n\
         0xffffffffc0539011 freed with init of stumble: probably InitText .init.text+0x11\n"
    );
    let words = ["0xffffffffc0534010", "0xffffffffc030d010", "ffffffffaff00000", "0x10"];
    let text = stdout(&[&["lookup", "--snapshot", &stumble()][..], &words].concat());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "0xffffffffc0534010 no module (vmalloc area of load_module)");
    assert_eq!(lines[1], "0xffffffffc030d010 no module (vmalloc area of bpf_prog_pack_alloc)");
    assert!(lines[2].starts_with("0xffffffffaff00000 kernel "), "{text}");
    assert_eq!(lines[3], "0x0000000000000010 no module");
}

#[test]
fn answers_for_programs_say_what_is_certain_and_what_is_no_module() {
    let words = ["0xffffffffc0533020", "0xffffffffc0539011", "ffffffffaff00000", "0xffffffffc030d010"];
    let text = stdout(&[&["lookup", "--json", "--snapshot", &stumble()][..], &words].concat());
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let owners: Vec<&str> = document["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| answer["owner"].as_str().unwrap())
        .collect();
    assert_eq!(owners, ["module", "freed", "kernel", "none"]);
    let first = &document["addresses"][0];
    assert_eq!(
        (&first["certain"], &first["type"], &first["offset"]),
        (&false.into(), &"Text".into(), &().into())
    );
    assert_eq!(document["addresses"][2]["freed"], false);
    assert_eq!(document["addresses"][3]["area"], "bpf_prog_pack_alloc");
}

#[test]
fn an_oops_is_annotated_where_it_has_addresses_and_nowhere_else() {
    let output = fed(&["symbolize", "--snapshot", &stumble()], &fixture("oops"));
    assert!(output.status.success());
    let (ours, expected) = (String::from_utf8(output.stdout).unwrap(), fixture("oops.annotated"));
    assert_eq!(ours, String::from_utf8(expected).unwrap());
    assert!(ours.contains(
        "RIP: 0010:0xffffffffc0539010 [stumble probably InitText .init.text+0x10, freed after init]"
    ));
}

#[test]
fn no_byte_of_a_log_changes_whatever_it_holds() {
    let noise: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let end = b"\n\xff\xfe ffffffffc0533020 \x1b[0m [<ffffffffc0533070>] \r\nno end: 0xffffffffc0533020";
    let output = fed(&["symbolize", "--snapshot", &stumble()], &[&noise[..], end].concat());
    let annotation = |text: &str| format!(" [stumble probably Text {text}]").into_bytes();
    let over = annotation("stumble_over.isra.0+0x10/0x50");
    let write = annotation("stumble_write+0x0/0x50");
    let expected = [
        &noise[..],
        b"\n\xff\xfe ffffffffc0533020",
        &over,
        b" \x1b[0m [<ffffffffc0533070>]",
        &write,
        b" \r\nno end: 0xffffffffc0533020",
        &over,
    ]
    .concat();
    let tail = |bytes: &[u8]| String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(400)..]).into_owned();
    assert!(output.stdout == expected, "{}\n--\n{}", tail(&output.stdout), tail(&expected));
}

#[test]
fn a_log_that_is_followed_is_annotated_line_by_line() {
    use std::io::{BufRead as _, BufReader};
    let mut child = modmem(&["symbolize", "--snapshot", &stumble()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        input.write_all(b"ffffffffc0533020\n").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("ffffffffc0533020 [stumble "), "{line}");
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_root_folder_is_taken_and_what_is_missing_is_told() {
    let root = temporary("machine");
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.12.117+deb12-amd64\n"),
        ("proc/modules", "stumble 12288 0 - Live 0xffffffffc0533000 (OE)\n"),
        ("proc/kallsyms", "ffffffffafc00000 T _text\nffffffffc0533010 t stumble_over\t[stumble]\n"),
        ("sys/module/stumble/sections/.text", "0xffffffffc0533000\n"),
    ] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }
    let file = root.join("host.mms");
    let words =
        ["snapshot", "--root", root.to_str().unwrap(), "-o", file.to_str().unwrap(), "--allow-shared-folder"];
    let output = modmem(&words).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{error}");
    assert!(error.contains("missing: mem: ") && error.contains("missing: config: "), "{error}");
    assert!(error.contains("host.mms has no memory of modules: verify can do nothing with it"), "{error}");
    assert!(error.contains("1 modules, 2 symbols, 0 B of memory"), "{error}");
    let text = stdout(&["lookup", "--snapshot", file.to_str().unwrap(), "0xffffffffc0533014"]);
    assert_eq!(text, "0xffffffffc0533014 stumble probably Text .text+0x14 stumble_over+0x4\n");
    let piped = modmem(&["snapshot", "--root", root.to_str().unwrap(), "-o", "-"]).output().unwrap();
    assert!(piped.stdout == fs::read(&file).unwrap());
    fs::write(&file, &piped.stdout[..piped.stdout.len() / 2]).unwrap();
    let error = failure(&["lookup", "--snapshot", file.to_str().unwrap(), "0xffffffffc0533014"]);
    assert!(error.contains("host.mms: truncated"), "{error}");
    assert!(
        failure(&["snapshot", "--root", "/nowhere", "-o", file.to_str().unwrap(), "--allow-shared-folder"])
            .contains("osrelease")
    );
    // With memory, whatever else is missing, it is of use.
    fs::write(root.join("proc/kcore"), core_file(0xffff_ffff_c053_3000, &[0x90; 4096])).unwrap();
    let output = modmem(&words).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    assert!(error.contains("missing: config: ") && error.contains("4,096 B of memory"), "{error}");
}

/// A core file of one segment.
fn core_file(address: u64, bytes: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([4u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file.extend([0u64, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1u32, 7].map(u32::to_le_bytes).concat());
    let size = bytes.len() as u64;
    file.extend([120, address, 0, size, size, 4096].map(u64::to_le_bytes).concat());
    file.extend(bytes);
    file
}

#[test]
fn a_machine_without_modules_has_a_snapshot_that_lacks_nothing() {
    let root = temporary("no_modules");
    fs::create_dir_all(root.join("proc/sys/kernel")).unwrap();
    fs::write(root.join("proc/sys/kernel/osrelease"), "6.12.117+deb12-amd64\n").unwrap();
    fs::write(root.join("proc/modules"), "").unwrap();
    let file = root.join("host.mms");
    stdout(&[
        "snapshot",
        "--root",
        root.to_str().unwrap(),
        "-o",
        file.to_str().unwrap(),
        "--allow-shared-folder",
    ]);
}

#[test]
fn errors_say_what_a_snapshot_lacks_and_what_words_mean() {
    assert!(failure(&["lookup", "--snapshot", &stumble(), "ext4"]).contains("\"ext4\" is no address"));
    let output = modmem(&["lookup", "--snapshot", &stumble(), "0x10", "--all"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(failure(&["lookup", "--snapshot", "/nowhere", "0x10"]).contains("/nowhere"));
    let bare = temporary("bare");
    fs::create_dir_all(&bare).unwrap();
    fs::write(bare.join("kernel"), "6.12\n").unwrap();
    fs::write(bare.join("missing"), "kallsyms: no \x1b[31mpermission\n").unwrap();
    let error = failure(&["lookup", "--snapshot", bare.to_str().unwrap(), "0x10"]);
    assert!(error.contains("not in the snapshot: kallsyms: no \\u{1b}[31mpermission"), "{error}");
    assert!(error.contains("nothing can be looked up"), "{error}");
}

#[test]
fn names_in_a_snapshot_write_to_no_terminal() {
    let folder = temporary("hostile");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("kernel"), "6.12\n").unwrap();
    fs::write(folder.join("modules"), "\x1b[31m 4096 0 - Live 0x0000000000001000\n").unwrap();
    fs::write(folder.join("sections"), "\x1b[31m .t\x07ext 0x0000000000001000\n").unwrap();
    fs::write(folder.join("kallsyms"), "0000000000001000 t a\x1b]0;b\t[\x1b[31m]\n").unwrap();
    let folder = folder.to_str().unwrap();
    let text = stdout(&["lookup", "--snapshot", folder, "0x1004"]);
    assert!(!text.contains(['\x1b', '\x07']) && text.contains("\\u{1b}"), "{text:?}");
    let output = fed(&["symbolize", "--snapshot", folder], b"0x1004\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(['\x1b', '\x07']) && text.contains("\\u{1b}"), "{text:?}");
}
