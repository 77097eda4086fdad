//! Runs the fuzz targets with libFuzzer, by a stable compiler: what cargo-fuzz asks a nightly one for are a sanitizer, which
//! finds nothing in code without `unsafe`, and the same flags as here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{cargo, succeed};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const TARGETS: &[&str] = &["image", "load", "mixed", "snapshot", "folder", "kernel", "package", "verify"];
/// What libFuzzer wants of the compiler: counters of edges, and what is compared.
const FLAGS: &[&str] = &[
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=yes",
    "-Coverflow-checks=yes",
    "-Ccodegen-units=1",
];
/// What one input may take: nobody waits longer for a verdict, and no machine has less.
const LIMITS: &[&str] = &["-timeout=25", "-rss_limit_mb=1024", "-max_len=65536", "-print_final_stats=1"];
const USAGE: &str = "usage: cargo xtask fuzz [--seconds N] [TARGET...]";

/// Runs each of the targets named, or all, for so many seconds.
///
/// # Errors
/// A target cannot be built, or fails: its input is then in `fuzz/artifacts`.
pub fn run(arguments: &[&str]) -> Result<()> {
    let (mut seconds, mut targets) = (60, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        match argument {
            "--seconds" => seconds = arguments.next().context(USAGE)?.parse::<u32>().context(USAGE)?,
            target if TARGETS.contains(&target) => targets.push(target),
            other => bail!("no target {other}; there are {}\n{USAGE}", TARGETS.join(", ")),
        }
    }
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    let built = build()?;
    let mut failed = Vec::new();
    for target in targets {
        println!("fuzz: {target}, {seconds} s");
        let corpus = seeded(target)?;
        let artifacts = Path::new(ROOT).join("fuzz/artifacts").join(target);
        fs::create_dir_all(&artifacts).with_context(|| artifacts.display().to_string())?;
        let mut command = Command::new(built.join(target));
        command.arg(&corpus).args(LIMITS).arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        if let Err(error) = succeed(&mut command) {
            println!("fuzz: {error:#}");
            failed.push(target);
        }
    }
    ensure!(failed.is_empty(), "failed: {}; the inputs are in fuzz/artifacts", failed.join(", "));
    Ok(())
}

/// Builds all targets; the folder that they are in.
fn build() -> Result<PathBuf> {
    let host = host()?;
    // With a target of its own, what runs while building is not instrumented.
    let folder = Path::new(ROOT).join("target/fuzz");
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--target", &host, "--manifest-path"]);
    command.arg(Path::new(ROOT).join("fuzz/Cargo.toml")).arg("--target-dir").arg(&folder);
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    succeed(&mut command)?;
    Ok(folder.join(host).join("release"))
}

/// The machine that this is compiled for.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc tells no host")?;
    Ok(host.to_owned())
}

/// The corpus of a target, with inputs that are right to begin with.
fn seeded(target: &str) -> Result<PathBuf> {
    let folder = Path::new(ROOT).join("fuzz/corpus").join(target);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for (number, seed) in seeds(target)?.into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(folder)
}

fn seeds(target: &str) -> Result<Vec<Vec<u8>>> {
    let mut modules = Vec::new();
    collect(&Path::new(ROOT).join("samples/root"), &mut modules)?;
    let machine = tar_of(&MACHINE.map(|(name, text)| (name, text.as_bytes())))?;
    Ok(match target {
        "snapshot" => vec![
            [&[0], &machine[..]].concat(),
            [&b"\x01{\"schema\":\"modmem.machine\",\"version\":1,\"release\":\"6.12\",\"modules\":\"modules\"}\0"[..], MODULES.as_bytes()].concat(),
            [&[2], KALLSYMS.as_bytes()].concat(),
        ],
        "verify" => modules
            .iter()
            .map(|file| [&(machine.len() as u32).to_le_bytes()[..], &machine, file].concat())
            .collect(),
        "folder" => {
            let record = |(name, text): (u8, &[u8])| [&[name], &(text.len() as u16).to_le_bytes()[..], text].concat();
            let texts = [(0, MODULES), (1, KALLSYMS), (3, AREAS), (4, "quiet"), (19, "kernel/m.ko:\n"), (23, "alias a b\n")];
            let texts = texts.map(|(name, text)| (name, text.as_bytes()));
            let files = modules.iter().map(|file| (22, &file[..]));
            vec![texts.into_iter().map(record).collect::<Vec<_>>().concat(), files.map(record).collect::<Vec<_>>().concat()]
        }
        "package" => {
            let names: Vec<String> =
                (0..modules.len()).map(|number| format!("./lib/modules/6.12/kernel/m{number}.ko")).collect();
            let mut members = vec![("./boot/config-6.12", &b"CONFIG_X86_64=y\n"[..])];
            members.extend(names.iter().map(String::as_str).zip(modules.iter().map(Vec::as_slice)));
            vec![tar_of(&members)?]
        }
        "kernel" => {
            modules.extend([KALLSYMS, "0x12345678\tinit_task\tvmlinux\tEXPORT_SYMBOL\t\n"].map(|text| text.as_bytes().to_vec()));
            modules
        }
        _ => modules,
    })
}

const MODULES: &str = "sample_core 16384 0 - Live 0xffffffffc0000000\n";
const KALLSYMS: &str =
    "ffffffff81000000 T _text\nffffffff81200000 T printk\nffffffffc0000000 t core_init\t[sample_core]\n";
const AREAS: &str =
    "0xffffffffc0000000-0xffffffffc0002000    8192 load_module+0x1/0x2 pages=1 vmalloc N0=1\n";
/// Members of a snapshot.
const MACHINE: [(&str, &str); 9] = [
    ("modmem-snapshot", "format 1\n"),
    ("kernel", "6.12.0-amd64"),
    ("machine", "x86_64"),
    ("modules", MODULES),
    ("kallsyms", KALLSYMS),
    ("vmallocinfo", AREAS),
    ("sections", "sample_core .text 0xffffffffc0000000\nsample_core .data 0xffffffffc0001000\n"),
    ("config", "CONFIG_X86_64=y\nCONFIG_KALLSYMS_ALL=y\n"),
    ("end", ""),
];

fn tar_of(members: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, contents) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *contents)?;
    }
    Ok(archive.into_inner()?)
}

/// All module files below a folder.
fn collect(folder: &Path, files: &mut Vec<Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "ko") {
            files.push(fs::read(&path)?);
        }
    }
    Ok(())
}
