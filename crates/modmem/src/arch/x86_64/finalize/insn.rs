//! The little of x86 instructions that patching looks at: lengths, opcodes, branches, NOPs.

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, Instruction};

/// Longest thing that is ever patched: an alternative's length is a byte.
pub(super) const LONGEST: usize = 255;

/// A few bytes of code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Code {
    pub(super) const fn empty() -> Code {
        Code { bytes: [0; LONGEST], length: 0 }
    }

    /// A copy of at most [`LONGEST`] bytes.
    pub(super) fn of(bytes: &[u8]) -> Code {
        let mut code = Code::empty();
        code.push(bytes);
        code
    }

    /// Appends bytes, as far as there is room.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.length..];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.length += count;
    }

    /// Repeats `byte` up to that length.
    pub(super) fn fill_to(&mut self, length: usize, byte: u8) {
        while self.length < length.min(LONGEST) {
            self.bytes[self.length] = byte;
            self.length += 1;
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for Code {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

pub(super) const CALL: u8 = 0xe8;
pub(super) const JMP32: u8 = 0xe9;
pub(super) const JMP8: u8 = 0xeb;
pub(super) const RET: u8 = 0xc3;
pub(super) const INT3: u8 = 0xcc;
pub(super) const NOP: u8 = 0x90;
pub(super) const LOCK: u8 = 0xf0;
/// The DS segment override, which does nothing and is as long as a lock prefix.
pub(super) const NO_LOCK: u8 = 0x3e;
pub(super) const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// A decoded instruction, as far as patching cares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Insn {
    pub(super) length: usize,
    /// First opcode byte, behind all prefixes.
    pub(super) opcode: u8,
    /// Second opcode byte, where the first is 0x0f.
    pub(super) opcode2: u8,
    /// Whether the first prefix is REP.
    rep: bool,
    constants: ConstantOffsets,
    rip_relative: bool,
}

impl Insn {
    /// Decodes the instruction that `bytes` begin with.
    pub(super) fn decode(bytes: &[u8]) -> Option<Insn> {
        let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return None;
        }
        let opcode_at = opcode_offset(bytes);
        Some(Insn {
            length: instruction.len(),
            opcode: bytes.get(opcode_at).copied()?,
            opcode2: bytes.get(opcode_at + 1).copied().unwrap_or(0),
            rep: bytes.first() == Some(&0xf3),
            constants: decoder.get_constant_offsets(&instruction),
            rip_relative: instruction.is_ip_rel_memory_operand(),
        })
    }

    /// Whether Linux takes it for a NOP: 0x90 without REP, and NOPL.
    pub(super) const fn is_nop(&self) -> bool {
        (self.opcode == NOP && !self.rep) || (self.opcode == 0x0f && self.opcode2 == 0x1f)
    }

    /// Whether Linux from 6.19 on takes it for a NOP (arch/x86/lib/insn-eval.c:insn_is_nop); `bytes` begin with it.
    pub(super) fn is_idle(&self, bytes: &[u8]) -> bool {
        let Some(bytes) = bytes.get(..self.length) else { return false };
        let at = opcode_offset(bytes);
        let (prefixes, rest) = bytes.split_at(at);
        let rex = prefixes.last().copied().filter(|byte| byte & 0xf0 == 0x40).unwrap_or(0);
        let legacy = prefixes.get(..at - usize::from(rex != 0)).unwrap_or_default();
        let wide = rex & 8 != 0;
        // The first register is the one in the middle of the second byte, what it is compared with is at the end.
        let (mode, register, other) = match rest.get(1) {
            Some(modrm) => (modrm >> 6, modrm >> 3 & 7 | (rex & 4) << 1, modrm & 7 | (rex & 1) << 3),
            None => (0, 0, 0),
        };
        match *rest {
            [0x0f, 0x1f, modrm, ..] => modrm >> 3 & 7 | (rex & 4) << 1 == 0,
            // mov %reg, %reg
            [0x89, _] => wide && mode == 3 && register == other,
            // lea 0(%reg), %reg
            [0x8d, _, ref operand @ ..] => {
                let (base, displacement) = match (other & 7, operand) {
                    (4, [sib, displacement @ ..]) => {
                        let index = sib >> 3 & 7 | (rex & 2) << 2;
                        let plain = sib >> 6 == 0 && index == 4;
                        (plain.then_some(sib & 7 | (rex & 1) << 3), displacement)
                    }
                    _ => (Some(other), operand),
                };
                wide && matches!(mode, 1 | 2)
                    && displacement.iter().all(|&byte| byte == 0)
                    && legacy.iter().all(|&byte| byte == 0x3e)
                    && base == Some(register)
            }
            [NOP] => rex & 1 == 0 && !legacy.contains(&0xf3),
            [JMP32 | JMP8, ref displacement @ ..] => displacement.iter().all(|&byte| byte == 0),
            _ => false,
        }
    }

    /// Whether it is a conditional branch with 32 bits of displacement.
    pub(super) const fn is_jcc32(&self) -> bool {
        self.opcode == 0x0f && self.opcode2 & 0xf0 == 0x80
    }

    /// Whether it is a relative branch or call.
    const fn is_branch(&self) -> bool {
        self.is_jcc32() || matches!(self.opcode, 0x70..=0x7f | JMP8 | JMP32 | CALL)
    }

    /// Where the branch's displacement is, and its bytes.
    pub(super) fn displacement(&self) -> Option<(usize, usize)> {
        let known = self.is_branch() && self.constants.has_immediate();
        known.then(|| (self.constants.immediate_offset(), self.constants.immediate_size()))
    }

    /// Where the displacement of a memory operand relative to the next instruction is, and its bytes.
    pub(super) fn memory_displacement(&self) -> Option<(usize, usize)> {
        let known = self.rip_relative && self.constants.has_displacement();
        known.then(|| (self.constants.displacement_offset(), self.constants.displacement_size()))
    }
}

/// Where the opcode begins: behind legacy prefixes and REX.
fn opcode_offset(bytes: &[u8]) -> usize {
    let legacy = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let prefixes = bytes.iter().take_while(|byte| legacy(byte)).count();
    prefixes + usize::from(bytes.get(prefixes).is_some_and(|byte| byte & 0xf0 == 0x40))
}

/// Reads a signed little-endian number of 1, 2 or 4 bytes.
pub(super) fn signed(bytes: &[u8]) -> i64 {
    match *bytes {
        [a] => i64::from(a as i8),
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => 0,
    }
}

/// A five-byte branch from `from` to `to`.
pub(super) fn branch(opcode: u8, from: u64, to: u64) -> [u8; 5] {
    let displacement = to.wrapping_sub(from.wrapping_add(5)) as u32;
    let [a, b, c, d] = displacement.to_le_bytes();
    [opcode, a, b, c, d]
}

/// Where a five-byte branch at `from` goes, if `bytes` are one with that opcode.
pub(super) fn branch_target(bytes: &[u8], opcode: u8, from: u64) -> Option<u64> {
    match bytes {
        [first, displacement @ ..] if *first == opcode && displacement.len() >= 4 => {
            Some(from.wrapping_add(5).wrapping_add(signed(&displacement[..4]) as u64))
        }
        _ => None,
    }
}
