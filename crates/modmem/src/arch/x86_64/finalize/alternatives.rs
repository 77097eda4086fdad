//! `.altinstructions`: code replaced for features of the CPU (arch/x86/kernel/alternative.c:apply_alternatives).

use alloc::vec::Vec;

use super::Subject;
use super::features::{Choice, decide};
use super::insn::{CALL, Code, INT3, Insn, JMP8, JMP32, NOP, branch, branch_target, signed};
use super::{nops, paravirt};
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::{OutOfMemory, Rule};
use crate::profile::AlternativeStyle;

/// ALT_FLAG_NOT: replace where the feature is absent.
const NOT: u16 = 1;
/// ALT_FLAG_DIRECT_CALL: make an indirect paravirt call direct.
const DIRECT_CALL: u16 = 2;

/// One entry of the table (`struct alt_instr`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where in the table it is.
    at: RunAddr,
    pub(super) site: RunAddr,
    replacement: RunAddr,
    feature: u16,
    flags: u16,
    length: u8,
    replacement_length: u8,
}

/// Offset of `instrlen` in an entry with flags of its own.
const LENGTH_AT: u64 = 12;

/// The table as the file has it.
pub(super) fn read(subject: &Subject<'_, '_>) -> Result<Vec<Entry>, OutOfMemory> {
    let Some((table, size)) = subject.section(".altinstructions") else { return Ok(Vec::new()) };
    let flagged = subject.profile.patching.alternative_flags;
    let entry_size = if flagged { 14 } else { 12 };
    let mut entries = Vec::new();
    entries.try_reserve_exact((size / entry_size) as usize).map_err(|_| OutOfMemory)?;
    for index in 0..size / entry_size {
        let at = table + index * entry_size;
        let Some(bytes) = subject.module.ours(at, entry_size as usize) else { break };
        let half = |offset: usize| u16::from_le_bytes([bytes[offset], bytes[offset + 1]]);
        let relative = |offset: usize| at + offset as u64 + signed(&bytes[offset..offset + 4]) as u64;
        let (feature, flags) = if flagged { (half(8), half(10)) } else { (half(8) & 0x7fff, half(8) >> 15) };
        let lengths = if flagged { 12 } else { 10 };
        entries.push(Entry {
            at,
            site: relative(0),
            replacement: relative(4),
            feature,
            flags,
            length: bytes[lengths],
            replacement_length: bytes[lengths + 1],
        });
    }
    Ok(entries)
}

pub(super) fn apply(subject: &mut Subject<'_, '_>, entries: &mut [Entry]) {
    let style = subject.profile.patching.alternatives;
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let site = first.site;
        let count = rest.iter().take_while(|entry| entry.site == site).count();
        let (group, others) = rest.split_at_mut(count);
        rest = others;
        if style == AlternativeStyle::Sequential {
            widen(subject, group);
        }
        if subject.module.has_text(site) {
            apply_group(subject, site, group, style);
        }
    }
}

/// Entries for one place are given the length of the longest, in the table too.
fn widen(subject: &mut Subject<'_, '_>, group: &mut [Entry]) {
    let longest = group.iter().map(|entry| entry.length).max().unwrap_or(0);
    for entry in group.iter_mut().filter(|entry| entry.length != longest) {
        entry.length = longest;
        let place = entry.at + LENGTH_AT;
        subject.module.write(place, &[longest], Rule::RewrittenTable, Standing::Certain);
    }
}

fn apply_group(subject: &mut Subject<'_, '_>, site: RunAddr, group: &[Entry], style: AlternativeStyle) {
    let length = group.iter().map(|entry| entry.length.max(entry.replacement_length)).max().unwrap_or(0);
    let Some(original) = subject.module.ours(site, usize::from(length)).map(Code::of) else { return };
    let mut features: Vec<u16> = Vec::new();
    for entry in group {
        if features.contains(&entry.feature) {
            continue;
        }
        if features.try_reserve(1).is_err() {
            subject.state.lack_memory();
            return;
        }
        features.push(entry.feature);
    }
    // What paravirt calls call is asked for before, as it needs the evidence too.
    let target = group
        .iter()
        .find(|entry| entry.flags & DIRECT_CALL != 0)
        .and_then(|_| paravirt::direct_call(subject, site, original.bytes()));
    let bug = subject.kernel.bug_function;
    let call = target.map(|(to, _)| DirectCall { to, bug });
    let (nop_style, table) = (subject.profile.patching.nops, subject.kernel.nops);
    let mut replacements: Vec<Code> = Vec::new();
    if replacements.try_reserve_exact(group.len()).is_err() {
        subject.state.lack_memory();
        return;
    }
    for entry in group {
        let bytes = subject.module.ours(entry.replacement, usize::from(entry.replacement_length));
        replacements.push(Code::of(bytes.unwrap_or_default()));
    }
    let build = |choice: Choice<'_>| {
        let applies = |entry: &Entry| choice.has(entry.feature) != (entry.flags & NOT != 0);
        let mut code = original;
        match style {
            AlternativeStyle::InPlace => {
                for (entry, replacement) in group.iter().zip(&replacements) {
                    if applies(entry) {
                        replace_simply(&mut code, entry, replacement, table);
                    }
                    nops::optimize(&mut code.bytes_mut()[..usize::from(entry.length)], nop_style, table);
                }
            }
            AlternativeStyle::Sequential => {
                for (entry, replacement) in group.iter().zip(&replacements) {
                    if applies(entry) {
                        replace(&mut code, entry, entry.length, replacement, call);
                    }
                    nops::optimize(&mut code.bytes_mut()[..usize::from(entry.length)], nop_style, table);
                }
            }
            AlternativeStyle::LastWins => {
                let longest = group.iter().map(|entry| entry.length).max().unwrap_or(0);
                let last = group.iter().zip(&replacements).rev().find(|(entry, _)| applies(entry));
                if let Some((entry, replacement)) = last {
                    replace(&mut code, entry, longest, replacement, call);
                }
                nops::optimize(&mut code.bytes_mut()[..usize::from(longest)], nop_style, table);
            }
        }
        code
    };
    let (code, mut standing) = decide(subject, site, &features, build);
    if let (Standing::Certain, Some((_, call))) = (standing, target) {
        standing = call;
    }
    subject.module.write(site, code.bytes(), Rule::Alternative, standing);
}

/// 6.1: only a lone call or jump is moved; the rest is filled with NOPs.
fn replace_simply(code: &mut Code, entry: &Entry, replacement: &Code, table: &nops::Nops) {
    let mut new = *replacement;
    let distance = entry.replacement.0.wrapping_sub(entry.site.0);
    let first = new.bytes().first().copied();
    if new.bytes().len() == 5 && first == Some(CALL) {
        let moved = (signed(&new.bytes()[1..]) as u32).wrapping_add(distance as u32);
        new.bytes_mut()[1..].copy_from_slice(&moved.to_le_bytes());
    } else if new.bytes().len() == 5 && matches!(first, Some(JMP8 | JMP32)) {
        // Displacement from the start of the site to the target.
        let target = (signed(&new.bytes()[1..]) as i32).wrapping_add(5).wrapping_add(distance as i32);
        let short = target.wrapping_sub(2);
        let is_short = if target >= 0 { short <= 127 } else { short & 0xff == short };
        let bytes = new.bytes_mut();
        if is_short {
            bytes[..2].copy_from_slice(&[JMP8, short as u8]);
            table.fill(&mut bytes[2..]);
        } else {
            bytes[0] = JMP32;
            bytes[1..].copy_from_slice(&target.wrapping_sub(5).to_le_bytes());
        }
    }
    new.fill_to(usize::from(entry.length), NOP);
    let length = new.bytes().len();
    code.bytes_mut()[..length].copy_from_slice(new.bytes());
}

/// What a direct call is to call.
#[derive(Clone, Copy)]
struct DirectCall {
    /// The function; `None` where the call goes away.
    to: Option<u64>,
    /// What replacements in files call: the function that stops the machine.
    bug: Option<u64>,
}

/// 6.5 and later: every relative branch and operand is moved.
fn replace(code: &mut Code, entry: &Entry, length: u8, replacement: &Code, call: Option<DirectCall>) {
    let mut new = *replacement;
    if let Some(DirectCall { to, bug }) = call
        && entry.flags & DIRECT_CALL != 0
    {
        match (to, branch_target(new.bytes(), CALL, entry.replacement.0)) {
            (Some(to), Some(through)) if new.bytes().len() == 5 => {
                // By how far it is from one to the other: a call that is counted on its way stays one. As if it stood
                // with the replacement: it is moved below.
                let way = to.wrapping_sub(bug.unwrap_or(through));
                new = Code::of(&branch(CALL, entry.replacement.0, through.wrapping_add(way)));
            }
            _ => new = Code::empty(),
        }
    }
    new.fill_to(usize::from(length), NOP);
    relocate(new.bytes_mut(), entry);
    let length = new.bytes().len();
    code.bytes_mut()[..length].copy_from_slice(new.bytes());
}

/// Moves relative branches and operands that lead out of the replacement.
fn relocate(bytes: &mut [u8], entry: &Entry) {
    let distance = entry.replacement.0.wrapping_sub(entry.site.0);
    let inside = |next: usize, displacement: i64| {
        (0..=i64::from(entry.replacement_length)).contains(&(next as i64).wrapping_add(displacement))
    };
    let mut at = 0;
    while at < bytes.len() {
        let Some(insn) = Insn::decode(&bytes[at..]) else { return };
        let next = at + insn.length;
        if let Some((offset, size)) = insn.displacement() {
            let field = at + offset..at + offset + size;
            let displacement = signed(&bytes[field.clone()]);
            if !inside(next, displacement) {
                add(&mut bytes[field], distance);
            }
            let short = (displacement as i32).wrapping_add(distance as i32).wrapping_add(3);
            if insn.opcode == JMP32 && short >> 31 == short >> 7 {
                bytes[at] = JMP8;
                bytes[at + 1] = short as u8;
                bytes[at + 2..next].fill(INT3);
            }
        }
        if let Some((offset, size)) = insn.memory_displacement() {
            let field = at + offset..at + offset + size;
            if !inside(next, signed(&bytes[field.clone()])) {
                add(&mut bytes[field], distance);
            }
        }
        at = next;
    }
}

fn add(field: &mut [u8], distance: u64) {
    let sum = (signed(field) as u64).wrapping_add(distance).to_le_bytes();
    let length = field.len();
    field.copy_from_slice(&sum[..length]);
}
