//! `.altinstructions`: code replaced for capabilities of the CPUs (arch/arm64/kernel/alternative.c).

use alloc::vec::Vec;

use super::{NOP, Subject};
use crate::address::RunAddr;
use crate::arch::arm64::relocations::{ADR, IMM14, IMM19, IMM26};
use crate::finalize::Variable;
use crate::finalize::{OutOfMemory, Rule, choice};
use crate::image::elf::{Encoding as _, Little64};
use crate::link::Field;

/// Bytes of an entry (`struct alt_instr`): two distances, the capability, two lengths.
const ENTRY: u64 = 12;
/// In the capability's number: a function makes the code, and is what the second distance leads to.
const CALLBACK: u16 = 1 << 15;

/// One entry of the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    site: RunAddr,
    replacement: RunAddr,
    capability: u16,
    callback: bool,
    length: u8,
    replacement_length: u8,
}

/// A few instructions, as bytes.
#[derive(Clone, Copy)]
struct Code {
    bytes: [u8; 256],
    length: usize,
}

impl Code {
    fn of(bytes: &[u8]) -> Code {
        let mut code = Code { bytes: [0; 256], length: bytes.len().min(256) };
        code.bytes[..code.length].copy_from_slice(&bytes[..code.length]);
        code
    }
}

impl AsRef<[u8]> for Code {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The table as the file has it.
fn read(subject: &Subject<'_, '_>) -> Result<Vec<Entry>, OutOfMemory> {
    let Some((table, size)) = subject.section(".altinstructions") else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    entries.try_reserve_exact((size / ENTRY) as usize).map_err(|_| OutOfMemory)?;
    for index in 0..size / ENTRY {
        let at = table + index * ENTRY;
        let module = &subject.module;
        let (Some(site), Some(replacement), Some(&[low, high, length, replacement_length])) =
            (module.offset32(at), module.offset32(at + 4), module.ours(at + 8, 4))
        else {
            break;
        };
        let capability = u16::from_le_bytes([low, high]);
        entries.push(Entry {
            site: at + site as u64,
            replacement: at + 4 + replacement as u64,
            capability: capability & !CALLBACK,
            callback: capability & CALLBACK != 0,
            length,
            replacement_length,
        });
    }
    Ok(entries)
}

/// Replaces code, entry by entry; those for one place are decided together.
pub(super) fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let entries = read(subject)?;
    let mut rest = &entries[..];
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|entry| entry.site == first.site).count().min(choice::MOST);
        let (group, others) = rest.split_at(count);
        rest = others;
        if subject.module.has_text(first.site) {
            apply_group(subject, first.site, group);
        }
    }
    Ok(())
}

fn apply_group(subject: &mut Subject<'_, '_>, site: RunAddr, group: &[Entry]) {
    let length = group.iter().map(|entry| entry.length).max().unwrap_or(0);
    let Some(original) = subject.module.ours(site, usize::from(length)).map(Code::of) else { return };
    let mut variables = [Variable::Capability(0); choice::MOST];
    let mut known = 0;
    let mut forms: Vec<(usize, Option<Code>)> = Vec::new();
    if forms.try_reserve_exact(group.len()).is_err() {
        subject.state.lack_memory();
        return;
    }
    for entry in group {
        let variable = Variable::Capability(entry.capability);
        let at = variables[..known].iter().position(|known| *known == variable).unwrap_or(known);
        variables[at] = variable;
        known = known.max(at + 1);
        ask(subject, entry.capability);
        forms.push((at, replacement(subject, entry)));
    }
    let build = |bits: u32| {
        let mut code = original;
        for (_, form) in forms.iter().filter(|(at, _)| bits >> at & 1 != 0) {
            if let Some(form) = form {
                code.bytes[..form.length].copy_from_slice(form.as_ref());
            }
        }
        code
    };
    let same = |expected: &[u8], found: &[u8]| expected == found;
    let (code, standing) = choice::decide(subject, site, &variables[..known], build, same);
    subject.module.write(site, code.as_ref(), Rule::Alternative, standing);
}

/// Learns what the kernel's own bitmap says of a capability, once.
fn ask(subject: &mut Subject<'_, '_>, capability: u16) {
    let variable = Variable::Capability(capability);
    if !subject.state.knows(variable) {
        let word = subject.kernel.capabilities.map(|start| start + u64::from(capability / 64) * 8);
        let word = word.and_then(|address| subject.guest_word(address));
        subject.state.pin(variable, word.map(|word| word >> (capability % 64) & 1));
    }
}

/// What an entry puts in place of the code; nothing if its code is made by a function that is not known, or if the
/// kernel would stop at it.
fn replacement(subject: &Subject<'_, '_>, entry: &Entry) -> Option<Code> {
    let length = usize::from(entry.length);
    if entry.callback {
        let nops = subject.kernel.nop_callback == Some(entry.replacement.0) && length.is_multiple_of(4);
        let mut code = Code { bytes: [0; 256], length };
        code.bytes.chunks_exact_mut(4).for_each(|word| Little64::put_u32(word, 0, NOP));
        return nops.then_some(code);
    }
    if entry.length != entry.replacement_length {
        return None;
    }
    let mut code = Code::of(subject.module.ours(entry.replacement, length)?);
    for (at, word) in (0..).step_by(4).zip(code.bytes[..length].chunks_exact_mut(4)) {
        let moved = moved(Little64::u32(word, 0), entry, at);
        Little64::put_u32(word, 0, moved);
    }
    Some(code)
}

/// An instruction of a replacement where it is copied to: branches that lead out of the replacement and ADRP still
/// lead to the same place (alternative.c:get_alt_insn).
fn moved(word: u32, entry: &Entry, at: u64) -> u32 {
    const PAGE: u64 = !0xfff;
    let (from, to) = (entry.replacement.0.wrapping_add(at), entry.site.0.wrapping_add(at));
    if word & 0x9f00_0000 == 0x9000_0000 {
        let pages = immediate(word, ADR, 21);
        let target = (from & PAGE).wrapping_add((pages << 12) as u64);
        let pages = target.wrapping_sub(to & PAGE) as i64 >> 12;
        return ADR.set(u64::from(word), pages as u64) as u32;
    }
    let (field, bits) = match word {
        // B, BL
        _ if word & 0x7c00_0000 == 0x1400_0000 => (IMM26, 28),
        // CBZ and CBNZ, B.cond
        _ if word & 0x7e00_0000 == 0x3400_0000 || word & 0xff00_0000 == 0x5400_0000 => (IMM19, 21),
        // TBZ and TBNZ
        _ if word & 0x7e00_0000 == 0x3600_0000 => (IMM14, 16),
        _ => return word,
    };
    let target = from.wrapping_add(immediate(word, field, bits) as u64);
    let inside = target.wrapping_sub(entry.replacement.0) <= u64::from(entry.replacement_length);
    if inside { word } else { field.set(u64::from(word), target.wrapping_sub(to)) as u32 }
}

/// The number of that many bits that an instruction has in `field`, sign-extended.
fn immediate(word: u32, field: Field, bits: u32) -> i64 {
    let value = field.get(u64::from(word));
    let unused = 64 - bits;
    (value << unused) as i64 >> unused
}
