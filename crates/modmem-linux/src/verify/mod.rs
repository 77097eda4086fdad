//! Verifying a snapshot: is the memory of its modules what their files say, and is there anything else?
//!
//! [`verify`] takes the modules in the order of their loading, lets a [`Verifier`] compare each, and checks those again
//! that went by another machine state than the rest. Then it looks for what should not be there at all.

mod beliefs;
mod contradictions;
mod exports;
mod given;
mod guest;
mod hidden;
mod hooks;
mod loaded;
mod machine;
mod module_symbols;
mod own_config;
mod own_files;
mod own_symbols;
mod strays;

use std::ops::Range;

use modmem::profile::Profile;
use modmem::verify::{GuestModule, ModuleReport, NotCompared, Tally, Variable, Verifier, VerifyError};
use modmem::{Image, Name, RunAddr};

pub use self::beliefs::Belief;
use self::beliefs::Support;
pub use self::exports::KernelExports;
pub use self::given::{Choice, GivenFiles};
pub use self::guest::SnapshotGuest;
pub use self::hidden::{HiddenModule, HiddenSymbol, Import};
pub use self::hooks::{HookRow, HookSite, HookWay, Hooker, Owner};
pub use self::loaded::{compare_loaded, live_text};
use self::module_symbols::ModuleSymbols;
pub use self::own_files::OwnFiles;
pub use self::own_symbols::{Difference, Differences, OwnSymbols};
pub use self::strays::{Sign, Stray, StrayKind};
use crate::snapshot::{ModuleRecord, ModuleState, Snapshot};
use crate::{Error, memory};

/// Where the files of modules come from: by name, `None` where there is none.
pub type FileSource<'f> = dyn FnMut(&str) -> Result<Option<Vec<u8>>, Error> + 'f;

/// What to take for right.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Expect the probes that the snapshot lists.
    pub listed_kprobes: bool,
    /// Expect probes at these addresses too.
    pub kprobes: Vec<u64>,
    /// What the kernel exports by its files: needed where its own list has functions alone.
    pub exports: Option<KernelExports>,
    /// What speaks for the kernel's own symbols in the snapshot, see [`Snapshot::check_own_symbols`].
    pub own_symbols: OwnSymbols,
    /// Whether the snapshot's configuration is that of the kernel's files, see [`Snapshot::check_config`].
    pub own_config: bool,
    /// What was found before that cannot all be true, see [`Snapshot::check_config`].
    pub contradictions: Vec<String>,
}

/// What became of one module.
#[derive(Debug)]
pub enum Outcome {
    /// Its memory was compared.
    Compared(Box<ModuleReport>),
    /// There is no file to compare it with.
    NoFile,
    /// It could not be compared; why.
    NotComparable(String),
}

/// One module of the snapshot.
#[derive(Debug)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// One thing that decides about code, and how it is.
#[derive(Clone, Copy, Debug)]
pub struct StateFact {
    /// What it is.
    pub variable: Variable,
    /// Its value.
    pub value: u64,
    /// Whether the kernel's own memory says so.
    pub proven: bool,
    /// How many sites show it.
    pub sites: u64,
}

/// All that was found.
#[derive(Debug)]
pub struct Verification {
    /// The kernel's release.
    pub release: String,
    /// The rules that were used.
    pub profile: Profile,
    /// The modules, in the order of their loading.
    pub modules: Vec<Checked>,
    /// What belongs to no module.
    pub strays: Vec<Stray>,
    /// Modules that are in no list, as their own memory describes them: their memories are among `strays`.
    pub hidden: Vec<HiddenModule>,
    /// Who hooks what: functions that are traced, probed, patched or attached to.
    pub hooks: Vec<HookRow>,
    /// The one machine state that everything had to fit.
    pub state: Vec<StateFact>,
    /// What speaks for the kernel's own symbols.
    pub own_symbols: OwnSymbols,
    /// What the machine says of itself that cannot all be true.
    pub contradictions: Vec<String>,
    /// What was believed, without support by anything but the machine's own word.
    pub beliefs: Vec<Belief>,
    /// What the reader should know about how far this can be trusted.
    pub remarks: Vec<String>,
}

impl Verification {
    /// All compared modules together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for checked in &self.modules {
            if let Outcome::Compared(report) = &checked.outcome {
                total.add(&report.total());
            }
        }
        total
    }

    /// Bytes that were compared.
    pub fn compared_bytes(&self) -> u64 {
        let total = self.total();
        let not_compared = NotCompared::ALL.into_iter().map(|reason| total.not_compared_for(reason));
        total.total.saturating_sub(not_compared.sum())
    }

    /// Whether everything was compared and nothing is unexplained. Where nothing was compared, nothing is clean.
    pub fn is_clean(&self) -> bool {
        let clean =
            |checked: &Checked| matches!(&checked.outcome, Outcome::Compared(report) if report.is_clean());
        let missing = self.total().not_compared_for(NotCompared::Unreadable);
        missing == 0
            && self.compared_bytes() > 0
            && self.modules.iter().all(clean)
            && self.strays.iter().all(|stray| !stray.kind.is_unexplained())
            && matches!(self.own_symbols, OwnSymbols::Believed | OwnSymbols::AsImage { .. })
            && self.contradictions.is_empty()
    }

    /// Whether that is so, and nothing was believed that whoever owns the machine could have written.
    pub fn is_proven(&self) -> bool {
        self.is_clean() && self.beliefs.is_empty()
    }
}

/// Compares a snapshot's modules with their files.
///
/// # Errors
/// The kernel is none that can be verified, or a file cannot be read. What is wrong with a single module is part of
/// the result.
pub fn verify(
    snapshot: &Snapshot,
    options: &Options,
    files: &mut FileSource<'_>,
) -> Result<Verification, Error> {
    memory::seed_hashes();
    // The kernel lists the newest first; whoever exports a symbol was loaded before those that use it.
    let records: Vec<&ModuleRecord> = snapshot.modules.iter().rev().collect();
    let profile = machine::of(snapshot.profile()?, &records, files)?;
    let guest = SnapshotGuest::new(snapshot).with_exports(options.exports.as_ref());
    let mut kprobes: Vec<RunAddr> = options.kprobes.iter().map(|&address| RunAddr(address)).collect();
    let named = kprobes.len();
    if options.listed_kprobes {
        let listed = snapshot.kprobes.iter().flatten().filter(|probe| !probe.gone);
        kprobes.extend(listed.map(|probe| RunAddr(probe.address)));
    }
    let listed_kprobes = kprobes.len() - named;
    let wrong = |error: VerifyError| Error::malformed("the snapshot", error.to_string());
    let mut verifier =
        Verifier::new(&guest, profile.clone(), kprobes).map_err(wrong)?.with_most_memory(memory::of_module());
    let mut modules = Vec::new();
    let symbols = ModuleSymbols::of(snapshot);
    let mut contradictions = options.contradictions.clone();
    for (index, record) in (0..).zip(&records) {
        let planted = &mut |image: &Image<'_>| contradictions.extend(symbols.planted(record, image));
        let outcome = check(&mut verifier, index, record, is_live(record), files, planted)?;
        modules.push(Checked { name: record.name.clone(), outcome });
    }
    for index in verifier.settle().map_err(wrong)? {
        let Some((record, checked)) = records.get(index as usize).zip(modules.get_mut(index as usize)) else {
            continue;
        };
        checked.outcome = check(&mut verifier, index, record, is_live(record), files, &mut |_| ())?;
    }
    let state = verifier.machine_state();
    let state = state.map(|(variable, value, proven, sites)| StateFact { variable, value, proven, sites });
    let mut state: Vec<StateFact> = state.collect();
    state.sort_by_key(|fact| fact.variable);
    let remarks = remarks(snapshot, &profile, &verifier);
    let (_, single) = verifier.unlisted_symbols();
    // As if its init still ran, its init memory is compared.
    let mut is_still_init = |index: usize, range: &Range<u64>| {
        let Some(record) = records.get(index) else { return Ok(false) };
        let outcome = check(&mut verifier, index as u32, record, false, files, &mut |_| ())?;
        Ok(matches!(outcome, Outcome::Compared(report) if is_as_loaded(&report, range)))
    };
    let strays = strays::find(snapshot, &profile, &modules, &records, &mut is_still_init)?;
    let hidden = hidden::find(snapshot, &profile, &strays);
    let hooks = hooks::find(snapshot, &profile, &modules, (&strays, &hidden), &state);
    contradictions.extend(contradictions::of(snapshot, &modules, &records, &state));
    let mut verification = Verification {
        release: snapshot.release.clone(),
        profile,
        modules,
        strays,
        hidden,
        hooks,
        state,
        own_symbols: options.own_symbols.clone(),
        contradictions,
        beliefs: Vec::new(),
        remarks,
    };
    let support = Support {
        configuration: options.own_config,
        goes_by_list: strays::goes_by_list(snapshot, &verification.profile),
        listed_kprobes,
        single,
    };
    verification.beliefs = beliefs::of(&verification, support);
    Ok(verification)
}

/// Whether a module's init is over, so that its init memory is gone.
fn is_live(record: &ModuleRecord) -> bool {
    record.state != ModuleState::Loading
}

/// Whether the memories of a module that lie at these addresses were read and hold nothing unexplained.
fn is_as_loaded(report: &ModuleReport, range: &Range<u64>) -> bool {
    let memories = report.memories.iter().filter_map(|(_, memory)| memory.as_ref());
    let mut inside = memories.filter(|memory| range.contains(&memory.address.0));
    inside.all(|memory| {
        memory.tally.unexplained == 0 && memory.tally.not_compared_for(NotCompared::Unreadable) == 0
    })
}

/// Names and addresses of a module's sections.
fn sections(record: &ModuleRecord) -> Vec<(Name<'_>, RunAddr)> {
    let sections = record.sections.iter();
    sections.map(|section| (Name(section.name.as_bytes()), RunAddr(section.address))).collect()
}

fn guest_module<'r>(
    record: &'r ModuleRecord,
    sections: &'r [(Name<'r>, RunAddr)],
    live: bool,
) -> GuestModule<'r> {
    GuestModule {
        name: &record.name,
        sections,
        live,
        forced: record.taints.contains('F'),
        build_id: record.build_id.as_deref(),
        size: Some(record.size).filter(|size| *size > 0),
    }
}

fn check(
    verifier: &mut Verifier<'_>,
    index: u32,
    record: &ModuleRecord,
    live: bool,
    files: &mut FileSource<'_>,
    compared: &mut dyn FnMut(&Image<'_>),
) -> Result<Outcome, Error> {
    let Some(file) = files(&record.name)? else { return Ok(Outcome::NoFile) };
    let image = match Image::parse(&file) {
        Ok(image) => image,
        Err(error) => return Ok(Outcome::NotComparable(format!("its file: {error}"))),
    };
    let sections = sections(record);
    let module = guest_module(record, &sections, live);
    match verifier.check(index, &image, &module) {
        Ok(report) => {
            compared(&image);
            Ok(Outcome::Compared(Box::new(report)))
        }
        Err(error) => Ok(Outcome::NotComparable(error.to_string())),
    }
}

fn remarks(snapshot: &Snapshot, profile: &Profile, verifier: &Verifier<'_>) -> Vec<String> {
    let mut remarks: Vec<String> = Vec::new();
    remarks.extend(snapshot.missing.iter().map(|missing| format!("not in the snapshot: {missing}")));
    if snapshot.config.is_none() {
        remarks.push("no kernel configuration: Debian's is assumed".into());
        if snapshot.machine.is_empty() {
            remarks.push("nothing says which machine it is: x86-64 is assumed".into());
        }
    }
    if snapshot.kernel_place().is_none() && profile.machine.places_modules_by_kernel() {
        let text = "no symbols tell where the kernel begins and ends: modules are looked for beside one as large as \
                    Debian's, where it was linked to lie";
        remarks.push(text.into());
    }
    if !verifier.has_cpu_words() {
        let text = "the kernel's own words about the CPU are not in the snapshot: code that depends on features \
                    must be in step with itself, and what only one place shows is taken as it is";
        remarks.push(text.into());
    }
    remarks.extend(snapshot.contradiction());
    let (unlisted, single) = verifier.unlisted_symbols();
    if unlisted > 0 {
        let mut text = format!(
            "the kernel lists functions alone (CONFIG_KALLSYMS_ALL is off): where {unlisted} of its variables lie is taken \
             from what refers to them in modules, which must agree"
        );
        if single > 0 {
            text.push_str(&format!(
                "; {single} of them only one place refers to, where any address of the kernel's data passes"
            ));
        }
        remarks.push(text);
    }
    remarks
}
