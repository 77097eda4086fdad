//! What a machine says of itself that cannot all be true.
//!
//! Its texts are its own word. Where two of them, or one of them and the files, disagree, somebody wrote one.

use modmem::verify::{ModuleReport, NotCompared, Variable};

use super::{Checked, Outcome, StateFact, is_live};
use crate::snapshot::{ModuleRecord, Snapshot, SymbolTable};

/// Most that are kept: one is enough for the verdict.
const KEPT: usize = 32;

/// All contradictions, in words.
pub(super) fn of(
    snapshot: &Snapshot,
    modules: &[Checked],
    records: &[&ModuleRecord],
    state: &[StateFact],
) -> Vec<String> {
    let mut found: Vec<String> = out_of_order(&snapshot.symbols).into_iter().collect();
    found.extend(locks(snapshot, state));
    let compared = || {
        modules.iter().zip(records).filter_map(|(checked, record)| match &checked.outcome {
            Outcome::Compared(report) => Some((&**report, *record)),
            _ => None,
        })
    };
    found.extend(compared().filter_map(|(report, record)| size(report, record)));
    found.truncate(KEPT);
    found
}

/// The kernel lists its own symbols by address: one that is out of order was moved, or put there
/// (scripts/kallsyms.c:sort_symbols).
fn out_of_order(symbols: &SymbolTable) -> Option<String> {
    let (first, second) = symbols.out_of_order()?;
    Some(format!(
        "the kernel lists its own symbols by address, and {} at {:#x} comes before {} at {:#x}: one of them was moved \
         or added",
        first.name, first.address, second.name, second.address
    ))
}

/// Lock prefixes are out only while one CPU runs (arch/x86/kernel/alternative.c:alternatives_enable_smp).
fn locks(snapshot: &Snapshot, state: &[StateFact]) -> Option<String> {
    let cpus = snapshot.cpus.filter(|cpus| *cpus > 1)?;
    let alone = state.iter().any(|fact| fact.variable == Variable::OneCpu && fact.value == 1);
    alone.then(|| format!("lock prefixes are out as if one CPU ran alone, and {cpus} are online"))
}

/// A module's size is that of its memories.
fn size(report: &ModuleReport, record: &ModuleRecord) -> Option<String> {
    if !is_live(record) {
        return None;
    }
    let memories = report.memories.iter().filter_map(|(_, memory)| memory.as_ref());
    let present = memories.filter(|memory| memory.tally.not_compared_for(NotCompared::FreedInit) == 0);
    let size = present.fold(0, |size: u64, memory| size.saturating_add(memory.tally.total));
    (size != record.size).then(|| {
        format!(
            "/proc/modules gives {} a size of {} bytes, and it has {size} by its file",
            record.name, record.size
        )
    })
}
