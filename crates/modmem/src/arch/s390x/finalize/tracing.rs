//! Entries of functions that can be traced (arch/s390/kernel/ftrace.c).
//!
//! Compiled as `brcl 0,0`, an entry gets the distance to a trampoline of its own, and the branch is taken while the
//! function is traced. CPUs that fetch instructions one after the other need no trampolines: there an entry stays as it
//! was compiled, and becomes a call of the tracer.

use alloc::vec::Vec;

use super::Subject;
use super::insn::{BRANCH, BRASL_R0, BRCL_ALWAYS, BRCL_NEVER, branch, decode, with_distance};
use super::trampolines::{self, TRAMPOLINE};
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::Variable;
use crate::finalize::live::{Branch, Leads, Site, Steps};
use crate::finalize::{OutOfMemory, Rule};

/// What entries are compiled to.
const COMPILED: [u8; BRANCH] = [0xc0, BRCL_NEVER, 0, 0, 0, 0];

/// An entry, and whether it looked as it must before the kernel touched it: otherwise it stays as it is, and its
/// trampoline is not written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) address: RunAddr,
    pub(super) is_sound: bool,
}

/// `functions` are the entries as the kernel has them in its list: sorted.
pub(super) fn apply(subject: &mut Subject<'_, '_>, functions: &[RunAddr]) -> Result<(), OutOfMemory> {
    let mut entries = Vec::new();
    entries.try_reserve_exact(functions.len()).map_err(|_| OutOfMemory)?;
    // Where a function is not there, its place in the list is zero, and it gets no trampoline.
    entries.extend(functions.iter().filter(|address| address.0 != 0).map(|&address| {
        let is_sound = subject.module.ours(address, BRANCH) == Some(&COMPILED);
        Entry { address, is_sound }
    }));
    if entries.is_empty() {
        return Ok(());
    }
    for tracer in subject.kernel.tracers() {
        subject.module.may_trace(RunAddr(tracer));
    }
    if is_sequential(subject, &entries) {
        entries.iter().filter(|entry| entry.is_sound).for_each(|entry| call_or_nop(subject, entry.address));
        return Ok(());
    }
    let area = match subject.module.is_compared() {
        true => find_area(subject, &entries),
        false => subject.state.made_code(0).or_else(|| subject.module.beside()),
    };
    for (index, entry) in (0..).zip(&entries).filter(|(_, entry)| entry.is_sound) {
        branch_to(subject, entry.address, area.map(|area| area + index * TRAMPOLINE));
    }
    match area {
        Some(area) => trampolines::check(subject, area, functions.len() as u64, &entries),
        None => Ok(()),
    }
}

/// Whether entries are patched without trampolines, by the kernel's own words or by what most of them show.
fn is_sequential(subject: &mut Subject<'_, '_>, entries: &[Entry]) -> bool {
    let variable = Variable::SequentialFetch;
    if !subject.state.knows(variable) {
        let value = subject.kernel.sequential.map(u64::from);
        subject.state.pin(variable, value);
    }
    if subject.state.certain(variable).is_none() {
        let (mut calls, mut trampolines) = (0, 0);
        for entry in entries.iter().filter(|entry| entry.is_sound) {
            match subject.module.found(entry.address, BRANCH).and_then(|found| decode(found, entry.address)) {
                Some((BRASL_R0, _)) => calls += 1,
                Some((BRCL_NEVER, target)) if target == entry.address => calls += 1,
                Some((BRCL_NEVER | BRCL_ALWAYS, _)) => trampolines += 1,
                _ => {}
            }
        }
        let (value, sites) = if calls > trampolines { (1, calls) } else { (0, trampolines) };
        subject.state.votes(variable, value, sites);
        if sites > 0 {
            return value == 1;
        }
    }
    subject.state.leaning(variable) == Some(1)
}

/// An entry without a trampoline.
fn call_or_nop(subject: &mut Subject<'_, '_>, address: RunAddr) {
    if !subject.module.has_text(address) {
        return;
    }
    let site = Site::new(address, BRANCH, Rule::Ftrace, Steps::Whole).text(&COMPILED, None);
    subject.module.may_change(site.branch(Branch::S390(BRASL_R0), Leads::Tracers));
    let found = subject.module.found(address, BRANCH).and_then(|found| decode(found, address));
    let (code, standing) = match found {
        None if let Some(tracer) = subject.state.tracer(address) => {
            (branch(BRASL_R0, address, tracer.target), Standing::Certain)
        }
        Some((BRASL_R0, target)) if is_tracer(subject, target) => {
            subject.traced(address, target, None, true);
            (branch(BRASL_R0, address, target), Standing::Certain)
        }
        Some((BRASL_R0, target)) => {
            subject.traced(address, target, None, false);
            (COMPILED, Standing::WrongTarget(target))
        }
        Some((BRCL_NEVER | BRCL_ALWAYS, target)) if target != address => {
            (COMPILED, Standing::OutOfStep(Variable::SequentialFetch))
        }
        _ => (COMPILED, Standing::Certain),
    };
    subject.module.write(address, &code, Rule::Ftrace, standing);
}

/// An entry with its trampoline, if that is known.
fn branch_to(subject: &mut Subject<'_, '_>, address: RunAddr, trampoline: Option<RunAddr>) {
    if !subject.module.has_text(address) {
        return;
    }
    let shown = subject.module.found(address, BRANCH).and_then(|found| decode(found, address));
    // Tracing can be on or off at any time.
    let kind = match shown {
        Some((BRCL_ALWAYS, _)) => BRCL_ALWAYS,
        None if subject.state.tracer(address).is_some() => BRCL_ALWAYS,
        _ => BRCL_NEVER,
    };
    let Some(trampoline) = trampoline else {
        // As it was compiled, if ftrace was off.
        let standing = shown.map_or(Standing::Certain, |(_, target)| Standing::WrongTarget(target));
        return subject.module.write(address, &with_distance(BRCL_NEVER, 0), Rule::Ftrace, standing);
    };
    let site = Site::new(address, BRANCH, Rule::Ftrace, Steps::Whole);
    let site = site.text(&branch(BRCL_NEVER, address, trampoline), None);
    subject.module.may_change(site.text(&branch(BRCL_ALWAYS, address, trampoline), None));
    let standing = match shown {
        Some((_, target)) if target != trampoline => Standing::WrongTarget(target),
        _ => Standing::Certain,
    };
    if kind == BRCL_ALWAYS {
        // Whom the trampoline calls, where its memory is at hand.
        let called = subject.guest_word(trampoline + trampolines::INTERCEPTOR as u64).map(RunAddr);
        let (target, is_right) = match standing {
            Standing::WrongTarget(target) => (target, false),
            _ => (called.unwrap_or(trampoline), called.is_none_or(|called| is_tracer(subject, called))),
        };
        subject.traced(address, target, None, is_right);
    }
    subject.module.write(address, &branch(kind, address, trampoline), Rule::Ftrace, standing);
}

/// Where the trampolines are: at the start of a page, in the range of modules, where most entries say.
fn find_area(subject: &Subject<'_, '_>, entries: &[Entry]) -> Option<RunAddr> {
    let shown = |(index, entry): (u64, &Entry)| {
        let found = subject.module.found(entry.address, BRANCH)?;
        let (_, target) = decode(found, entry.address)?;
        Some(target.0.wrapping_sub(index * TRAMPOLINE))
    };
    let votes = || (0..).zip(entries).filter(|(_, entry)| entry.is_sound).filter_map(shown);
    // Whoever more than half of all speak for is left over when pairs that disagree have been struck out.
    let (mut candidate, mut lead) = (0, 0_usize);
    for area in votes() {
        match lead {
            0 => (candidate, lead) = (area, 1),
            _ if area == candidate => lead += 1,
            _ => lead -= 1,
        }
    }
    let (mut all, mut for_it) = (0_usize, 0_usize);
    for area in votes() {
        all += 1;
        for_it += usize::from(area == candidate);
    }
    let area = RunAddr(candidate);
    let ranges = &subject.profile.ranges;
    let is_possible = candidate.is_multiple_of(subject.profile.page_size)
        && ranges.text.contains(&area)
        && subject.module.kind_at(area).is_none();
    (is_possible && for_it * 2 > all).then_some(area)
}

/// Whether tracing may go to `target`: one of the kernel's entries, or a trampoline that ftrace or BPF made.
pub(super) fn is_tracer(subject: &Subject<'_, '_>, target: RunAddr) -> bool {
    if subject.kernel.is_tracer(target.0) {
        return true;
    }
    let symbol = subject.guest.symbol_at(target).filter(|symbol| symbol.offset == 0);
    symbol.is_some_and(|symbol| match symbol.module {
        Some("__builtin__ftrace") => true,
        Some("bpf") => symbol.name.starts_with("bpf_trampoline_"),
        _ => false,
    })
}
