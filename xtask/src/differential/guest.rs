//! The kernel, started and asked: cases go in by one file, answers come out by another.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::answers::Answers;
use super::generate::{Case, Step};
use super::uml::Uml;
use crate::command::{is_there, succeed};
use crate::conformance::outcome::not_to_be_had;

/// Longer than that no batch takes.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often the kernel is looked after.
const GLANCE: Duration = Duration::from_millis(5);
/// What it is started with. It would measure for a second how fast it counts, and which of the ways to compute RAID's
/// checksums is the fastest: nobody needs them here, and it starts again whenever it has died.
const ARGUMENTS: &[&str] = &[
    "mem=512M",
    "rootfstype=hostfs",
    "rw",
    "init=/guest",
    "no_hash_pointers",
    "con=null",
    "con0=null,fd:1",
    "quiet",
    "log_buf_len=1M",
    "lpj=5000000",
    "initcall_blacklist=raid6_select_algo,calibrate_xor_blocks",
    "uml_dir=/tmp",
];
/// Its memory is a file: one in memory, if there is room for some of them.
const SHARED_MEMORY: &str = "/dev/shm";
const ROOM: u64 = 3 << 20;
/// Where that is in the kernel's root.
const BOUND: &str = "tmp/shm";

/// One of several kernels that are asked at a time, each with files of its own.
#[derive(Debug)]
pub(super) struct Guest<'u> {
    uml: &'u Uml,
    name: String,
    /// Where its files are, as seen in its root.
    folder: PathBuf,
    /// The same, as seen from here.
    outside: PathBuf,
}

impl<'u> Guest<'u> {
    pub(super) fn new(uml: &'u Uml, number: usize) -> Result<Guest<'u>> {
        let name = format!("modmem-{}-{number}", std::process::id());
        let (folder, outside) = match has_room() {
            true => (Path::new("/").join(BOUND).join(&name), Path::new(SHARED_MEMORY).join(&name)),
            false => (Path::new("/tmp").join(&name), uml.root.join("tmp").join(&name)),
        };
        std::fs::create_dir_all(&outside).with_context(|| outside.display().to_string())?;
        Ok(Guest { uml, name, folder, outside })
    }

    /// Asks about cases, from one of them on.
    pub(super) fn ask(&self, cases: &[Case], from: usize) -> Result<Answers> {
        let answers = self.outside.join("answers");
        if from == 0 {
            let bytes = cases.iter().map(records).collect::<Vec<_>>().concat();
            std::fs::write(self.outside.join("cases"), bytes).context("cases")?;
        }
        let _ = std::fs::remove_file(&answers);
        let inside = |name: &str| self.folder.join(name).display().to_string();
        let mut kernel = Command::new("chroot");
        kernel.arg(&self.uml.root).arg("/usr/bin/linux.uml").args(ARGUMENTS);
        kernel.arg(format!("umid={}", self.name)).arg(format!("FROM={from}"));
        kernel.args([format!("CASES={}", inside("cases")), format!("ANSWERS={}", inside("answers"))]);
        kernel.env("TMPDIR", &self.folder).env("HOME", "/tmp");
        kernel.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        wait_for(kernel.spawn().context("chroot")?)?;
        Answers::parse(&std::fs::read(&answers).context("the kernel did not start")?)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.outside);
        let _ = std::fs::remove_dir_all(self.uml.root.join("tmp").join(&self.name));
    }
}

fn wait_for(mut kernel: Child) -> Result<()> {
    let start = Instant::now();
    while kernel.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            kernel.kill()?;
            kernel.wait()?;
            break;
        }
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

/// A case as the guest reads it.
fn records(case: &Case) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |what: u32, bytes: &[u8]| {
        records.extend_from_slice(&what.to_le_bytes());
        records.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        records.extend_from_slice(bytes);
    };
    for step in &case.steps {
        match step {
            Step::Load(file) => add(u32::from(case.wholly), file),
            Step::Unload(name) => add(2, name.as_bytes()),
        }
    }
    add(3, &[]);
    records
}

/// Whether there is room for the memory of kernels and for cases in the file system that lies in memory.
fn has_room() -> bool {
    let output = Command::new("df").args(["--output=avail", SHARED_MEMORY]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().last().and_then(|line| line.trim().parse::<u64>().ok()).is_some_and(|free| free >= ROOM)
}

/// Folders of this machine, bound into a root while this is there.
#[derive(Debug)]
pub(super) struct Mounted(Vec<PathBuf>);

impl Mounted {
    pub(super) fn of(root: &Path) -> Result<Mounted> {
        if !is_there("mount") {
            bail!("no mount here");
        }
        let mut mounted = Mounted(Vec::new());
        // The kernel has a /dev of its own: what lies in memory is bound elsewhere.
        let mut binds = vec![("/proc", "proc"), ("/dev", "dev")];
        if Path::new(SHARED_MEMORY).is_dir() {
            binds.push((SHARED_MEMORY, BOUND));
        }
        for (from, to) in binds {
            let folder = root.join(to);
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let bound = succeed(Command::new("mount").arg("--bind").arg(from).arg(&folder));
            bound.map_err(not_to_be_had("binding folders into a root, which takes root's rights"))?;
            mounted.0.push(folder);
        }
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(folder).status();
        }
    }
}
