//! Who traces a function: eight bytes before it have the address of a `struct ftrace_ops`
//! (arch/arm64/kernel/ftrace.c:ftrace_rec_update_ops).
//!
//! Those that are made while the kernel runs (for an instance of tracing, for a program of BPF) lie in the heap. What
//! they are for is known where the guest's memory has them; without that nothing says whether they are what they pass
//! for.

use super::Subject;
use super::kernel::OPS;
use super::tracing::is_of_bpf;
use crate::address::RunAddr;
use crate::finalize::Rule;
use crate::finalize::Standing;

/// The function of those that call somebody else, who is named in their last field (kernel/trace/ftrace.c).
const OF_DIRECT_CALLS: &str = "call_direct_funcs";
/// Where the fields behind `saved_func` begin, and more bytes than there are of them: locks among them are of any size.
const FIELDS: u64 = 40;
const BYTES: u64 = 512;

/// What a mark is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    /// That nobody traces, or nothing that is known.
    Nothing,
    /// It may be what the kernel allocated for somebody who traces; its memory is not at hand.
    Possible,
    /// One of the kernel's own, or memory that calls somebody who may be called.
    Known,
}

/// A function's mark as it is found.
pub(super) struct Mark {
    nop_ops: u64,
    found: u64,
    worth: Worth,
}

impl Mark {
    pub(super) fn at(subject: &Subject<'_, '_>, literal: RunAddr, call: RunAddr, nop_ops: u64) -> Mark {
        let found = subject.module.found(literal, 8).and_then(|found| found.first_chunk());
        let stated = || subject.state.tracer(call)?.ops;
        let found = found.map(|found| u64::from_le_bytes(*found)).or_else(|| stated().map(|ops| ops.0));
        let found = found.unwrap_or(nop_ops);
        let worth = match found {
            _ if found == nop_ops => Worth::Nothing,
            _ if !subject.module.is_compared() => Worth::Known,
            _ => worth(subject, RunAddr(found)),
        };
        Mark { nop_ops, found, worth }
    }

    /// The description that it names.
    pub(super) fn names(&self) -> RunAddr {
        RunAddr(self.found)
    }

    /// Whether nothing speaks against it.
    pub(super) fn may_be_of_tracer(&self) -> bool {
        self.worth != Worth::Nothing
    }

    /// Writes what must be there, if the function is traced or if it is not.
    pub(super) fn write(&self, subject: &mut Subject<'_, '_>, literal: RunAddr, traced: bool) {
        let differs = |ops: &u64| (ops ^ self.found).to_le_bytes().iter().filter(|byte| **byte != 0).count();
        let (word, standing) = match (traced, self.worth) {
            (true, Worth::Known) => (self.found, Standing::Certain),
            (true, Worth::Possible) => (self.found, Standing::Unproven),
            (true, Worth::Nothing) => {
                // What it most likely was.
                let likely = subject.kernel.ops.into_iter().flatten().min_by_key(differs);
                (likely.unwrap_or(self.nop_ops), Standing::WrongMark(RunAddr(self.found)))
            }
            (false, _) if self.found == self.nop_ops => (self.nop_ops, Standing::Certain),
            (false, _) => (self.nop_ops, Standing::WrongMark(RunAddr(self.found))),
        };
        subject.module.write(literal, &word.to_le_bytes(), Rule::Ftrace, standing);
    }
}

fn worth(subject: &Subject<'_, '_>, ops: RunAddr) -> Worth {
    if is_of_kernel(subject, ops) {
        return Worth::Known;
    }
    let function = subject.guest_word(ops).map(RunAddr);
    match function {
        Some(function) if calls_the_known(subject, ops, function) => Worth::Known,
        Some(_) => Worth::Nothing,
        None if ops.0.is_multiple_of(8) && subject.profile.linear_map.contains(&ops) => Worth::Possible,
        None => Worth::Nothing,
    }
}

/// Whether it is one of the kernel's own. Several may have one name.
fn is_of_kernel(subject: &Subject<'_, '_>, ops: RunAddr) -> bool {
    let symbol = subject.guest.symbol_at(ops).filter(|symbol| symbol.offset == 0 && symbol.module.is_none());
    subject.kernel.ops.contains(&Some(ops.0))
        || symbol.is_some_and(|symbol| OPS.contains(&symbol.name.as_bytes()))
}

/// Whether memory that names `function` first leads to functions that are known alone.
fn calls_the_known(subject: &Subject<'_, '_>, ops: RunAddr, function: RunAddr) -> bool {
    let symbol = subject.guest.symbol_at(function).filter(|symbol| symbol.text && symbol.offset == 0);
    let Some(symbol) = symbol else { return false };
    if symbol.module.is_some() || symbol.name != OF_DIRECT_CALLS {
        return true;
    }
    let words = (FIELDS..BYTES).step_by(8).map_while(|at| subject.guest_word(ops + at)).map(RunAddr);
    let is_callee = |target: RunAddr| {
        let of_module = || subject.guest.symbol_at(target).is_some_and(|symbol| symbol.module.is_some());
        is_of_bpf(subject, target) || subject.is_function(target) && of_module()
    };
    let mut words = words.filter(|&word| is_callee(word));
    words.next().is_some()
}
