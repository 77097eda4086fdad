//! What a verification found, as data: what is shown, and what `--json` prints.

use modmem::layout::MemoryKind;
use modmem::verify::{NotCompared, Rule, Tally};
use modmem_linux::verify::{Checked, Outcome, Stray, StrayKind, Verification};
use serde::Serialize;

use super::atlas::Atlas;
use super::belief::BeliefReport;
use super::doubt;
use super::file_map::FileMap;
use super::files::FileReport;
use super::finding::{self, Finding};
use super::grounds::Grounds;
use super::hidden::HiddenReport;
use super::hooks::HookReport;
use super::input::Input;
use super::state::State;
use super::stray::StrayReport;
use crate::args::VerifyArgs;
use crate::output::json::{Address, Kind};
use crate::session::{doubts, profile_name};

/// The document `modmem.verify`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) snapshot: String,
    pub(super) kernel: KernelReport,
    /// Where the modules' files come from.
    pub(super) files: String,
    /// Whether it is the machine that runs this program.
    #[serde(skip)]
    pub(super) live: bool,
    /// What the verdict rests on.
    pub(super) rests_on: Grounds,
    pub(super) verdict: Verdict,
    /// Of all modules, whichever are shown.
    pub(super) total: TallyReport,
    /// In the order of their loading.
    pub(super) modules: Vec<ModuleReport>,
    pub(super) strays: Vec<StrayReport>,
    /// Modules that are in no list, as they describe themselves.
    pub(super) hidden: Vec<HiddenReport>,
    /// Who hooks what.
    pub(super) hooks: Vec<HookReport>,
    /// What the machine says of itself that is not so, or cannot all be so.
    pub(super) contradictions: Vec<String>,
    /// What was believed without support.
    pub(super) beliefs: Vec<BeliefReport>,
    pub(super) state: State,
    pub(super) remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct KernelReport {
    pub(super) release: String,
    pub(super) profile: String,
    pub(super) proven: bool,
}

/// What it comes to.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    /// Everything was compared, nothing is unexplained, and somebody vouches for the files, or they are to be trusted; if
    /// so asked for, nothing was believed either.
    pub(super) clean: bool,
    /// Everything was compared and nothing is unexplained, whatever the files are worth.
    pub(super) consistent: bool,
    /// Whether files that the machine itself brings are to be trusted.
    pub(super) own_files: bool,
    /// Modules that were compared with files that the machine itself brings.
    pub(super) modules_with_own_files: usize,
    /// Bytes that were compared.
    pub(super) compared: u64,
    /// The same, and nothing was believed that whoever owns the machine could have written.
    pub(super) proven: bool,
    /// Whether that was asked for.
    pub(super) strict: bool,
    pub(super) modules: usize,
    pub(super) modules_with_unexplained: usize,
    pub(super) unexplained: u64,
    pub(super) modules_without_file: usize,
    pub(super) modules_not_comparable: usize,
    /// Bytes that ought to be in the snapshot.
    pub(super) missing: u64,
    pub(super) unexplained_strays: usize,
    /// Bytes of addresses where modules may lie and nobody looked.
    pub(super) unseen: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct TallyReport {
    pub(super) bytes: u64,
    pub(super) identical: u64,
    pub(super) explained: Vec<ByRule>,
    pub(super) unproven: Vec<ByRule>,
    pub(super) unexplained: u64,
    pub(super) not_compared: Vec<ByReason>,
}

#[derive(Debug, Serialize)]
pub(super) struct ByRule {
    pub(super) rule: &'static str,
    pub(super) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct ByReason {
    pub(super) reason: &'static str,
    pub(super) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct ModuleReport {
    pub(super) name: String,
    /// `compared`, `no-file` or `not-comparable`.
    pub(super) outcome: &'static str,
    /// Why it could not be compared.
    pub(super) reason: Option<String>,
    /// The file that it was compared with.
    pub(super) file: Option<FileReport>,
    pub(super) total: TallyReport,
    pub(super) memories: Vec<MemoryReport>,
    pub(super) unexplained: Vec<Finding>,
    /// Places that are not listed, as there are too many.
    pub(super) more_unexplained: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct MemoryReport {
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    pub(super) address: Address,
    #[serde(flatten)]
    pub(super) tally: TallyReport,
}

impl Report {
    /// The report of a verification; of `only` these modules, if any are named.
    pub(super) fn of(
        input: &Input,
        verification: &Verification,
        arguments: &VerifyArgs,
    ) -> Result<Report, modmem_linux::Error> {
        let atlas = Atlas::new(&input.snapshot, verification);
        let only = &arguments.modules;
        let profile = &verification.profile;
        let kernel = KernelReport {
            release: verification.release.clone(),
            profile: profile_name(profile),
            proven: profile.is_proven(),
        };
        let shown = verification.modules.iter().filter(|m| only.is_empty() || only.contains(&m.name));
        let modules: Result<Vec<ModuleReport>, _> =
            shown.map(|checked| module(input, &atlas, verification, checked)).collect();
        let hooks = HookReport::all(input, verification, arguments.json || arguments.verbose)?;
        Ok(Report {
            snapshot: input.shown.clone(),
            kernel,
            files: input.files.describe(),
            live: input.live,
            rests_on: Grounds::of(input, verification)?,
            verdict: Verdict::of(input, verification, arguments)?,
            total: TallyReport::of(&verification.total()),
            modules: modules?,
            strays: StrayReport::all(verification, &input.snapshot),
            hidden: HiddenReport::all(verification, &hooks),
            hooks,
            contradictions: doubt::all(verification),
            beliefs: BeliefReport::all(&atlas, verification),
            state: State::of(&atlas, verification),
            remarks: doubts(profile)
                .chain(verification.remarks.iter().cloned())
                .chain(input.files.remarks())
                .collect(),
        })
    }
}

fn module(
    input: &Input,
    atlas: &Atlas<'_>,
    verification: &Verification,
    checked: &Checked,
) -> Result<ModuleReport, modmem_linux::Error> {
    let file = input.file_report(&checked.name)?;
    let none = |outcome, reason: &str| ModuleReport {
        name: checked.name.clone(),
        outcome,
        reason: Some(reason.to_owned()),
        file: file.clone(),
        total: TallyReport::of(&Tally::default()),
        memories: Vec::new(),
        unexplained: Vec::new(),
        more_unexplained: 0,
    };
    let report = match &checked.outcome {
        Outcome::Compared(report) => report,
        Outcome::NoFile => {
            return Ok(none("no-file", &format!("{} has no such module", input.files.describe())));
        }
        Outcome::NotComparable(reason) => return Ok(none("not-comparable", reason)),
    };
    let unexplained = match report.unexplained.is_empty() {
        true => Vec::new(),
        false => {
            let file = input.file(&checked.name)?;
            let map = file.and_then(|file| FileMap::of(&file, &verification.profile, report));
            let map = map.unwrap_or_else(|| FileMap::empty(&checked.name));
            finding::findings(atlas, &map, &verification.profile, report)
        }
    };
    let memory = |kind: MemoryKind| {
        let memory = report.memories[kind].as_ref().filter(|memory| memory.tally.total > 0)?;
        let (address, tally) = (Address(memory.address), TallyReport::of(&memory.tally));
        Some(MemoryReport { kind: Kind(kind), address, tally })
    };
    Ok(ModuleReport {
        name: checked.name.clone(),
        outcome: "compared",
        reason: None,
        file,
        total: TallyReport::of(&report.total()),
        memories: MemoryKind::ALL.into_iter().filter_map(memory).collect(),
        unexplained,
        more_unexplained: report.more_unexplained,
    })
}

impl TallyReport {
    fn of(tally: &Tally) -> TallyReport {
        let rules = |bytes: &[u64]| {
            let all = Rule::ALL.into_iter().zip(bytes);
            let some = all.filter(|(_, bytes)| **bytes > 0);
            some.map(|(rule, &bytes)| ByRule { rule: rule.name(), bytes }).collect()
        };
        let reasons = NotCompared::ALL.into_iter();
        let reasons = reasons.map(|reason| (reason.name(), tally.not_compared_for(reason)));
        TallyReport {
            bytes: tally.total,
            identical: tally.identical,
            explained: rules(&tally.explained),
            unproven: rules(&tally.unproven),
            unexplained: tally.unexplained,
            not_compared: reasons
                .filter(|(_, bytes)| *bytes > 0)
                .map(|(reason, bytes)| ByReason { reason, bytes })
                .collect(),
        }
    }

    pub(super) fn explained_bytes(&self) -> u64 {
        self.explained.iter().map(|rule| rule.bytes).sum()
    }

    pub(super) fn unproven_bytes(&self) -> u64 {
        self.unproven.iter().map(|rule| rule.bytes).sum()
    }

    pub(super) fn not_compared_bytes(&self) -> u64 {
        self.not_compared.iter().map(|reason| reason.bytes).sum()
    }
}

impl Verdict {
    fn of(
        input: &Input,
        verification: &Verification,
        arguments: &VerifyArgs,
    ) -> Result<Verdict, modmem_linux::Error> {
        let (strict, own_files) = (arguments.strict, arguments.own_files);
        let mut modules_with_own_files = 0;
        for checked in &verification.modules {
            let file = input.file_report(&checked.name)?;
            modules_with_own_files += usize::from(file.is_some_and(|file| file.is_own(input.live)));
        }
        let modules = &verification.modules;
        let total = verification.total();
        let missing = total.not_compared_for(NotCompared::Unreadable);
        let count = |is: fn(&Outcome) -> bool| modules.iter().filter(|m| is(&m.outcome)).count();
        // Memory that nobody recorded proves nothing, and neither do files of whoever changed the memory.
        let consistent = verification.is_clean() && missing == 0 && (!strict || verification.is_proven());
        let vouched = own_files || modules_with_own_files == 0;
        Ok(Verdict {
            clean: consistent && vouched,
            consistent,
            own_files,
            modules_with_own_files,
            compared: verification.compared_bytes(),
            proven: verification.is_proven() && missing == 0 && vouched,
            strict,
            modules: modules.len(),
            modules_with_unexplained: count(
                |outcome| matches!(outcome, Outcome::Compared(report) if !report.is_clean()),
            ),
            unexplained: total.unexplained,
            modules_without_file: count(|outcome| matches!(outcome, Outcome::NoFile)),
            modules_not_comparable: count(|outcome| matches!(outcome, Outcome::NotComparable(_))),
            missing,
            unexplained_strays: verification
                .strays
                .iter()
                .filter(|s: &&Stray| s.kind.is_unexplained() && s.kind != StrayKind::Unseen)
                .count(),
            unseen: verification
                .strays
                .iter()
                .filter(|stray| stray.kind == StrayKind::Unseen)
                .map(|stray| stray.range.end - stray.range.start)
                .sum(),
        })
    }
}
