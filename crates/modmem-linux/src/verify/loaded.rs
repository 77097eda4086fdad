//! What loading makes of a snapshot's modules, beside what the snapshot has: the proof that `load` gives the bytes of a
//! running kernel.

use std::collections::HashMap;

use modmem::finalize::{HookKind, Stated, Tracer, Variable};
use modmem::verify::{Verifier, VerifyError};
use modmem::{Image, RunAddr};

use super::{
    Checked, FileSource, Options, Outcome, SnapshotGuest, Verification, guest_module, is_live, machine,
    sections,
};
use crate::snapshot::{ModuleRecord, Snapshot};
use crate::{Error, memory};

/// What no variable of the kernel tells of one module: who traces which functions, and where the kernel put code that it made
/// for it. That is taken from a verification.
#[derive(Debug)]
struct Beside<'v> {
    /// Variables that the snapshot's memory does not have.
    settled: &'v HashMap<Variable, u64>,
    tracers: HashMap<RunAddr, Tracer>,
    made: Vec<RunAddr>,
}

impl<'v> Beside<'v> {
    fn of(checked: Option<&Checked>, settled: &'v HashMap<Variable, u64>) -> Beside<'v> {
        let mut beside = Beside { settled, tracers: HashMap::new(), made: Vec::new() };
        let Some(Outcome::Compared(report)) = checked.map(|checked| &checked.outcome) else { return beside };
        let traced = report.hooks.iter().filter(|hook| hook.kind == HookKind::Ftrace && hook.explained);
        for hook in traced {
            let Some(target) = hook.target else { continue };
            beside.tracers.insert(hook.site, Tracer { target, ops: hook.mark });
        }
        beside.made.extend_from_slice(&report.made);
        beside
    }
}

impl Stated for Beside<'_> {
    fn value(&self, variable: Variable) -> Option<u64> {
        self.settled.get(&variable).copied()
    }

    fn tracer(&self, site: RunAddr) -> Option<Tracer> {
        self.tracers.get(&site).copied()
    }

    fn made_code(&self, index: usize) -> Option<RunAddr> {
        self.made.get(index).copied()
    }
}

/// Lays out, links and finalizes each module of a snapshot where the snapshot has it, in the state that the kernel's own
/// variables there tell, and compares the result. No rule looks at the module's bytes in the snapshot. Who traces functions,
/// where pages lie that the kernel made for modules, and variables that the snapshot's memory does not have, are what
/// `verification` of the same snapshot says.
///
/// # Errors
/// The kernel is none that can be verified, or a file cannot be read.
pub fn compare_loaded(
    snapshot: &Snapshot,
    verification: &Verification,
    options: &Options,
    files: &mut FileSource<'_>,
) -> Result<Vec<Checked>, Error> {
    memory::seed_hashes();
    let records: Vec<&ModuleRecord> = snapshot.modules.iter().rev().collect();
    let profile = machine::of(snapshot.profile()?, &records, files)?;
    let guest = SnapshotGuest::new(snapshot).with_exports(options.exports.as_ref());
    let wrong = |error: VerifyError| Error::malformed("the snapshot", error.to_string());
    let verifier = Verifier::new(&guest, profile, Vec::<RunAddr>::new()).map_err(wrong)?;
    let mut verifier = verifier.with_most_memory(memory::of_module());
    let unproven = verification.state.iter().filter(|fact| !fact.proven);
    let settled: HashMap<Variable, u64> = unproven.map(|fact| (fact.variable, fact.value)).collect();
    let mut modules = Vec::new();
    for (index, record) in records.into_iter().enumerate() {
        let beside = Beside::of(verification.modules.get(index), &settled);
        let outcome = match files(&record.name)? {
            None => Outcome::NoFile,
            Some(file) => compare(&mut verifier, record, &file, &beside),
        };
        modules.push(Checked { name: record.name.clone(), outcome });
    }
    Ok(modules)
}

fn compare(verifier: &mut Verifier<'_>, record: &ModuleRecord, file: &[u8], beside: &Beside<'_>) -> Outcome {
    let image = match Image::parse(file) {
        Ok(image) => image,
        Err(error) => return Outcome::NotComparable(format!("its file: {error}")),
    };
    let sections = sections(record);
    let module = guest_module(record, &sections, is_live(record));
    match verifier.check_loaded(&image, &module, beside) {
        Ok(report) => Outcome::Compared(Box::new(report)),
        Err(error) => Outcome::NotComparable(error.to_string()),
    }
}
