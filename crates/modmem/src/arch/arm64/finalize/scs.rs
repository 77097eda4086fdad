//! Shadow call stacks: where a kernel decides at boot to use them, PACIASP and AUTIASP are replaced
//! (arch/arm64/kernel/pi/patch-scs.c). Unwind tables say where these are (`.init.eh_frame`, DWARF's format).

use alloc::vec::Vec;

use super::Subject;
use crate::address::RunAddr;
use crate::finalize::tables::{JumpEntry, is_taken};
use crate::finalize::{OutOfMemory, Rule};

const PACIASP: u32 = 0xd503_233f;
const AUTIASP: u32 = 0xd503_23bf;
/// `str x30, [x18], #8`
const PUSH: u32 = 0xf800_865e;
/// `ldr x30, [x18, #-8]!`
const POP: u32 = 0xf85f_8e5e;

/// `DW_CFA_AARCH64_negate_ra_state`
const NEGATE_RA_STATE: u8 = 0x2d;

/// Bytes that are read from their start.
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A little-endian number of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let (number, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(number.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Leaves a number of any length out.
    fn skip_leb128(&mut self) -> Option<()> {
        while self.byte()? & 0x80 != 0 {}
        Some(())
    }
}

/// Replaces both instructions if shadow stacks are in use.
pub(super) fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let Some(key) = subject.kernel.shadow_stacks else { return Ok(()) };
    for place in places(subject)? {
        let word = subject.module.word32(place).filter(|_| subject.module.has_text(place));
        let (word, shadow) = match word {
            Some(word @ PACIASP) => (word, PUSH),
            Some(word @ AUTIASP) => (word, POP),
            // What follows a directive that restores a state may be anything.
            _ => continue,
        };
        let (word, shadow) = (word.to_le_bytes(), shadow.to_le_bytes());
        let shown = match subject.module.found(place, 4) {
            Some(found) if found == shadow => Some(true),
            Some(found) if found == word => Some(false),
            _ => None,
        };
        let key = JumpEntry { code: place, target: place, key, inverted: false };
        let (in_use, standing) = is_taken(subject, &key, shown);
        subject.module.write(place, if in_use { &shadow } else { &word }, Rule::ShadowStack, standing);
    }
    Ok(())
}

/// The places that the unwind tables name, as far as these can be read.
fn places(subject: &Subject<'_, '_>) -> Result<Vec<RunAddr>, OutOfMemory> {
    let mut places = Vec::new();
    let Some((table, size)) = subject.section(".init.eh_frame") else { return Ok(places) };
    let (mut at, mut factor, mut has_augmentation) = (0, 1, true);
    while size - at > 4 {
        let address = table + at;
        let frame = subject
            .module
            .word32(address)
            .map(u64::from)
            .filter(|&length| length != 0 && length != u64::from(u32::MAX) && length <= size - at - 4);
        let Some(length) = frame else { break };
        let Some(frame) = subject.module.ours(address + 4, length as usize) else { break };
        let mut bytes = Bytes(frame);
        let known = match bytes.number(4) {
            Some(0) => common(bytes).map(|(f, a)| (factor, has_augmentation) = (f, a)),
            Some(_) => {
                let known = places.len();
                let read = function(bytes, address + 8, factor, has_augmentation, &mut places)?;
                if read.is_none() {
                    places.truncate(known);
                }
                read
            }
            None => None,
        };
        if known.is_none() {
            break;
        }
        at += 4 + length;
    }
    Ok(places)
}

/// What a Common Information Entry says: how many bytes steps are counted in, and whether entries of functions have
/// augmentation data.
fn common(mut bytes: Bytes<'_>) -> Option<(u64, bool)> {
    bytes.byte()?;
    let has_augmentation = bytes.0.first() == Some(&b'z');
    while bytes.byte()? != 0 {}
    Some((u64::from(bytes.byte()?), has_augmentation))
}

/// The places in one function, `None` if its entry cannot be read. `start` is where the distance to its code stands.
fn function(
    mut bytes: Bytes<'_>,
    start: RunAddr,
    factor: u64,
    has_augmentation: bool,
    places: &mut Vec<RunAddr>,
) -> Result<Option<()>, OutOfMemory> {
    let mut read = || {
        let distance = bytes.number(4)? as u32 as i32;
        bytes.number(4)?;
        if has_augmentation {
            let length = bytes.byte().filter(|length| length & 0x80 == 0)?;
            bytes.0 = bytes.0.get(usize::from(length)..)?;
        }
        Some(start + i64::from(distance) as u64)
    };
    let Some(mut at) = read() else { return Ok(None) };
    while let Some(opcode) = bytes.byte() {
        let steps = match opcode {
            // DW_CFA_nop, remember_state, restore_state, restore
            0x00 | 0x0a | 0x0b | 0xc0.. => Some(0),
            // DW_CFA_advance_loc and those with operands of 1, 2 and 4 bytes
            0x40..=0x7f => Some(u64::from(opcode & 0x3f)),
            0x02..=0x04 => bytes.number(1 << (opcode - 2)),
            // DW_CFA_offset, def_cfa, offset_extended: two numbers
            0x05 | 0x0c => bytes.skip_leb128().and_then(|()| bytes.skip_leb128()).map(|()| 0),
            // DW_CFA_restore_extended, same_value, def_cfa_register, def_cfa_offset: one
            0x06 | 0x08 | 0x0d | 0x0e | 0x13 | 0x80..=0xbf => bytes.skip_leb128().map(|()| 0),
            NEGATE_RA_STATE => {
                places.try_reserve(1).map_err(|_| OutOfMemory)?;
                places.push(RunAddr(at.0.wrapping_sub(4)));
                Some(0)
            }
            _ => None,
        };
        let Some(steps) = steps else { return Ok(None) };
        at = at + steps.wrapping_mul(factor);
    }
    Ok(Some(()))
}
