//! One boot from beginning to end.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use modmem::finalize::Rule;
use modmem_linux::{Error, Kernel, ModuleFile, OpenOptions, default_cache_folder};

use super::arch::{Arch, Recorder};
use super::boots::{Boot, KernelFrom};
use super::checks::{self, Findings, Measured};
use super::guest::Guest;
use super::machine::{self, Machine};
use super::options::Options;
use super::outcome::NotToBeHad;
use super::programs::Programs;
use super::{debian, guest_module, sources, words};
use crate::pokes::{self, Writes};

/// Moments that a guest records, in this order; the first only where a module waits in its init function.
const MOMENTS: [&str; 2] = ["waiting", "live"];
/// How the guest ends what it brings out.
const END: &str = "zz-end";

/// Where boots are made, and what those of one machine share.
#[derive(Debug)]
pub(super) struct Bench {
    /// The folder for packages, kernels and recordings.
    pub(super) work: PathBuf,
    programs: HashMap<&'static str, Programs>,
}

impl Bench {
    pub(super) fn new(target: &Path) -> Result<Bench> {
        let work = target.join("conformance");
        std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let work = work.canonicalize()?;
        Ok(Bench { work, programs: HashMap::new() })
    }

    /// The folder for what comes out of a boot.
    pub(super) fn folder(&self, boot: &Boot, options: &Options) -> PathBuf {
        options.keep.as_ref().map_or_else(|| self.work.join("boots"), Clone::clone).join(boot.name)
    }

    /// The same, empty.
    pub(super) fn recording(&self, boot: &Boot, options: &Options) -> Result<PathBuf> {
        let folder = self.folder(boot, options);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder.canonicalize()?)
    }

    /// The programs for a machine's guests, gathered when they are first asked for.
    pub(super) fn programs(&mut self, arch: &'static Arch) -> Result<&Programs> {
        match self.programs.entry(arch.name) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(none) => Ok(none.insert(Programs::gather(arch, &self.work)?)),
        }
    }
}

/// What came out of a boot.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) boot: &'static str,
    /// The kernel's release.
    pub(super) release: String,
    pub(super) remarks: Vec<String>,
    pub(super) moments: Vec<(String, Findings)>,
}

impl Report {
    pub(super) fn of(boot: &Boot, release: &str) -> Report {
        Report { boot: boot.name, release: release.to_owned(), remarks: Vec::new(), moments: Vec::new() }
    }

    /// What was compared in all moments together.
    pub(super) fn measured(&self) -> Measured {
        let mut all = Measured::default();
        for (_, Findings { measured, .. }) in &self.moments {
            all.modules = all.modules.max(measured.modules);
            all.bytes += measured.bytes;
            all.unexplained += measured.unexplained;
        }
        all
    }

    pub(super) fn is_clean(&self) -> bool {
        self.moments.iter().all(|(_, findings)| findings.differences.is_empty())
    }

    pub(super) fn print(&self) {
        for remark in &self.remarks {
            println!("{}: {remark}", self.boot);
        }
        for (moment, findings) in &self.moments {
            for line in &findings.compared {
                println!("{}, {moment}: {line}", self.boot);
            }
            for line in &findings.differences {
                println!("{}, {moment}: DIFFERENT: {line}", self.boot);
            }
        }
    }
}

/// Boots, and checks what comes out.
pub(super) fn boot(boot: &'static Boot, options: &Options, bench: &mut Bench) -> Result<Report> {
    if let KernelFrom::Root(suite) = boot.kernel {
        return debian::boot(boot, suite, options, bench);
    }
    let work = bench.work.clone();
    let built = match (boot.kernel, &boot.arch.recorder) {
        (KernelFrom::Sources(version), Recorder::Dumper(cross)) if options.kernel.is_none() => {
            Some(sources::kernel(version, boot.arch, cross, &work)?)
        }
        _ => None,
    };
    let spec = match (&options.kernel, boot.kernel, &built) {
        (Some(spec), _, _) => spec.clone(),
        (None, _, Some(built)) => built.root.display().to_string(),
        (None, KernelFrom::Archive(name) | KernelFrom::Sources(name) | KernelFrom::Root(name), None) => {
            name.to_owned()
        }
    };
    let cache = std::env::var_os("MODMEM_CACHE").map(PathBuf::from).or_else(default_cache_folder);
    // The newest kernel may be another one than when it was last asked for.
    let fetch = OpenOptions { cache, refresh: !boot.gates && !boot.drawn, ..OpenOptions::default() };
    let kernel = Kernel::open(&[&spec], &fetch).map_err(unavailable)?;
    println!("conformance: {}: {}, {}", boot.name, boot.about, kernel.describe());
    let config = kernel.config().context("the kernel's package has no configuration")?;
    let config = String::from_utf8_lossy(&config).into_owned();
    let mut report = Report::of(boot, kernel.release());

    let mut modules = modules(&kernel, boot, options)?;
    let build = || -> Result<Option<Vec<u8>>> {
        if !boot.waits {
            return Ok(None);
        }
        let headers = match &built {
            Some(built) => built.tree.clone(),
            None => guest_module::headers(boot.arch, kernel.release(), &work)?,
        };
        guest_module::build(boot.arch, kernel.release(), &headers, &work).map(Some)
    };
    let waits = match build() {
        Ok(file) => file,
        // Kernels that only report may need a newer compiler, and those of other distributions have no headers here.
        Err(error) if !boot.gates || options.kernel.is_some() => {
            report.remarks.push(format!("init memories are not compared: {error:#}"));
            None
        }
        Err(error) => return Err(error),
    };
    for name in asked(boot, options).into_iter().filter(|name| guest_module::ASKED_FOR.contains(name)) {
        let file = guest_module::built(name, kernel.release(), &work);
        // What cannot be built here cannot be booted.
        let file = match (&waits, file) {
            (None, Err(error)) => return Err(NotToBeHad(format!("{error:#}")).into()),
            (_, file) => file?,
        };
        modules.push((name.to_owned(), file));
    }
    let folder = bench.recording(boot, options)?;

    let words = words::lines(boot.arch, &modules)?;
    let programs = bench.programs(boot.arch)?;
    let archive = Guest {
        programs,
        words: &words,
        modules: &modules,
        waits: waits.as_deref().map(|file| (guest_module::NAME, file)),
        setup: boot.setup,
        kptr_restrict: boot.kptr_restrict,
        release: kernel.release(),
        config: &config,
    };
    let initramfs = work.join("initramfs");
    std::fs::write(&initramfs, archive.archive()?).with_context(|| initramfs.display().to_string())?;
    let disk = work.join("disk");
    let console = folder.join("console");
    let image = kernel.image_path().context("the kernel's package has no image")?;
    let machine = Machine {
        emulator: &boot.arch.emulator,
        cpu: boot.cpu,
        cpus: boot.cpus,
        kernel: image,
        initramfs: &initramfs,
        append: boot.append,
        devices: &[],
        patience: machine::PATIENCE,
    };
    let start = Instant::now();
    machine.run(&disk, &console)?;
    report.remarks.push(format!("booted, loaded and recorded in {} s", start.elapsed().as_secs()));
    bring_out(&disk, &folder)
        .with_context(|| format!("the guest's end was:\n{}", machine::tail(&console)))?;
    for file in [&initramfs, &disk] {
        std::fs::remove_file(file)?;
    }
    expected(boot, &folder)?;
    let refused = refused(&folder, boot, options)?;
    if !refused.is_empty() {
        report.remarks.push(format!("the kernel refused {}", refused.join(", ")));
    }
    if options.snapshot_only {
        report.remarks.push(format!("recorded in {}, not checked", folder.display()));
        return Ok(report);
    }

    let mut files: BTreeMap<String, Vec<u8>> = modules.into_iter().collect();
    files.extend(waits.map(|file| (guest_module::NAME.to_owned(), file)));
    for moment in MOMENTS.iter().filter(|moment| folder.join(moment).is_dir()) {
        let start = Instant::now();
        let recorded = folder.join(moment);
        let mut findings = match boot.refuses {
            Some(why) => checks::refusal(&recorded, why)?,
            None => checks::check(boot, &recorded, &files, &kernel, &config)?,
        };
        if let Some(hidden) = boot.finds {
            findings.must_be(hidden);
        }
        if *moment == MOMENTS[0]
            && boot.refuses.is_none()
            && findings.init_memories == 0
            && findings.differences.is_empty()
        {
            bail!("no init memory was compared, although {} waits", guest_module::NAME);
        }
        if boot.pokes {
            check_pokes(&folder, &recorded, &files, &mut findings)?;
        }
        report.moments.push(((*moment).to_owned(), findings));
        report.remarks.push(format!("{moment} checked in {:.1} s", start.elapsed().as_secs_f64()));
    }
    Ok(report)
}

/// A kernel that cannot be fetched is no failure of what is to be proven.
fn unavailable(error: Error) -> anyhow::Error {
    match error {
        Error::Debian { .. } => NotToBeHad(error.to_string()).into(),
        error => error.into(),
    }
}

/// The modules in the order of their loading, with their files.
fn modules(kernel: &Kernel, boot: &'static Boot, options: &Options) -> Result<Vec<(String, Vec<u8>)>> {
    let mut wanted: Vec<ModuleFile> = Vec::new();
    for name in boot.arch.disk {
        match kernel.find(name) {
            Ok(found) => wanted.extend(found),
            Err(Error::BuiltIn { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for name in asked(boot, options).into_iter().filter(|name| !guest_module::ASKED_FOR.contains(name)) {
        match kernel.find(name) {
            Ok(found) => wanted.extend(found),
            // What was a module once may be part of a newer kernel, or gone.
            Err(Error::BuiltIn { .. } | Error::UnknownModule { .. })
                if !boot.gates || options.kernel.is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let plan = kernel.load_order_of(&wanted)?;
    ensure!(plan.missing.is_empty(), "{:?} is nowhere", plan.missing);
    let file = |planned: modmem_linux::PlannedModule| {
        let name = planned.module.name().to_owned();
        Ok((name, planned.into_contents()?))
    };
    plan.modules.into_iter().map(file).collect()
}

fn asked<'o>(boot: &'static Boot, options: &'o Options) -> Vec<&'o str> {
    match &options.modules {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => boot.modules.to_vec(),
    }
}

/// Unpacks what the guest wrote on its disk.
pub(super) fn bring_out(disk: &Path, folder: &Path) -> Result<()> {
    let file = File::open(disk).with_context(|| disk.display().to_string())?;
    tar::Archive::new(BufReader::new(file)).unpack(folder).context("what the guest wrote is no archive")?;
    let end = folder.join(END);
    let end = std::fs::read_to_string(&end).context("what the guest wrote is cut off")?;
    match end.trim() {
        "complete" => Ok(()),
        problem => bail!("the guest {problem}"),
    }
}

/// The state that was asked for is the one that the guest was in.
pub(super) fn expected(boot: &Boot, folder: &Path) -> Result<()> {
    for expected in boot.expect {
        let path = folder.join(expected.file);
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let text = String::from_utf8_lossy(&text);
        ensure!(
            text.lines().any(|line| line.contains(expected.line)),
            "{} has no line with {:?}, but:\n{text}",
            path.display(),
            expected.line
        );
    }
    Ok(())
}

/// Modules that the kernel did not want, such as those for CPUs that are not there. Those that were asked for it must
/// have taken.
fn refused(folder: &Path, boot: &'static Boot, options: &Options) -> Result<Vec<String>> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let refused: Vec<String> = read("refused").lines().map(str::to_owned).collect();
    let loaded = read("loaded");
    for name in asked(boot, options) {
        ensure!(
            !refused.iter().any(|refused| refused == name) || !boot.gates,
            "the kernel refused {name}: {}",
            read("insmod.log")
        );
    }
    let least = if options.modules.is_some() { 1 } else { boot.least };
    let count = loaded.lines().count();
    ensure!(count >= least, "{count} modules were loaded, not at least {least}: {}", read("insmod.log"));
    Ok(refused)
}

/// Puts the writes to text that the guest recorded to the patch oracle.
fn check_pokes(
    folder: &Path,
    recorded: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    findings: &mut Findings,
) -> Result<()> {
    let snapshot = checks::snapshot(recorded)?;
    let mut file = |name: &str| Ok(files.get(name).cloned());
    let before = folder.join("before");
    let outcome = if before.is_dir() {
        pokes::check(&snapshot, &mut file, Writes::Between(&checks::snapshot(&before)?))?
    } else {
        let log = folder.join("setup.log");
        let text = std::fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        pokes::check(&snapshot, &mut file, Writes::Recorded(pokes::parse(&text)?))?
    };
    findings.compared.push(format!("patch oracle: {}", outcome.line()));
    findings.differences.extend(outcome.wrong.iter().take(20).cloned());
    // Only x86-64 updates static calls in modules (CONFIG_HAVE_STATIC_CALL_INLINE).
    let static_calls = (snapshot.machine == "x86_64").then_some(Rule::StaticCall);
    let wanted = [Rule::Ftrace, Rule::JumpLabel].into_iter().chain(static_calls);
    for rule in wanted.filter(|rule| !outcome.saw(*rule)) {
        findings.differences.push(format!("patch oracle: hardly any write of {rule} was recorded"));
    }
    Ok(())
}
