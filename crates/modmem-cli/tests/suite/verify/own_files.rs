//! Files that the machine itself brings vouch for nothing, and a comparison of nothing is none.

use std::fs;
use std::path::{Path, PathBuf};

use crate::verify::machine::Machine;
use crate::verify::{assert_lines, run, verify};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/root/lib/modules/6.12.0-sample");
const MODULES: [&str; 5] = [
    "kernel/lib/sample_lib.ko",
    "kernel/lib/sample_nodata.ko",
    "kernel/lib/sample_data.ko",
    "kernel/drivers/crypto/sample_crypto.ko",
    "updates/sample_vendor.ko",
];

/// The machine's snapshot, which brings these modules' files along.
fn with_files(machine: &Machine, name: &str, modules: &[&str]) -> PathBuf {
    let folder = machine.save(name);
    let mut archive = Vec::new();
    for path in modules {
        let contents = fs::read(Path::new(ROOT).join(path)).unwrap();
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", contents.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend(header);
        archive.extend(&contents);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    fs::write(folder.join("ko.tar"), archive).unwrap();
    folder
}

#[test]
fn files_that_the_snapshot_brings_are_consistent_and_not_verified() {
    let folder = with_files(&Machine::new(), "own_files", &MODULES);
    let folder = folder.to_str().unwrap();
    let text = run(&[folder], 1);
    assert_lines(
        &text,
        &[
            "consistent with the files that it brought, for which nobody vouches: nothing unexplained in 5 modules",
        ],
    );
    assert!(text.contains("--own-files") && text.contains("--kernel"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("verified")), "{text}");
    let text = run(&[folder, "--own-files"], 0);
    assert_lines(&text, &["verified, if the files that it brought are to be trusted (--own-files): nothing"]);
    for (words, clean, status) in
        [(&[folder, "--json"][..], false, 1), (&[folder, "--json", "--own-files"], true, 0)]
    {
        let json: serde_json::Value = serde_json::from_str(&run(words, status)).unwrap();
        let verdict = &json["verdict"];
        assert_eq!((&verdict["clean"], &verdict["proven"]), (&clean.into(), &false.into()), "{verdict}");
        assert_eq!(verdict["consistent"], true);
        assert_eq!(verdict["own_files"], clean);
        assert_eq!(verdict["modules_with_own_files"], 5);
        assert!(verdict["compared"].as_u64().unwrap() > 0);
    }
    // Somebody vouches for the same files.
    run(&[folder, "--kernel", "sample"], 0);
}

#[test]
fn one_module_s_own_file_is_one_too_many() {
    let folder = with_files(&Machine::new(), "own_file", &MODULES[..1]);
    let root = Path::new(ROOT);
    let given: Vec<String> = MODULES[1..].iter().map(|path| root.join(path).display().to_string()).collect();
    let mut words = vec![folder.to_str().unwrap()];
    words.extend(given.iter().flat_map(|path| ["--modules", path]));
    let text = run(&words, 1);
    assert_lines(
        &text,
        &["consistent with files of which it brought those of 1 module itself, for which nobody vouches"],
    );
    words.push("--own-files");
    run(&words, 0);
}

#[test]
fn tampering_is_told_before_whose_files_they_are() {
    let mut machine = Machine::new();
    machine.write(machine.symbol("sample_crypto_block"), &[0xc3]);
    let folder = with_files(&machine, "own_tampered", &MODULES);
    for words in [&[][..], &["--own-files"]] {
        let text = run(&[&[folder.to_str().unwrap()], words].concat(), 1);
        assert_lines(&text, &["NOT VERIFIED, of 5 modules: 1 byte unexplained in 1 module"]);
        assert_eq!(text.contains("for which nobody vouches"), words.is_empty(), "{text}");
    }
}

#[test]
fn where_nothing_was_compared_nothing_is_verified() {
    let mut machine = Machine::new();
    machine.modules.clear();
    machine.sections.clear();
    machine.memory.clear();
    machine.vmallocinfo.clear();
    machine.kallsyms = machine
        .kallsyms
        .lines()
        .filter(|line| !line.contains('['))
        .fold(String::new(), |text, line| text + line + "\n");
    let text = verify(&machine, "nothing", &[], 1);
    assert_lines(&text, &["NOT VERIFIED, of 0 modules: nothing was compared"]);
}

#[test]
fn every_report_says_what_it_rests_on() {
    let folder = with_files(&Machine::new(), "rests_on", &MODULES[..4]);
    let module = Path::new(ROOT).join(MODULES[4]);
    let words = [folder.to_str().unwrap(), "--modules", module.to_str().unwrap()];
    let text = run(&words, 1);
    let sha256 = modmem_linux::Digest::of(&fs::read(&module).unwrap()).to_string();
    let unwrapped = text.replace("\n    ", " ");
    assert!(
        unwrapped.contains("What this rests on") && unwrapped.contains(&format!("SHA-256 {sha256}")),
        "{text}"
    );
    assert!(
        unwrapped.contains("the machine itself: the files of 4 of its modules; its list of symbols"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&run(&[&words[..], &["--json"]].concat(), 1)).unwrap();
    assert_eq!(json["rests_on"]["given"][0]["sha256"], sha256, "{}", json["rests_on"]);
    let json: serde_json::Value =
        serde_json::from_str(&verify(&Machine::new(), "rests_on_sample", &["--json"], 0)).unwrap();
    assert_eq!(json["rests_on"]["program"], true);
}
