//! What was believed, in words: each with who could have written it.

use modmem::RunAddr;
use modmem::verify::Variable;
use modmem_linux::verify::{Belief, Sign, Verification};
use serde::Serialize;

use super::atlas::Atlas;
use crate::features;
use crate::output::grouped;
use crate::output::json::Address;

/// One thing that nothing supports.
#[derive(Debug, Serialize)]
pub(super) struct BeliefReport {
    /// `kernel-symbols`, `one-place`, `places`, `either-state`, `unlisted-symbols`, `areas`, `configuration`,
    /// `memory` or `kprobes`.
    pub(super) kind: &'static str,
    /// Where it is, if it is memory.
    pub(super) start: Option<Address>,
    pub(super) end: Option<Address>,
    /// What it was taken for, if it is memory.
    pub(super) owner: Option<&'static str>,
    /// In words.
    pub(super) text: String,
}

impl BeliefReport {
    pub(super) fn all(atlas: &Atlas<'_>, verification: &Verification) -> Vec<BeliefReport> {
        verification.beliefs.iter().map(|belief| BeliefReport::of(belief, atlas, verification)).collect()
    }

    fn of(belief: &Belief, atlas: &Atlas<'_>, verification: &Verification) -> BeliefReport {
        let (mut start, mut end, mut whose) = (None, None, None);
        let (kind, text) = match belief {
            Belief::KernelSymbols => (
                "kernel-symbols",
                "where the kernel's own functions and variables lie, by the machine's /proc/kallsyms: give the kernel's \
                 package by --kernel, whose image tells"
                    .to_owned(),
            ),
            Belief::OnePlace { variable, value } => {
                let shown = shown(*variable, *value, atlas, verification);
                ("one-place", format!("{shown}: one place shows it, and the kernel's own word is not in the snapshot"))
            }
            Belief::Places { variables, places } => {
                let text = format!(
                    "{} more that decide about code are as all {} places show that go by them: the kernel's own words are \
                     not in the snapshot",
                    grouped(*variables as u64),
                    grouped(*places)
                );
                ("places", text)
            }
            Belief::EitherState { bytes } => {
                let text = format!("{} bytes are in one of two states that the kernel makes", grouped(*bytes as u64));
                ("either-state", text)
            }
            Belief::UnlistedSymbols { count } => {
                let text = format!(
                    "where {} of the kernel's variables lie, to which one place alone refers: no list has them",
                    grouped(*count as u64)
                );
                ("unlisted-symbols", text)
            }
            Belief::Areas => (
                "areas",
                "that nothing else is mapped where modules may lie: not all of it was read, and /proc/vmallocinfo is \
                 all that tells"
                    .to_owned(),
            ),
            Belief::Configuration => (
                "configuration",
                "the kernel's configuration, by which it is told what it does: give the kernel's package by --kernel, \
                 which has it"
                    .to_owned(),
            ),
            Belief::Kprobes { count } => {
                let text = format!("{} probes, by the machine's own list of them", grouped(*count as u64));
                ("kprobes", text)
            }
            Belief::Memory { range, owner, sign } => {
                (start, end) = (Some(Address(RunAddr(range.start))), Some(Address(RunAddr(range.end))));
                whose = Some(*owner);
                let bytes = grouped(range.end.saturating_sub(range.start));
                ("memory", format!("{bytes} bytes of {owner}: {}", why(*sign)))
            }
        };
        BeliefReport { kind, start, end, owner: whose, text }
    }
}

/// What speaks for memory that no module owns.
fn why(sign: Sign) -> &'static str {
    match sign {
        Sign::Contents => "all of it is as it must be",
        Sign::Form => "they begin as such code does; the code itself is in no file",
        Sign::Listed => "/proc/kallsyms lists them, and no file has them",
        Sign::Caller => "/proc/vmallocinfo says so, and they were not read",
    }
}

/// A variable and its value.
fn shown(variable: Variable, value: u64, atlas: &Atlas<'_>, verification: &Verification) -> String {
    let named = |address: RunAddr| atlas.global(address.0).unwrap_or_else(|| address.to_string());
    let switch = if value == 0 { "off" } else { "on" };
    match variable {
        Variable::Key(key) => format!("the static key {} is {switch}", named(key)),
        Variable::StaticCall(key) if value == 0 => format!("the static call {} calls nothing", named(key)),
        Variable::StaticCall(key) => {
            format!("the static call {} calls {}", named(key), named(RunAddr(value)))
        }
        Variable::ParavirtCall(slot) => {
            format!("the paravirt call {} calls {}", named(slot), named(RunAddr(value)))
        }
        Variable::ReturnThunk => format!("returns jump to {}", named(RunAddr(value))),
        Variable::CountedCall(function) if value == 0 => {
            format!("calls of {} are not counted", named(function))
        }
        Variable::CountedCall(function) => format!("calls of {} are counted", named(function)),
        Variable::CallDepth => format!("the depth of calls is counted at {value:#x}"),
        Variable::OneCpu => format!("running on one CPU is {switch}"),
        Variable::Feature(_)
        | Variable::Capability(_)
        | Variable::Facility(_)
        | Variable::MachineFeature(_)
        | Variable::LimitedPrediction
        | Variable::RelocatedLowcore
        | Variable::SequentialFetch => {
            format!("{} is {switch}", features::shown(variable, &verification.profile))
        }
    }
}
