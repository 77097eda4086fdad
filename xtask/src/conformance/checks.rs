//! What is checked of one moment of one guest: layout, bytes, views.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use modmem::profile::KernelConfig;
use modmem::verify::NotCompared;
use modmem_linux::Kernel;
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{self, KernelExports, Outcome, OwnSymbols};

use super::boots::Boot;
use crate::compare::{Differences, Held, layouts, views};
use crate::loaded::Loaded;
use crate::oracle::Oracle;

/// The moment's snapshot.
pub(super) const SNAPSHOT: &str = "snapshot.mms";

/// What was found in one moment.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What was compared, in a line each.
    pub(super) compared: Vec<String>,
    /// How many init memories were there.
    pub(super) init_memories: usize,
    /// How much of memory was compared.
    pub(super) measured: Measured,
    /// What differs.
    pub(super) differences: Vec<String>,
}

/// How much of a snapshot was compared, and with what result.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    pub(super) modules: usize,
    /// Bytes that have one right form, or one of a few.
    pub(super) bytes: u64,
    pub(super) unexplained: u64,
}

impl Findings {
    fn add(&mut self, what: &str, compared: String, differences: &Differences) {
        self.compared.push(format!("{what}: {compared}"));
        self.differences.extend(differences.lines().map(|line| format!("{what}: {line}")));
    }

    /// Makes of what is to be found, found alone, something that was compared.
    pub(super) fn must_be(&mut self, hidden: &str) {
        let before = self.differences.len();
        self.differences.retain(|line| line != hidden);
        match before - self.differences.len() {
            1 => self.compared.push(format!("found, as it must be: {hidden}")),
            _ => self.differences.push(format!("not found: {hidden}")),
        }
    }

    fn attempted(&mut self, what: &str, comparison: Result<()>) {
        self.differences.extend(comparison.err().map(|error| format!("{what}: {error:#}")));
    }
}

/// Where modmem can have nothing to say, it must say so: with words and by its exit status.
pub(super) fn refusal(folder: &Path, why: &str) -> Result<Findings> {
    let (status, words) = taken(folder)?;
    let mut findings = Findings::default();
    findings.compared.push(format!("snapshot: status {status}: {}", words.trim()));
    if status == "0" {
        findings.differences.push("snapshot: of no use, and yet its exit status is 0".to_owned());
    }
    if !words.contains(why) {
        findings.differences.push(format!("snapshot: it does not speak of {why}, but says:\n{words}"));
    }
    Ok(findings)
}

/// The exit status of `modmem snapshot` in the guest, and what it said.
fn taken(folder: &Path) -> Result<(String, String)> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    Ok((read("snapshot.status")?.trim().to_owned(), read("snapshot.log")?))
}

/// Checks the moment that a guest recorded in `folder`.
pub(super) fn check(
    boot: &Boot,
    folder: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    kernel: &Kernel,
    config: &str,
) -> Result<Findings> {
    if folder.join(SNAPSHOT).exists() || folder.join("snapshot.status").exists() {
        let (status, words) = taken(folder)?;
        ensure!(status == "0", "modmem snapshot in the guest: status {status}: {words}");
    }
    let oracle = Oracle::of(folder, files.clone(), config.to_owned())?;
    let mut snapshot = snapshot(folder).with_context(|| folder.display().to_string())?;
    let mut findings = Findings::default();
    // One that cannot be made at all is a difference, and the others are still worth having.
    let compared = layout(&oracle, &mut findings);
    findings.attempted("layout", compared);
    let exports = exports(kernel, config, &snapshot);
    let compared = bytes(&mut snapshot, files, kernel, exports, &mut findings);
    findings.attempted("bytes", compared);
    // Percpu data begins behind the kernel's own, and modules refer to its variables.
    if !oracle.symbols.contains_key("__per_cpu_end") {
        findings.compared.push("views: not compared, the kernel lists functions alone".to_owned());
    } else if !boot.drawn {
        let compared = view(&oracle, boot.arch.held, &mut findings);
        findings.attempted("views", compared);
    }
    Ok(findings)
}

/// Sections and memories.
fn layout(oracle: &Oracle, findings: &mut Findings) -> Result<()> {
    let layouts = layouts(oracle)?;
    let mut compared = format!(
        "{} modules, {} sections, {} memories ({} of init)",
        layouts.modules, layouts.sections, layouts.areas, layouts.init_areas
    );
    if layouts.shared > 0 {
        compared += &format!(", {} texts in huge pages whose sizes nobody reports", layouts.shared);
    }
    findings.init_memories = layouts.init_areas;
    findings.add("layout", compared, &layouts.differences);
    Ok(())
}

/// What user space sees.
fn view(oracle: &Oracle, held: Held<'_>, findings: &mut Findings) -> Result<()> {
    let views = views(oracle, held)?;
    let compared = format!(
        "{} modules in /proc/modules, {} files of /sys/module, {} lines of /proc/kallsyms",
        views.modules, views.files, views.symbols
    );
    findings.add("views", compared, &views.differences);
    Ok(())
}

/// The moment's snapshot: the one that modmem took in the guest, or one made of what a dumper left.
pub(super) fn snapshot(folder: &Path) -> Result<Snapshot> {
    let path = folder.join(SNAPSHOT);
    if !path.exists() {
        Snapshot::open(folder)?.write(&path)?;
    }
    Ok(Snapshot::open(&path)?)
}

/// What the kernel's files say that it exports, where its own list has functions alone: as `modmem verify --kernel` has it.
fn exports(kernel: &Kernel, config: &str, snapshot: &Snapshot) -> Option<KernelExports> {
    if KernelConfig::parse(config).is_set("KALLSYMS_ALL") {
        return None;
    }
    KernelExports::of(&snapshot.symbols, &kernel.symbols(None).ok()?.symbols)
}

/// What `load` makes of the modules, in the state of that moment, must be what was there.
fn loaded(loaded: &Loaded, findings: &mut Findings) {
    let mut differences = Differences::default();
    loaded.differences.iter().chain(&loaded.not_compared).for_each(|line| differences.push(line.clone()));
    findings.add("loaded", loaded.line(), &differences);
}

/// Verifies a snapshot: whatever is not explained is a difference. So is what the machine says of its kernel and the
/// kernel's files do not.
pub(super) fn bytes(
    snapshot: &mut Snapshot,
    files: &BTreeMap<String, Vec<u8>>,
    kernel: &Kernel,
    exports: Option<KernelExports>,
    findings: &mut Findings,
) -> Result<()> {
    let config = kernel.config().map(|config| String::from_utf8_lossy(&config).into_owned());
    let contradiction = config.as_ref().and_then(|config| snapshot.check_config(config));
    let own_symbols = match kernel.list()? {
        Some(list) => snapshot.check_own_symbols(&list).map_err(|problem| anyhow!("{problem}"))?,
        None => OwnSymbols::Believed,
    };
    let options = verify::Options {
        listed_kprobes: true,
        exports,
        own_symbols,
        own_config: config.is_some(),
        contradictions: contradiction.into_iter().collect(),
        ..verify::Options::default()
    };
    let verification = verify::verify(snapshot, &options, &mut |name| Ok(files.get(name).cloned()))?;
    let total = verification.total();
    let mut differences = Differences::default();
    for module in &verification.modules {
        match &module.outcome {
            Outcome::Compared(report) => {
                for one in &report.unexplained {
                    differences.push(format!(
                        "{}: {} at {}: {:02x?} where {:02x?} is expected ({:?})",
                        module.name, one.kind, one.address, one.found, one.expected, one.why
                    ));
                }
            }
            Outcome::NoFile => differences.push(format!("{}: no file", module.name)),
            Outcome::NotComparable(why) => differences.push(format!("{}: not compared: {why}", module.name)),
        }
    }
    for stray in verification.strays.iter().filter(|stray| stray.kind.is_unexplained()) {
        differences.push(format!("{:#x?} belongs to nobody: {:?}", stray.range, stray.kind));
    }
    verification.contradictions.iter().for_each(|line| differences.push(line.clone()));
    match &verification.own_symbols {
        OwnSymbols::Believed => {
            findings.compared.push("own symbols: no image to compare them with".to_owned())
        }
        OwnSymbols::AsImage { count } => {
            findings.compared.push(format!("own symbols: {count}, all as the image has them"));
        }
        other => differences.push(format!("the kernel's own symbols are not those of its image: {other:x?}")),
    }
    if !verification.is_clean() && differences.is_empty() {
        differences.push("the verification is not clean and does not say why".to_owned());
    }
    let reasons = NotCompared::ALL.map(|reason| format!("{} {reason}", total.not_compared_for(reason)));
    let compared = format!(
        "{} in all, {} identical, {} explained, {} in either state, {} unexplained; not compared: {}",
        total.total,
        total.identical,
        total.explained_bytes(),
        total.unproven_bytes(),
        total.unexplained,
        reasons.join(", ")
    );
    findings.add("bytes", compared, &differences);
    let checked =
        verify::compare_loaded(snapshot, &verification, &options, &mut |name| Ok(files.get(name).cloned()))?;
    loaded(&Loaded::of(&checked, &verification), findings);
    findings.measured = Measured {
        modules: verification.modules.len(),
        bytes: total.identical + total.explained_bytes() + total.unproven_bytes() + total.unexplained,
        unexplained: total.unexplained,
    };
    for missing in &snapshot.missing {
        findings.compared.push(format!("not in the snapshot: {missing}"));
    }
    Ok(())
}
