//! Debian as it boots, and what a new user of modmem does on it: as himself and as root, on the machine itself; and the
//! host verifies the snapshot that he took against the kernel's package.
//!
//! The machine has what udev loads modules for: disks, networks, sound, USB, a screen, a watchdog.

mod root;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use modmem_linux::snapshot::Snapshot;
use modmem_linux::{Kernel, OpenOptions};

use super::boots::Boot;
use super::checks::{self, Findings};
use super::machine::{self, Machine};
use super::options::Options;
use super::programs::Program;
use super::run::{self, Bench, Report};

/// What the guest does.
const SCRIPT: &str = include_str!("../../../conformance/debian/run.sh");
/// Under emulation, systemd takes some minutes where others work too.
const PATIENCE: Duration = Duration::from_secs(1200);
/// Devices, besides the disks.
const DEVICES: &[&str] = &[
    "-machine",
    "q35",
    "-netdev",
    "user,id=net,restrict=on",
    "-device",
    "e1000,netdev=net",
    "-netdev",
    "user,id=other,restrict=on",
    "-device",
    "virtio-net-pci,netdev=other",
    "-device",
    "qemu-xhci",
    "-device",
    "usb-tablet",
    "-audiodev",
    "none,id=sound",
    "-device",
    "ich9-intel-hda",
    "-device",
    "hda-duplex,audiodev=sound",
    "-device",
    "virtio-rng-pci",
    "-device",
    "virtio-balloon-pci",
    "-device",
    "i6300esb",
    "-device",
    "VGA",
];

/// Who does what, and how it must end.
const ATTEMPTS: [Attempt; 6] = [
    Attempt { name: "user-snapshot", what: "modmem snapshot, no root", verdict: Ends::Refused },
    Attempt { name: "user-live", what: "modmem verify --live, no root", verdict: Ends::Refused },
    Attempt { name: "root-snapshot", what: "modmem snapshot", verdict: Ends::Well },
    Attempt { name: "root-verify", what: "modmem verify of that", verdict: Ends::Well },
    Attempt { name: "root-live", what: "modmem verify --live --own-files", verdict: Ends::Well },
    Attempt { name: "root-load", what: "modmem load ext4 --machine host", verdict: Ends::Well },
];

/// One command in the guest.
struct Attempt {
    name: &'static str,
    what: &'static str,
    verdict: Ends,
}

#[derive(Clone, Copy)]
enum Ends {
    /// Status 0.
    Well,
    /// Another status, and words that say whose rights are missing.
    Refused,
}

/// Boots a root of the suite, and checks what comes out.
pub(super) fn boot(
    boot: &'static Boot,
    suite: &'static str,
    options: &Options,
    bench: &mut Bench,
) -> Result<Report> {
    let work = bench.work.clone();
    let programs = bench.programs(boot.arch)?;
    let Program::Modmem(modmem) = &programs.recorder else {
        bail!("{} is a machine that modmem is not built for", boot.arch)
    };
    let input = work.join("input.tar");
    write_input(&input, modmem).with_context(|| input.display().to_string())?;
    let root = root::of(suite, &work)?;
    let package = root.package.to_str().context("the work folder's name is no UTF-8")?;
    let kernel = Kernel::open(&[package], &OpenOptions::default())?;
    println!("conformance: {}: {}, {}", boot.name, boot.about, kernel.release());
    let folder = bench.recording(boot, options)?;
    let (disk, console) = (work.join("disk"), folder.join("console"));
    let devices = devices(&root.image, &input);
    let machine = Machine {
        emulator: &boot.arch.emulator,
        cpu: boot.cpu,
        cpus: boot.cpus,
        kernel: &root.kernel,
        initramfs: &root.initramfs,
        append: &format!("root=LABEL=debian ro {}", boot.append),
        devices: &devices,
        patience: PATIENCE,
    };
    let mut report = Report::of(boot, kernel.release());
    let start = Instant::now();
    machine.run(&disk, &console)?;
    let seconds = start.elapsed().as_secs();
    run::bring_out(&disk, &folder)
        .with_context(|| format!("the guest's end was:\n{}", machine::tail(&console)))?;
    for file in [&input, &disk] {
        std::fs::remove_file(file)?;
    }
    run::expected(boot, &folder)?;
    let said = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_owned();
    report.remarks.push(format!(
        "up after {} s, done after {seconds} s: {} modules, {} BPF programs loaded by Debian itself",
        said("uptime"),
        said("modules").lines().count(),
        said("bpf")
    ));
    if options.snapshot_only {
        report.remarks.push(format!("recorded in {}, not checked", folder.display()));
        return Ok(report);
    }
    let mut user = Findings::default();
    for attempt in &ATTEMPTS {
        judge(attempt, &folder, &mut user);
    }
    written(&folder, &mut user)?;
    report.moments.push(("on the machine".into(), user));
    report.moments.push(("on the host".into(), on_host(boot, &folder, &kernel)?));
    Ok(report)
}

/// Compares the code and the constants that the machine itself wrote for its modules with its memory.
fn written(folder: &Path, findings: &mut Findings) -> Result<()> {
    let snapshot = checks::snapshot(&folder.join("live"))?;
    let written = folder.join("written");
    let Ok(document) = std::fs::read(written.join("modules.json")) else {
        findings.differences.push("modmem load --machine host wrote nothing".into());
        return Ok(());
    };
    let document: serde_json::Value = serde_json::from_slice(&document)?;
    let mut compared = 0;
    let modules = document["modules"].as_array().context("modules.json has no modules")?;
    for memory in modules.iter().filter_map(|module| module["memories"].as_array()).flatten() {
        let (kind, file) =
            (memory["type"].as_str().unwrap_or_default(), memory["file"].as_str().unwrap_or_default());
        if !["Text", "RoData"].contains(&kind) {
            continue;
        }
        let bytes = std::fs::read(written.join(file)).with_context(|| file.to_owned())?;
        let address = memory["address"].as_str().and_then(|text| text.strip_prefix("0x"));
        let address = u64::from_str_radix(address.context("a memory without an address")?, 16)?;
        let mut running = vec![0; bytes.len()];
        let is_there = snapshot.memory.copy(address, &mut running).is_some();
        match bytes.iter().zip(&running).position(|(ours, found)| ours != found) {
            None if is_there => compared += bytes.len(),
            at => findings.differences.push(format!("{file} is not what the machine has: {at:x?}")),
        }
    }
    findings
        .compared
        .push(format!("what it wrote of {} modules: {compared} bytes, as in its memory", modules.len()));
    // What anybody sees of the CPU and its mitigations is what the kernel goes by.
    let seen: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("user-load.out"))?)?;
    let (seen, known) = (features(&seen), features(&document));
    let is_other = |(name, value): &(&&str, &&str)| known.get(*name).is_some_and(|known| known != *value);
    let differing: Vec<_> = seen.iter().filter(is_other).collect();
    if !differing.is_empty() || seen.len() < 5 {
        findings
            .differences
            .push(format!("of {} features that a user sees, these differ: {differing:?}", seen.len()));
    }
    findings
        .compared
        .push(format!("what a user sees of the machine: {} features, as its kernel has them", seen.len()));
    Ok(())
}

/// What a document says of the machine itself, where something tells it.
fn features(document: &serde_json::Value) -> BTreeMap<&str, &str> {
    let state = document["machine"]["state"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = state.iter().filter(|variable| variable["told"] == true);
    let named = told.filter_map(|variable| variable["variable"].as_str().zip(variable["value"].as_str()));
    named.filter(|(name, _)| !name.contains(" key at ") && !name.contains(" call at ")).collect()
}

/// What is unpacked in the guest below `/usr/local`.
fn write_input(path: &Path, modmem: &[u8]) -> Result<()> {
    let mut archive = tar::Builder::new(std::fs::File::create(path)?);
    for (name, contents) in [("bin/modmem", modmem), ("share/modmem/run.sh", SCRIPT.as_bytes())] {
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, name, contents)?;
    }
    archive.into_inner()?;
    Ok(())
}

fn devices(image: &Path, input: &Path) -> Vec<String> {
    let disks = [
        "-drive".to_owned(),
        // What the guest writes is forgotten: every boot is the first.
        format!("file={},if=none,id=root,format=raw,snapshot=on", image.display()),
        "-device".to_owned(),
        "ide-hd,drive=root".to_owned(),
        "-drive".to_owned(),
        format!("file={},if=none,id=input,format=raw,readonly=on", input.display()),
        "-device".to_owned(),
        "virtio-blk-pci,drive=input,serial=modmem-in".to_owned(),
    ];
    DEVICES.iter().map(|word| (*word).to_owned()).chain(disks).collect()
}

/// How an attempt ended, and how it had to.
fn judge(attempt: &Attempt, folder: &Path, findings: &mut Findings) {
    let read = |end: &str| {
        let text = std::fs::read(folder.join(format!("{}.{end}", attempt.name))).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let (status, errors) = (read("status"), read("err"));
    let words = errors.lines().last().unwrap_or_default();
    findings.compared.push(format!("{}: status {status}: {words}", attempt.what));
    let problem = match attempt.verdict {
        Ends::Well if status == "0" => return,
        Ends::Well => "it must end with 0",
        Ends::Refused if status == "0" => "without rights it must not end with 0",
        Ends::Refused if !errors.contains("root") => "it must say that root can do it",
        Ends::Refused => return,
    };
    findings.differences.push(format!(
        "{}: {problem}: status {status}\n{errors}\n{}",
        attempt.what,
        read("out")
    ));
}

/// The snapshot, compared with the kernel's package.
fn on_host(boot: &Boot, folder: &Path, kernel: &Kernel) -> Result<Findings> {
    let mut findings = Findings::default();
    let path = folder.join("live").join(checks::SNAPSHOT);
    let mut snapshot = Snapshot::open(&path)?;
    ensure!(
        snapshot.release == kernel.release(),
        "the guest ran {}, not {}",
        snapshot.release,
        kernel.release()
    );
    let count = snapshot.modules.len();
    ensure!(count >= boot.least, "{count} modules were loaded, not at least {}", boot.least);
    let mut files = BTreeMap::new();
    for module in &snapshot.modules {
        let found = kernel.find(&module.name)?;
        if let Some(file) = found.into_iter().find(|file| file.name() == module.name) {
            files.insert(module.name.clone(), file.read()?);
        }
    }
    checks::bytes(&mut snapshot, &files, kernel, None, &mut findings)?;
    Ok(findings)
}
