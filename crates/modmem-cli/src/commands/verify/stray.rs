//! Memory that no listed module owns, in words.

use modmem::RunAddr;
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Stray, StrayKind, Verification};
use serde::Serialize;

use crate::output::json::Address;

#[derive(Debug, Serialize)]
pub(super) struct StrayReport {
    pub(super) start: Address,
    pub(super) end: Address,
    /// `known`, `late-init`, `not-compared`, `no-owner`, `between`, `unlisted` or `unseen`.
    pub(super) kind: &'static str,
    pub(super) unexplained: bool,
    /// Whose it is: the kind of code, or a module's name; of memory of nobody, the name of the hidden module that claims
    /// it.
    pub(super) owner: Option<String>,
    /// The function that asked for the memory.
    pub(super) caller: Option<String>,
    /// Symbols that the kernel lists there.
    pub(super) symbols: usize,
    /// The first of them.
    pub(super) first_symbol: Option<String>,
}

impl StrayReport {
    /// Reports of all strays, those that nothing explains first.
    pub(super) fn all(verification: &Verification, snapshot: &Snapshot) -> Vec<StrayReport> {
        let mut reports: Vec<StrayReport> = verification.strays.iter().map(StrayReport::of).collect();
        for report in reports.iter_mut().filter(|report| matches!(report.kind, "no-owner" | "between")) {
            let owner = verification.hidden.iter().find(|hidden| {
                hidden
                    .memories
                    .iter()
                    .any(|(_, own)| own.start < report.end.0.0 && report.start.0.0 < own.end)
            });
            report.owner = owner.map(|hidden| hidden.name.clone());
        }
        reports.sort_by_key(|report| report.start.0);
        for symbol in snapshot.symbols.iter() {
            let after = reports.partition_point(|report| report.start.0.0 <= symbol.address);
            let Some(report) = after.checked_sub(1).and_then(|at| reports.get_mut(at)) else { continue };
            if symbol.address < report.end.0.0 && report.kind != "unseen" {
                report.symbols += 1;
                report.first_symbol.get_or_insert_with(|| symbol.name.to_owned());
            }
        }
        reports.sort_by_key(|report| !report.unexplained);
        reports
    }

    fn of(stray: &Stray) -> StrayReport {
        let (kind, owner) = match &stray.kind {
            StrayKind::Known(owner, _) => ("known", Some((*owner).to_owned())),
            StrayKind::LateInit(module) => ("late-init", Some(module.clone())),
            StrayKind::NotCompared(module) => ("not-compared", Some(module.clone())),
            StrayKind::NoOwner => ("no-owner", None),
            StrayKind::Between => ("between", None),
            StrayKind::Unlisted(module) => ("unlisted", Some(module.clone())),
            StrayKind::Unseen => ("unseen", None),
        };
        StrayReport {
            start: Address(RunAddr(stray.range.start)),
            end: Address(RunAddr(stray.range.end)),
            kind,
            unexplained: stray.kind.is_unexplained(),
            owner,
            caller: (!stray.caller.is_empty()).then(|| stray.caller.clone()),
            symbols: 0,
            first_symbol: None,
        }
    }

    /// What it is, as a line says it.
    pub(super) fn describe(&self) -> String {
        let owner = self.owner.as_deref().unwrap_or_default();
        match self.kind {
            "known" => owner.to_owned(),
            "late-init" => format!("init memory of {owner}, not yet given back"),
            "not-compared" => format!("memory of {owner}, which could not be compared"),
            "unlisted" => format!("module {owner} has symbols but is not in the list of modules: HIDDEN?"),
            "unseen" => "modules may lie here, and nobody looked: neither listed nor read".to_owned(),
            "between" | "no-owner" if self.owner.is_some() => format!("memory of {owner}, a HIDDEN MODULE"),
            "between" => "code or data between modules that belongs to none of them".to_owned(),
            _ => "memory for a module that is in no list: a HIDDEN MODULE?".to_owned(),
        }
    }
}
