//! The machine that a snapshot is of.

use std::collections::HashMap;

use modmem::RunAddr;
use modmem::finalize::{HookKind, Stated, Tracer, Variable};
use modmem::verify::ModuleReport;

use crate::verify::{Checked, Outcome, Verification};

/// What verifying a snapshot tells of its machine beside the values of the kernel's own variables, which the snapshot's memory
/// has: variables that are not in it, who traces functions, and where the kernel put code that it made for modules.
#[derive(Debug, Default)]
pub struct SnapshotMachine {
    /// Variables that the snapshot's memory does not have.
    settled: HashMap<Variable, u64>,
    modules: HashMap<String, Beside>,
}

/// What no variable of the kernel tells of one module.
#[derive(Debug, Default)]
struct Beside {
    tracers: HashMap<RunAddr, Tracer>,
    made: Vec<RunAddr>,
}

/// The machine as one module meets it.
#[derive(Debug)]
pub struct MachineOfModule<'m> {
    settled: &'m HashMap<Variable, u64>,
    beside: Option<&'m Beside>,
}

impl SnapshotMachine {
    /// What was found when a snapshot was verified.
    pub fn of(verification: &Verification) -> SnapshotMachine {
        let unproven = verification.state.iter().filter(|fact| !fact.proven);
        let settled = unproven.map(|fact| (fact.variable, fact.value)).collect();
        let compared = verification.modules.iter().filter_map(|Checked { name, outcome }| match outcome {
            Outcome::Compared(report) => Some((name.clone(), Beside::of(report))),
            _ => None,
        });
        SnapshotMachine { settled, modules: compared.collect() }
    }

    /// The machine as the module of that name meets it: one that the snapshot has not is traced by nobody.
    pub fn of_module(&self, name: &str) -> MachineOfModule<'_> {
        MachineOfModule { settled: &self.settled, beside: self.modules.get(name) }
    }
}

impl Beside {
    fn of(report: &ModuleReport) -> Beside {
        let traced = report.hooks.iter().filter(|hook| hook.kind == HookKind::Ftrace && hook.explained);
        let tracers = traced.filter_map(|hook| {
            let tracer = Tracer { target: hook.target?, ops: hook.mark, jumps: hook.jumps };
            Some((hook.site, tracer))
        });
        Beside { tracers: tracers.collect(), made: report.made.clone() }
    }
}

impl Stated for MachineOfModule<'_> {
    fn value(&self, variable: Variable) -> Option<u64> {
        self.settled.get(&variable).copied()
    }

    fn tracer(&self, site: RunAddr) -> Option<Tracer> {
        self.beside?.tracers.get(&site).copied()
    }

    fn made_code(&self, index: usize) -> Option<RunAddr> {
        self.beside?.made.get(index).copied()
    }
}
