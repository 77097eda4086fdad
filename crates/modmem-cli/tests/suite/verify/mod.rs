//! `modmem verify` as a user types it: on a machine made of the sample modules, untouched and tampered with, and on
//! recorded kernels where there are some.

mod areas;
mod files;
mod hooks;
mod machine;
mod own_files;
mod recorded;
mod use_and_misuse;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use machine::Machine;

/// A command that needs no network and touches nothing outside the build folder.
fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modmem"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state");
    command
        .arg("verify")
        .args(words)
        .env("MODMEM_CACHE", cache)
        .env("XDG_STATE_HOME", state)
        .stdin(Stdio::null());
    command
}

/// Runs the command, which must end with that status.
fn run(words: &[&str], status: i32) -> String {
    let Output { status: ended, stdout, stderr } = command(words).output().expect("the command runs");
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(ended.code(), Some(status), "{words:?}: {out}{err}");
    if status == 2 {
        assert_eq!(out, "", "{words:?}: what failed must not look like a result");
        return err;
    }
    assert_eq!(err, "", "{words:?}");
    out
}

/// Verifies a machine, whose snapshot gets that name.
fn verify(machine: &Machine, name: &str, words: &[&str], status: i32) -> String {
    let folder = machine.save(name);
    let words = [&[folder.to_str().unwrap(), "--kernel", "sample"], words].concat();
    run(&words, status)
}

/// The same for programs.
fn json(machine: &Machine, name: &str, status: i32) -> serde_json::Value {
    serde_json::from_str(&verify(machine, name, &["--json"], status)).expect("a JSON document")
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found.contains(line)), "{line:?} is not in\n{text}");
    }
}
