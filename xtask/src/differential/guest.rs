//! The kernel, started and asked: cases go in by one file, answers come out by another, and memory is read from here.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::answers::{Answers, Area};
use super::generate::{Case, Step};
use super::memory::{Memory, Root};
use super::uml::{PTRACE_LIBRARY, Uml};
use crate::command::{is_there, succeed};
use crate::conformance::outcome::not_to_be_had;

/// Longer than that no batch takes.
const PATIENCE: Duration = Duration::from_secs(300);
/// So much of a processor's time no case takes, in hundredths of a second: some modules have the kernel fault for ever.
const STUCK: u64 = 300;
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
    "con0=null",
    // Where the guest asks for memory.
    "ssl0=null,fd:1",
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

    /// Asks about cases, from one of them on, each with where to look after each of its steps.
    pub(super) fn ask(&self, cases: &[(Case, Vec<Vec<Look>>)], from: usize) -> Result<Answers> {
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
        kernel.env("LD_PRELOAD", Path::new("/").join(PTRACE_LIBRARY));
        kernel.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let looks = serve(kernel.spawn().context("chroot")?, &self.uml.root_table, &answers)?;
        let bytes = std::fs::read(&answers).context("the kernel did not start")?;
        let mut answers = Answers::parse(&bytes)?;
        answers.add_memory(looks);
        Ok(answers)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.outside);
        let _ = std::fs::remove_dir_all(self.uml.root.join("tmp").join(&self.name));
    }
}

/// What the kernel asked for, each time, or why that cannot be read.
type Looks = Result<Vec<Vec<Area>>>;

/// Waits until the kernel is gone; the memory that it asked for.
fn serve(mut kernel: Child, root: &Arc<OnceLock<Root>>, answers: &Path) -> Looks {
    let (start, looks) = (Instant::now(), Arc::new(Mutex::new(Ok(Vec::new()))));
    let Some(output) = kernel.stdout.take() else { bail!("no pipe from the kernel") };
    let (pid, kept, root) = (kernel.id(), Arc::clone(&looks), Arc::clone(root));
    // It ends when nobody has the pipe any more: processes of the guest can outlive their kernel.
    std::thread::spawn(move || {
        if let Err(error) = read_memory(pid, output, &root, &kept) {
            *locked(&kept) = Err(error);
        }
    });
    let (mut written, mut since) = (0, 0);
    while kernel.try_wait()?.is_none() {
        let length = std::fs::metadata(answers).map_or(0, |metadata| metadata.len());
        let used = time_used(pid);
        if length != written {
            (written, since) = (length, used);
        }
        if start.elapsed() > PATIENCE || used > since + STUCK || locked(&looks).is_err() {
            kernel.kill()?;
            kernel.wait()?;
            break;
        }
        std::thread::sleep(GLANCE);
    }
    let mut looks = locked(&looks);
    std::mem::replace(&mut *looks, Ok(Vec::new()))
}

/// What a process has used of a processor, in hundredths of a second (proc_pid_stat(5): utime and stime).
fn time_used(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind = text.rsplit_once(')').map(|(_, behind)| behind).unwrap_or_default();
    behind.split_ascii_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn locked(looks: &Mutex<Looks>) -> MutexGuard<'_, Looks> {
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what the guest asks for out of the kernel, and tells it. What comes besides while the kernel starts is nothing
/// that the guest says.
fn read_memory(pid: u32, output: impl Read, root: &OnceLock<Root>, looks: &Mutex<Looks>) -> Result<()> {
    let (mut memory, mut waits, mut wanted) = (None, None, Vec::new());
    let numbers = |line: &str| {
        let (address, number) = line.strip_prefix("0x")?.split_once(' ')?;
        Some((u64::from_str_radix(address, 16).ok()?, number.parse::<u32>().ok()?))
    };
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some(said) = line.trim().strip_prefix("look ") {
            waits = numbers(said);
        } else if let Some(block) = numbers(line.trim()) {
            wanted.push(block);
        } else if let Some((place, number)) = waits.take_if(|_| line.trim().is_empty()) {
            let memory = match &mut memory {
                Some(memory) => memory,
                None => memory.insert(Memory::of(pid, root)?),
            };
            memory.find_root(&wanted);
            let areas =
                wanted.drain(..).map(|(address, size)| (address, memory.read(address, size as usize)));
            if let Ok(looks) = &mut *locked(looks) {
                looks.push(areas.collect());
            }
            memory.tell_guest(place, number)?;
        }
    }
    Ok(())
}

/// What the guest is told to do, after the ways to load ([`super::generate::Closeness`]).
const UNLOAD: u32 = 3;
const END: u32 = 4;
const PLAN: u32 = 5;
/// The guest has no room for more.
const LONGEST_PLAN: usize = 1 << 16;

/// A case as the guest reads it.
fn records((case, looks): &(Case, Vec<Vec<Look>>)) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |what: u32, bytes: &[u8]| {
        records.extend_from_slice(&what.to_le_bytes());
        records.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        records.extend_from_slice(bytes);
    };
    for (step, looks) in case.steps.iter().zip(looks) {
        match step {
            Step::Load(file) => {
                let plan: Vec<u8> = looks.iter().flat_map(Look::line).collect();
                if !plan.is_empty() && plan.len() <= LONGEST_PLAN {
                    add(PLAN, &plan);
                }
                add(case.closeness as u32, file);
            }
            Step::Unload(name) => add(UNLOAD, name.as_bytes()),
        }
    }
    add(END, &[]);
    records
}

/// A block of a module's memory, by a section in it.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) section: String,
    /// The section's, in the block.
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Look {
    fn line(&self) -> Vec<u8> {
        format!("{} {} {}\0", self.offset, self.size, self.section).into_bytes()
    }
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
