//! The few A64 instructions that Linux makes (arch/arm64/lib/insn.c), encoded as in Arm ARM, C4.1.

use super::relocations::ADR;
use super::shapes::ENTRY;
use crate::image::elf::{Encoding as _, Little64};
use crate::link::Check;

/// What Linux generates where an instruction cannot say what it should: `brk #0x100` (AARCH64_BREAK_FAULT).
const FAULT: u32 = 0xd420_2000;

/// The register that entries go through (IP0).
const X16: u32 = 16;

/// `adrp rd, target` at `place` (lib/insn.c:aarch64_insn_gen_adr).
pub(super) fn adrp(place: u64, target: u64, rd: u32) -> u32 {
    let pages = (target.wrapping_sub(place & !0xfff) >> 12) as i32;
    match (-0x10_0000..0x10_0000).contains(&pages) {
        true => ADR.set(0x9000_0000, pages as u64) as u32 | rd,
        false => FAULT,
    }
}

/// `b target` at `place`, or `bl` with that opcode (lib/insn.c:aarch64_insn_gen_branch_imm).
pub(super) fn branch(opcode: u32, place: u64, target: u64) -> u32 {
    let distance = target.wrapping_sub(place);
    match Check::Signed(28).accepts(distance) && (place | target) & 3 == 0 {
        true => opcode | (distance >> 2) as u32 & 0x03ff_ffff,
        false => FAULT,
    }
}

/// Opcode of an unconditional branch.
pub(super) const B: u32 = 0x1400_0000;

/// One entry (`struct plt_entry`): three instructions.
pub(super) type Entry = [u32; 3];

/// `adrp x16, target; add x16, x16, #lo12; br x16` at `place` (module-plts.c:get_plt_entry).
pub(super) fn entry(place: u64, target: u64) -> Entry {
    const BR_X16: u32 = 0xd61f_0200;
    [adrp(place, target, X16), add(X16, target), BR_X16]
}

/// `add rd, rd, #lo12`
pub(super) fn add(rd: u32, target: u64) -> u32 {
    0x9100_0000 | ((target & 0xfff) as u32) << 10 | rd << 5 | rd
}

/// The bytes of an entry.
pub(super) fn entry_bytes(entry: Entry) -> [u8; ENTRY as usize] {
    let mut bytes = [0; ENTRY as usize];
    for (field, word) in bytes.chunks_exact_mut(4).zip(entry) {
        Little64::put_u32(field, 0, word);
    }
    bytes
}
