//! `modmem load --machine --write`: bytes as a running kernel has them, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::OwnFiles;

/// Where this repository lies others may write; what is refused has a test of its own.
const SHARED: &str = "--allow-shared-folder";

fn temporary(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machine").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn load(words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modmem"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.arg("load").args(words).env("MODMEM_CACHE", cache).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_machine_that_is_none_is_refused_with_those_that_are_known() {
    let (status, out, error) = load(&["sample_lib", "--kernel", "sample", "--machine", "toaster"]);
    assert_eq!((status, &*out), (Some(1), ""));
    assert!(error.contains("--machine toaster: neither") && error.contains("default"), "{error}");
    // The samples come without a kernel, so that nothing tells what its keys are.
    let (status, out, error) = load(&["sample_lib", "--kernel", "sample", "--machine", "default"]);
    assert_eq!((status, &*out), (Some(1), ""));
    assert!(error.contains("without its image"), "{error}");
    let folder = temporary("states");
    let state = folder.join("state");
    fs::write(&state, "modmem machine 1\nboot_cpu_data 0q\n").unwrap();
    let (status, _, error) = load(&["sample_lib", "--kernel", "sample", "--machine", text(&state)]);
    assert!(status == Some(1) && error.contains("line 2: \"boot_cpu_data 0q\""), "{error}");
}

#[test]
fn a_folder_with_something_in_it_is_not_written_to() {
    let folder = temporary("full");
    fs::write(folder.join("mine"), "").unwrap();
    let (status, out, error) = load(&["sample_lib", "--kernel", "sample", "--write", text(&folder), SHARED]);
    assert_eq!((status, &*out), (Some(1), ""));
    assert!(error.contains("there is something in it"), "{error}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

/// Loads all modules of a recorded machine from the files that it brings along, where it has them, and compares what is
/// written with its memory, file by file.
fn what_is_written_is_what_was_running(name: &str, modules: usize) {
    let recording = Path::new(&std::env::var_os("MODMEM_ORACLE").expect("MODMEM_ORACLE")).join(name);
    let snapshot = Snapshot::open(&recording).unwrap();
    let files = OwnFiles::of(&snapshot).unwrap().expect("recordings bring the module files along");
    let folder = temporary(name);
    let kernel = folder.join("files");
    fs::create_dir(&kernel).unwrap();
    let names: Vec<&str> = snapshot.modules.iter().rev().map(|module| &*module.name).collect();
    for name in &names {
        fs::write(kernel.join(format!("{name}.ko")), files.get(name).unwrap().unwrap()).unwrap();
    }
    let written = folder.join("written");
    let options =
        ["--kernel", text(&kernel), "--machine", text(&recording), "--write", text(&written), SHARED];
    let (status, out, error) = load(&[&names[..], &options].concat());
    assert_eq!(status, Some(0), "{error}");
    assert!(out.contains(&format!("({modules} modules, ")), "{out}");
    let document = fs::read_to_string(written.join("modules.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["schema"], "modmem.memory");
    let list = document["modules"].as_array().unwrap();
    assert_eq!(list.len(), modules);
    let mut compared = 0;
    for memory in list.iter().flat_map(|module| module["memories"].as_array().unwrap()) {
        if !["Text", "RoData"].contains(&memory["type"].as_str().unwrap()) {
            continue;
        }
        let bytes = fs::read(written.join(memory["file"].as_str().unwrap())).unwrap();
        let address = memory["address"].as_str().unwrap().trim_start_matches("0x");
        let address = u64::from_str_radix(address, 16).unwrap();
        let mut running = vec![0; bytes.len()];
        snapshot.memory.copy(address, &mut running).expect("text and constants are in the recording");
        assert!(bytes == running, "{}", memory["file"]);
        compared += bytes.len();
    }
    assert!(compared > 2 << 20, "{compared}");
    let script = fs::read_to_string(written.join("modules.gdb")).unwrap();
    assert_eq!(script.lines().filter(|line| line.starts_with("add-symbol-file ")).count(), modules);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn what_is_written_is_what_was_running_on_x86_64() {
    what_is_written_is_what_was_running("amd64-6.12", 37);
    what_is_written_is_what_was_running("amd64-7.2", 33);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn what_is_written_is_what_was_running_on_other_machines() {
    what_is_written_is_what_was_running("arm64-6.12", 35);
    what_is_written_is_what_was_running("s390x-6.12", 33);
}
