//! `modmem verify` as a user types it: on a machine made of the sample modules, untouched and tampered with.

mod machine;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use machine::Machine;

fn modmem(snapshot: &Path, words: &[&str]) -> Output {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut command = Command::new(env!("CARGO_BIN_EXE_modmem"));
    command.arg("verify").arg(snapshot).args(words).env("MODMEM_CACHE", cache).stdin(Stdio::null());
    command.output().expect("the command runs")
}

#[test]
fn show() {
    let machine = Machine::new();
    let output = modmem(&machine.save("show"), &["--kernel", "sample", "-v"]);
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
