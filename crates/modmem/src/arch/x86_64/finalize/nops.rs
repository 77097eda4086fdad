//! NOPs as Linux writes them, and how it joins short ones (arch/x86/kernel/alternative.c:optimize_nops, add_nop).

use super::insn::{INT3, Insn, JMP8, JMP32, NOP};
use crate::profile::NopStyle;

/// The NOPs that a kernel writes (arch/x86/include/asm/nops.h).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nops {
    /// One of each length from 1 to 8.
    short: [&'static [u8]; 8],
    /// The one of five bytes that is a single instruction: where calls and jumps may come.
    pub(super) atomic: [u8; 5],
}

/// NOPs of their own opcode: all kernels' since 5.13 (a89dfde3dc3c), most CPUs' before.
pub(super) const P6: Nops = Nops {
    short: [NOPS[0], NOPS[1], NOPS[2], NOPS[3], NOPS[4], NOPS[5], NOPS[6], NOPS[7]],
    atomic: super::insn::NOP5,
};

/// `nop` with prefixes, which some CPUs decode faster, or know alone.
pub(super) const K8: Nops = Nops {
    short: [
        &[0x90],
        &[0x66, 0x90],
        &[0x66, 0x66, 0x90],
        &[0x66, 0x66, 0x66, 0x90],
        &[0x66, 0x66, 0x90, 0x66, 0x90],
        &[0x66, 0x66, 0x90, 0x66, 0x66, 0x90],
        &[0x66, 0x66, 0x66, 0x90, 0x66, 0x66, 0x90],
        &[0x66, 0x66, 0x66, 0x90, 0x66, 0x66, 0x66, 0x90],
    ],
    atomic: [0x66, 0x66, 0x66, 0x66, 0x90],
};

impl Nops {
    /// Fills `bytes` with NOPs of at most eight bytes (add_nops).
    pub(super) fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(self.short[chunk.len() - 1]);
        }
    }

    /// What stands where a jump label does not jump: of two bytes, or of five.
    pub(super) fn label(&self, length: usize) -> &[u8] {
        if length == 5 { &self.atomic } else { self.short[length.clamp(1, 8) - 1] }
    }
}

/// The NOP of each length, the shortest first.
const NOPS: [&[u8]; 11] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// The NOP of that many bytes, 1 to 11.
fn nop(length: usize) -> &'static [u8] {
    NOPS.get(length.wrapping_sub(1)).copied().unwrap_or_default()
}

/// Fills `bytes` with one NOP, or with a jump over what is too long for one.
fn fill_one(bytes: &mut [u8]) {
    let length = bytes.len();
    if length <= NOPS.len() {
        bytes.copy_from_slice(nop(length));
        return;
    }
    let (jump, rest) = bytes.split_at_mut(if length < 128 { 2 } else { 5 });
    match jump {
        [opcode, displacement] => (*opcode, *displacement) = (JMP8, (length - 2) as u8),
        jump => {
            jump[0] = JMP32;
            jump[1..].copy_from_slice(&((length - 5) as u32).to_le_bytes());
        }
    }
    rest.fill(INT3);
}

/// Joins runs of NOPs. `beyond` is code behind `bytes`, which instructions may reach into.
pub(super) fn optimize(bytes: &mut [u8], style: NopStyle, nops: &Nops) {
    match style {
        NopStyle::SingleBytes => optimize_single_bytes(bytes, nops),
        NopStyle::AllNops => optimize_all(bytes, |insn, _| insn.is_nop()),
        NopStyle::Idle => optimize_all(bytes, Insn::is_idle),
    }
}

fn optimize_single_bytes(bytes: &mut [u8], nops: &Nops) {
    let mut at = 0;
    while at < bytes.len() {
        let Some(insn) = Insn::decode(&bytes[at..]) else { return };
        if insn.length == 1 && insn.opcode == NOP {
            let run = bytes[at..].iter().take_while(|&&byte| byte == NOP).count();
            if run > 1 {
                nops.fill(&mut bytes[at..at + run]);
            }
            at += run;
        } else {
            at += insn.length;
        }
    }
}

fn optimize_all(bytes: &mut [u8], is_nop: impl Fn(&Insn, &[u8]) -> bool) {
    let mut at = 0;
    while at < bytes.len() {
        let Some(insn) = Insn::decode(&bytes[at..]) else { return };
        let mut next = at + insn.length;
        if is_nop(&insn, &bytes[at..]) {
            // One that reaches the end is as it should be.
            if next == bytes.len() {
                return;
            }
            while let Some(rest) = bytes.get(next..).filter(|rest| !rest.is_empty())
                && let Some(insn) = Insn::decode(rest).filter(|insn| is_nop(insn, rest))
            {
                next += insn.length;
            }
            fill_one(&mut bytes[at..next]);
        }
        at = next;
    }
}
