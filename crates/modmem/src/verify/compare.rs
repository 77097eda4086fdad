//! The comparison itself: every byte of a memory counted once.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::Range;

use super::evidence::Evidence;
use super::given::is_gone;
use super::report::{MemoryReport, NotCompared, Unexplained, Why};
use super::{GuestModule, VerifyError};
use crate::finalize::target::{Patch, Target};
use crate::finalize::{Rule, Standing};
use crate::layout::MemoryKind;

/// Spans of one module that are kept; more are counted.
const SPANS: usize = 256;
/// Bytes of one span that are kept.
const SPAN_BYTES: usize = 64;
/// Spans that are so near to each other are one.
const NEAR: usize = 8;

/// What to leave out of a comparison: ranges of a memory that are written while the module runs, in order.
pub(super) type Skipped = Vec<Range<usize>>;

/// Where unexplained spans of a module are collected.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) kept: Vec<Unexplained>,
    pub(super) more: usize,
}

/// Compares one memory.
pub(super) fn compare(
    target: &mut Target<'_>,
    kind: MemoryKind,
    module: &GuestModule<'_>,
    skipped: &Skipped,
    evidence: &Evidence,
    spans: &mut Spans,
) -> Result<Option<MemoryReport>, VerifyError> {
    let Some(address) = target.address(kind) else { return Ok(None) };
    let mut report = MemoryReport { address, ..MemoryReport::default() };
    let tally = &mut report.tally;
    tally.total = target.layout().memories()[kind].allocated;
    if target.found_memory(kind).is_none() {
        let reason = if is_gone(kind, module) { NotCompared::FreedInit } else { NotCompared::Unreadable };
        tally.not_compared[reason as usize] = tally.total;
        return Ok(Some(report));
    }
    // Later patches cover earlier ones: a stable sort keeps their order where they start at one place.
    target.patches_mut(kind).sort_by_key(|patch| patch.offset);
    let found = target.found_memory(kind).unwrap_or_default();
    let expected = target.memory(kind);
    let relocated = target.relocated(kind);
    let patches = target.patches(kind);

    let mut differing = Vec::new();
    for part in compared(skipped, expected.len()) {
        find_differences(expected, found, part, &mut differing)?;
    }
    tally.not_compared[NotCompared::Writable as usize] = skipped.iter().map(|range| range.len() as u64).sum();
    count_patches(patches, expected, found, relocated, skipped, tally);
    for span in &differing {
        tally.unexplained += expected[span.clone()]
            .iter()
            .zip(&found[span.clone()])
            .filter(|(ours, theirs)| ours != theirs)
            .count() as u64;
    }
    let others = tally.explained_bytes()
        + tally.unproven_bytes()
        + tally.unexplained
        + tally.not_compared.iter().sum::<u64>();
    tally.identical = tally.total.saturating_sub(others);

    for span in differing {
        if spans.kept.len() >= SPANS {
            spans.more += 1;
            continue;
        }
        let shown = span.start..span.end.min(span.start + SPAN_BYTES);
        let copy = |bytes: &[u8]| -> Result<Vec<u8>, VerifyError> {
            let mut copy = Vec::new();
            copy.try_reserve_exact(shown.len()).map_err(|_| VerifyError::OutOfMemory)?;
            copy.extend_from_slice(&bytes[shown.clone()]);
            Ok(copy)
        };
        let unexplained = Unexplained {
            kind,
            address: address + span.start as u64,
            expected: copy(expected)?,
            found: copy(found)?,
            why: reason(patches, &span, evidence),
        };
        spans.kept.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
        spans.kept.push(unexplained);
    }
    Ok(Some(report))
}

/// The parts of a memory that are compared.
fn compared(skipped: &Skipped, length: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = core::iter::once(0).chain(skipped.iter().map(|range| range.end));
    let ends = skipped.iter().map(|range| range.start).chain(core::iter::once(length));
    starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end)
}

fn find_differences(
    expected: &[u8],
    found: &[u8],
    part: Range<usize>,
    differing: &mut Vec<Range<usize>>,
) -> Result<(), VerifyError> {
    const CHUNK: usize = 4096;
    let mut at = part.start;
    while at < part.end {
        let end = part.end.min(at + CHUNK);
        if expected[at..end] != found[at..end] {
            for index in at..end {
                if expected[index] == found[index] {
                    continue;
                }
                match differing.last_mut() {
                    Some(last) if index - last.end <= NEAR && last.start >= part.start => {
                        last.end = index + 1
                    }
                    _ => {
                        differing.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
                        differing.push(index..index + 1);
                    }
                }
            }
        }
        at = end;
    }
    Ok(())
}

/// Counts what rules explain and what they leave open, each byte once.
fn count_patches(
    patches: &[Patch],
    expected: &[u8],
    found: &[u8],
    relocated: &[u8],
    skipped: &Skipped,
    tally: &mut super::report::Tally,
) {
    let mut done = 0;
    for patch in patches {
        let start = (patch.offset as usize).max(done);
        let end = patch.offset as usize + patch.length as usize;
        // By address, none overlapping another.
        let behind = skipped.partition_point(|range| range.end <= start);
        if skipped.get(behind).is_some_and(|range| range.start <= start) {
            continue;
        }
        let mut bytes = 0;
        for index in start..end {
            if expected[index] != found[index] {
                continue;
            }
            if patch.standing == Standing::Unproven || expected[index] != relocated[index] {
                bytes += 1;
            }
        }
        let counter = match patch.standing {
            Standing::Unproven => &mut tally.unproven,
            _ => &mut tally.explained,
        };
        counter[patch.rule as usize] += bytes;
        done = done.max(end);
    }
}

/// Why a span is not as expected: what the last rule that wrote there says.
fn reason(patches: &[Patch], span: &Range<usize>, evidence: &Evidence) -> Why {
    let covers = |patch: &&Patch| {
        let (start, end) = (patch.offset as usize, patch.offset as usize + patch.length as usize);
        start < span.end && span.start < end
    };
    // Patches are sorted by where they start, and none is longer than a table.
    let patch = patches.iter().rev().find(covers);
    patch.map_or(Why::NoRule, |patch| why(patch.rule, patch.standing, evidence))
}

/// The same of one place.
pub(super) fn why(rule: Rule, standing: Standing, evidence: &Evidence) -> Why {
    match standing {
        Standing::Certain | Standing::Unproven => Why::NotAsRule(rule),
        Standing::WrongTarget(target) => Why::WrongTarget { rule, target },
        Standing::WrongMark(mark) => Why::WrongMark { rule, mark },
        Standing::OutOfStep(variable) => {
            let state: Box<str> = evidence.describe(variable).to_string().into();
            Why::OutOfStep { rule, state }
        }
    }
}
