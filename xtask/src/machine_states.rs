//! Records the states of the machines that `load --machine` knows by name: boots a kernel on each, and keeps what its variables
//! hold and its image does not.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use modmem_linux::machine::DescribedKernel;
use modmem_linux::snapshot::Snapshot;
use modmem_linux::{Kernel, OpenOptions};

use crate::conformance;

/// Where the states are kept.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/modmem-linux/src/machine/states");
/// Modules that name many keys of the kernel.
const MODULES: &str = "ext4+xfs+btrfs+kvm+bridge+nf_tables+drm+loop+virtio_net+tun+overlay+dm_mod";
/// CPUs of QEMU's for which Linux decides in different ways. The first is the default.
const CPUS_AMD64: &[&str] = &[
    "qemu64",
    "Nehalem",
    "SandyBridge",
    "IvyBridge",
    "Haswell",
    "Skylake-Client",
    "Skylake-Server",
    "Cascadelake-Server",
    "Icelake-Server",
    "EPYC",
    "EPYC-Rome",
    "EPYC-Milan",
    "max",
];
const CPUS_ARM64: &[&str] = &["cortex-a57", "cortex-a53", "cortex-a72", "cortex-a76", "max,pauth-impdef=on"];
const CPUS_S390X: &[&str] = &["max", "qemu"];

/// One machine of the list: architecture, version of the kernel, CPU.
type Named = (&'static str, &'static str, &'static str);

/// All that is kept: every CPU for the version that most run, a few for others.
fn all() -> impl Iterator<Item = Named> {
    let some = [CPUS_AMD64[0], "Skylake-Server", "EPYC-Milan"];
    let amd64 = |version: &'static str, cpus: Vec<&'static str>| {
        cpus.into_iter().map(move |cpu| ("amd64", version, cpu))
    };
    let others =
        ["6.1", "7.3", "5.10", "6.17"].into_iter().flat_map(move |version| amd64(version, some.to_vec()));
    let arm64 = CPUS_ARM64.iter().map(|cpu| ("arm64", "6.12", *cpu));
    let arm64 = arm64.chain([("arm64", "7.3", CPUS_ARM64[0])]);
    let s390x = CPUS_S390X.iter().map(|cpu| ("s390x", "6.12", *cpu));
    let s390x = s390x.chain([("s390x", "7.3", CPUS_S390X[0])]);
    amd64("6.12", CPUS_AMD64.to_vec()).chain(arm64).chain(s390x).chain(others)
}

/// Records the states whose paths contain one of `wanted`, or all.
///
/// # Errors
/// A machine cannot be booted here, or its state cannot be written.
pub fn run(wanted: &[&str]) -> Result<()> {
    for (arch, version, cpu) in all() {
        let name = name(arch, cpu);
        let path = PathBuf::from(FOLDER).join(arch).join(version).join(format!("{name}.state"));
        let shown = format!("{arch}/{version}/{name}");
        if !wanted.is_empty() && !wanted.iter().any(|wanted| shown.contains(wanted)) {
            continue;
        }
        let text = record(arch, version, cpu).with_context(|| shown.clone())?;
        std::fs::create_dir_all(path.parent().context("a path of states")?)?;
        std::fs::write(&path, text)?;
        println!("machine-states: {shown}");
    }
    Ok(())
}

/// The name by which users know a machine.
fn name(arch: &str, cpu: &'static str) -> &'static str {
    let defaults = [("amd64", CPUS_AMD64[0]), ("arm64", CPUS_ARM64[0]), ("s390x", CPUS_S390X[0])];
    if defaults.contains(&(arch, cpu)) {
        return "default";
    }
    cpu.split(',').next().unwrap_or(cpu)
}

fn record(arch: &str, version: &str, cpu: &str) -> Result<String> {
    let source = match arch {
        "amd64" => format!("debian:{version}"),
        other => format!("debian:{version}:{other}"),
    };
    let modules = if arch == "amd64" { MODULES } else { "ext4+xfs+btrfs+bridge+nf_tables+loop" };
    let folder = Path::new("target/machine-states");
    let state = format!("kernel={source} cpu={cpu} cpus=2 modules={modules} waits=no");
    let kept = folder.display().to_string();
    let counts = conformance::run(&["--state", &state, "--snapshot-only", "--keep", &kept])?;
    if counts.skipped > 0 || counts.failed > 0 {
        bail!("{cpu} cannot be booted here");
    }
    // A machine that runs modmem writes a file, others the members of one.
    let (recorded, file) = (folder.join("state-0/live"), "snapshot.mms");
    let snapshot =
        Snapshot::open(Some(recorded.join(file)).filter(|path| path.exists()).unwrap_or(recorded))?;
    let kernel = Kernel::open(&[&source], &OpenOptions { offline: true, ..OpenOptions::default() })?;
    if kernel.release() != snapshot.release {
        bail!("{} was booted, and {source} is {}", snapshot.release, kernel.release());
    }
    let image = kernel.kernel_image()?.context("the package has no image")?;
    let described = DescribedKernel::of(&source, &image)?;
    let about = format!("a machine of QEMU's with 2 CPUs {cpu}, as Debian boots on it");
    let state = described.state_of(&snapshot, &about).map_err(|problem| anyhow!(problem))?;
    Ok(state.to_string())
}
