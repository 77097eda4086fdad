//! `.altinstructions` (arch/s390/kernel/alternative.c:__apply_alternatives).
//!
//! One entry after the other; a later one for the same place overwrites what an earlier one wrote. Replacements are as
//! long as what they replace and are copied as they are.

use alloc::vec::Vec;

use super::Subject;
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::Variable;
use crate::finalize::{OutOfMemory, Rule};
use crate::profile::S390Alternatives;

/// ALT_CTX_ALL: when an alternative may be applied, of which a module's must name one.
const CONTEXTS: u32 = 3;
/// The facility that limiting branch prediction takes.
const LIMITED_PREDICTION: u32 = 82;

/// One alternative.
#[derive(Clone, Copy, Debug)]
struct Entry {
    site: RunAddr,
    replacement: RunAddr,
    length: usize,
    /// What decides; `None` for what the kernel never applies.
    decides: Option<Variable>,
}

pub(super) fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let entries = read(subject)?;
    // Alternatives for one place follow each other.
    for group in entries.chunk_by(|a, b| a.site == b.site) {
        if subject.module.has(group[0].site) {
            choose(subject, group);
        }
    }
    Ok(())
}

fn read(subject: &Subject<'_, '_>) -> Result<Vec<Entry>, OutOfMemory> {
    let form = subject.profile.patching.s390_alternatives;
    // Packed: two distances, what decides, the length.
    let size = if form == S390Alternatives::Facility { 11 } else { 13 };
    let mut entries = Vec::new();
    let Some((table, bytes)) = subject.section(".altinstructions") else { return Ok(entries) };
    entries.try_reserve_exact((bytes / size) as usize).map_err(|_| OutOfMemory)?;
    for index in 0..bytes / size {
        let at = table + index * size;
        let module = &subject.module;
        let (Some(site), Some(replacement)) = (module.offset32(at), module.offset32(at + 4)) else { break };
        let Some((&length, what)) = module.ours(at + 8, size as usize - 8).and_then(<[u8]>::split_last)
        else {
            break;
        };
        let what = what.iter().fold(0, |word, &byte| word << 8 | u32::from(byte));
        let length = usize::from(length);
        entries.push(Entry {
            site: RunAddr(at.0.wrapping_add(site as u64)),
            replacement: RunAddr((at + 4).0.wrapping_add(replacement as u64)),
            length,
            decides: match form {
                // The kernel skips odd lengths.
                S390Alternatives::Facility => Some(Variable::Facility(what)).filter(|_| length % 2 == 0),
                _ => decides(form, what),
            },
        });
    }
    Ok(entries)
}

/// What an entry's word says that decides (arch/s390/include/asm/alternative.h).
fn decides(form: S390Alternatives, what: u32) -> Option<Variable> {
    let (context, kind, data) = (what >> 28, what >> 20 & 0xff, what & 0xf_ffff);
    if context & CONTEXTS == 0 {
        return None;
    }
    match (form, kind) {
        (_, 0) => Some(Variable::Facility(data)),
        (S390Alternatives::Features, 1) => Some(Variable::MachineFeature(data)),
        (S390Alternatives::Features, 2) | (_, 1) => Some(Variable::LimitedPrediction),
        (_, 2) => Some(Variable::RelocatedLowcore),
        _ => None,
    }
}

/// What the kernel's memory says of a variable.
fn pinned(subject: &Subject<'_, '_>, variable: Variable) -> Option<u64> {
    let kernel = subject.kernel;
    let value = match variable {
        Variable::Facility(number) => kernel.facilities?.has(number),
        Variable::LimitedPrediction => {
            let possible = kernel.facilities.map(|list| list.has(LIMITED_PREDICTION));
            match (possible, kernel.nobp) {
                (Some(false), _) | (_, Some(false)) => false,
                (Some(true), Some(true)) => true,
                _ => return None,
            }
        }
        Variable::RelocatedLowcore => kernel.relocated_lowcore?,
        Variable::MachineFeature(number) => {
            kernel.machine_features?.checked_shr(number).unwrap_or(0) & 1 != 0
        }
        _ => return None,
    };
    Some(u64::from(value))
}

/// Writes what the alternatives for one place make of it.
fn choose(subject: &mut Subject<'_, '_>, group: &[Entry]) {
    for entry in group {
        let Some(variable) = entry.decides else { continue };
        if !subject.state.knows(variable) {
            let value = pinned(subject, variable);
            subject.state.pin(variable, value);
        }
    }
    vote(subject, group);
    let site = group[0].site;
    for entry in group {
        let Some(variable) = entry.decides else { continue };
        let applied = subject.state.leaning(variable) == Some(1);
        let bytes = if applied { subject.module.ours(entry.replacement, entry.length) } else { None };
        let bytes = bytes.or_else(|| subject.module.ours(site, entry.length)).map(Vec::from);
        let Some(bytes) = bytes else { continue };
        let standing = standing(subject, group, &bytes);
        subject.module.write(site, &bytes, Rule::Alternative, standing);
    }
}

/// Whether what is found would be right if one of the variables were otherwise.
fn standing(subject: &Subject<'_, '_>, group: &[Entry], expected: &[u8]) -> Standing {
    let site = group[0].site;
    if subject.module.found(site, expected.len()) == Some(expected) {
        return Standing::Certain;
    }
    let shown = shown(subject, group);
    let otherwise = group.iter().zip(0..).find_map(|(entry, index)| {
        let variable = entry.decides?;
        let shows = u64::from(shown? == Some(index));
        (subject.state.certain(variable).is_some_and(|value| value != shows)).then_some(variable)
    });
    otherwise.map_or(Standing::Certain, Standing::OutOfStep)
}

/// The last alternative whose replacement the guest has at the place, or that it has none; `None` if it is neither.
fn shown(subject: &Subject<'_, '_>, group: &[Entry]) -> Option<Option<usize>> {
    let module = &subject.module;
    let site = group[0].site;
    let has = |from: RunAddr, length: usize| {
        let bytes = module.ours(from, length);
        bytes.is_some() && bytes == module.found(site, length)
    };
    let replaced =
        group.iter().rposition(|entry| entry.decides.is_some() && has(entry.replacement, entry.length));
    let length = group.iter().map(|entry| entry.length).max().unwrap_or(0);
    match replaced {
        Some(index) => Some(Some(index)),
        None => has(site, length).then_some(None),
    }
}

/// Lets what is found speak for the variables that nothing else tells.
fn vote(subject: &mut Subject<'_, '_>, group: &[Entry]) {
    let shown = shown(subject, group);
    // Where the replacement is what it replaces, nothing can be seen.
    let site = group[0].site;
    let telling = |subject: &Subject<'_, '_>, entry: &Entry| {
        let (new, old) =
            (subject.module.ours(entry.replacement, entry.length), subject.module.ours(site, entry.length));
        new.is_some() && new != old
    };
    for (index, entry) in group.iter().enumerate() {
        let Some(variable) = entry.decides else { continue };
        if subject.state.certain(variable).is_some() {
            continue;
        }
        let tells = telling(subject, entry);
        match shown {
            Some(Some(last)) if tells && index == last => subject.state.vote(variable, 1),
            Some(Some(last)) if tells && index > last => subject.state.vote(variable, 0),
            Some(None) if tells => subject.state.vote(variable, 0),
            _ => {
                let value = subject.state.leaning(variable).unwrap_or(0);
                subject.state.rely(variable, value);
            }
        }
    }
}
