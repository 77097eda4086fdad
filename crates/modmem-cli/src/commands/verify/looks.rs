//! What changed instructions look like: the usual ways to divert or disable code, in words.

use iced_x86::{Code, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::atlas::{Atlas, Place, Target};
use super::code::{Insn, is_branch, target_of};
use super::file_map::FileMap;

/// Instructions of both sides for the same bytes.
pub(super) struct Change<'c, 's> {
    pub(super) atlas: &'c Atlas<'s>,
    pub(super) map: &'c FileMap,
    /// What comes before, from where the window starts.
    pub(super) before: &'c [Insn<'c>],
    pub(super) at_symbol: bool,
    pub(super) ours: &'c [Insn<'c>],
    pub(super) theirs: &'c [Insn<'c>],
}

impl Change<'_, '_> {
    /// The first thing that is recognised, if anything is.
    pub(super) fn looks_like(&self) -> Option<String> {
        let first = &self.theirs.first()?.insn;
        self.int3(first)
            .or_else(|| self.nops())
            .or_else(|| self.returns())
            .or_else(|| self.diverted())
            .or_else(|| self.lock_prefix())
            .or_else(|| self.same_instruction())
            .or_else(|| first.is_invalid().then(|| "no valid instruction".to_owned()))
    }

    /// Whether nothing but what marks an entry comes before.
    fn at_entry(&self) -> bool {
        let marks = |insn: &Insn<'_>| insn.insn.mnemonic() == Mnemonic::Endbr64 || is_nop(&insn.insn);
        self.at_symbol && self.before.iter().all(marks)
    }

    fn where_in_function(&self) -> &'static str {
        if self.at_entry() { " at the function's entry" } else { "" }
    }

    fn look(&self, address: u64) -> Target {
        self.atlas.look(address, self.map)
    }

    fn int3(&self, first: &Instruction) -> Option<String> {
        if first.mnemonic() != Mnemonic::Int3 {
            return None;
        }
        let entry = self.where_in_function();
        Some(format!("int3, a breakpoint{entry}: {}", self.a_kprobe("a kprobe", first.ip())))
    }

    /// What to do about a probe.
    fn a_kprobe(&self, what: &str, address: u64) -> String {
        let mut listed = self.atlas.snapshot.kprobes.iter().flatten();
        match listed.any(|probe| probe.address == address) {
            true => format!("{what} that the snapshot lists (--kprobes accepts those)"),
            false => format!("{what}, if it is yours (--kprobe {address:#x} accepts it)"),
        }
    }

    fn nops(&self) -> Option<String> {
        let all = |insns: &[Insn<'_>]| insns.iter().all(|insn| is_nop(&insn.insn));
        if all(self.ours) || !all(self.theirs) {
            return None;
        }
        let bytes: usize = self.theirs.iter().map(|insn| insn.bytes.len()).sum();
        let gone = match self.ours {
            [one] if one.insn.flow_control() == FlowControl::Call => "a call is gone".to_owned(),
            [one] if is_branch(&one.insn) => "a jump is gone".to_owned(),
            [_] => "an instruction is gone".to_owned(),
            many => format!("{} instructions are gone", many.len()),
        };
        Some(format!("NOPs over {bytes} bytes: {gone}"))
    }

    /// `ret`, `xor %eax,%eax; ret`, `mov $N,%eax; ret`.
    fn returns(&self) -> Option<String> {
        let mut insns = self.theirs.iter().map(|insn| &insn.insn);
        let first = insns.next()?;
        let entry = self.where_in_function();
        let nothing = if self.at_entry() { ": the function does nothing" } else { "" };
        if first.mnemonic() == Mnemonic::Ret {
            return Some(format!("a return{entry}{nothing}"));
        }
        let value = constant_in_eax(first)?;
        (insns.next()?.mnemonic() == Mnemonic::Ret).then(|| format!("a return of {}{entry}", value as i32))
    }

    /// Code that goes on elsewhere.
    fn diverted(&self) -> Option<String> {
        let mut constants: Vec<(Register, u64)> = Vec::new();
        let mut pushed = None;
        for Insn { insn, .. } in self.theirs {
            // A branch that both sides have is no news.
            if self.ours.iter().any(|ours| is_branch(&ours.insn) && same_branch(&ours.insn, insn)) {
                continue;
            }
            let entry = self.where_in_function();
            if is_branch(insn) {
                let target = self.look(insn.near_branch64());
                if target.place == Place::Made("__builtin__kprobes".into()) {
                    return Some(self.a_kprobe("an optimised kprobe", insn.ip()));
                }
                return Some(match insn.flow_control() {
                    FlowControl::Call => format!("a call{entry} of {target}"),
                    FlowControl::ConditionalBranch => format!("a conditional jump to {target}"),
                    _ => format!("a jump{entry} to {target}"),
                });
            }
            match insn.flow_control() {
                FlowControl::IndirectBranch | FlowControl::IndirectCall => {
                    return self.indirect(insn, &constants, entry);
                }
                FlowControl::Return => {
                    return pushed
                        .map(|to| format!("a jump{entry} to {}, by push and return", self.look(to)));
                }
                _ => {}
            }
            match insn.code() {
                Code::Mov_r64_imm64 | Code::Mov_rm64_imm32 if insn.op0_kind() == OpKind::Register => {
                    constants.push((insn.op0_register(), insn.immediate(1)));
                }
                Code::Lea_r64_m if insn.is_ip_rel_memory_operand() => {
                    constants.push((insn.op0_register(), insn.ip_rel_memory_address()));
                }
                Code::Pushq_imm32 => pushed = Some(insn.immediate(0)),
                Code::Push_r64 => {
                    let known = constants.iter().rev().find(|(register, _)| *register == insn.op0_register());
                    pushed = known.map(|(_, value)| *value);
                }
                _ => {}
            }
        }
        None
    }

    fn indirect(&self, insn: &Instruction, constants: &[(Register, u64)], entry: &str) -> Option<String> {
        let call = insn.flow_control() == FlowControl::IndirectCall;
        let (what, to) = if call { ("a call", "of") } else { ("a jump", "to") };
        if insn.op0_kind() == OpKind::Register {
            let register = insn.op0_register();
            let known = constants.iter().rev().find(|(known, _)| *known == register);
            return Some(match known {
                Some((_, target)) => format!("{what}{entry} {to} {}, by a register", self.look(*target)),
                None => format!("{what}{entry} to where a register says"),
            });
        }
        let pointer = target_of(self.atlas, insn)?;
        let mut word = [0; 8];
        let known = self.atlas.snapshot.memory.copy(pointer, &mut word).is_some();
        let pointer = self.look(pointer);
        Some(match known {
            true => {
                format!(
                    "{what}{entry} {to} {}, by the pointer at {pointer}",
                    self.look(u64::from_le_bytes(word))
                )
            }
            false => format!("{what}{entry} by the pointer at {pointer}"),
        })
    }

    fn lock_prefix(&self) -> Option<String> {
        let ([ours], [theirs]) = (self.ours, self.theirs) else { return None };
        if ours.bytes.get(1..) != theirs.bytes.get(1..) {
            return None;
        }
        match (ours.insn.has_lock_prefix(), theirs.insn.has_lock_prefix()) {
            (true, false) => Some("a lock prefix taken out".into()),
            (false, true) => Some("a lock prefix put in".into()),
            _ => None,
        }
    }

    fn same_instruction(&self) -> Option<String> {
        let ([ours], [theirs]) = (self.ours, self.theirs) else { return None };
        if ours.insn.code() != theirs.insn.code() {
            return None;
        }
        let (from, to) = (target_of(self.atlas, &ours.insn), target_of(self.atlas, &theirs.insn));
        Some(match from.zip(to).filter(|(from, to)| from != to) {
            Some((from, to)) => {
                format!("the same instruction about {} instead of {}", self.look(to), self.look(from))
            }
            None => "the same instruction with another operand".into(),
        })
    }
}

fn is_nop(insn: &Instruction) -> bool {
    insn.mnemonic() == Mnemonic::Nop
}

fn same_branch(a: &Instruction, b: &Instruction) -> bool {
    is_branch(b) && a.code() == b.code() && a.near_branch64() == b.near_branch64()
}

/// The number that an instruction puts into `%eax`.
fn constant_in_eax(insn: &Instruction) -> Option<u32> {
    let is_eax = |register: Register| register.full_register() == Register::RAX;
    if insn.op_count() != 2 || insn.op0_kind() != OpKind::Register || !is_eax(insn.op0_register()) {
        return None;
    }
    match insn.mnemonic() {
        Mnemonic::Xor
            if insn.op1_kind() == OpKind::Register && insn.op1_register() == insn.op0_register() =>
        {
            Some(0)
        }
        Mnemonic::Mov if !matches!(insn.op1_kind(), OpKind::Register | OpKind::Memory) => {
            Some(insn.immediate(1) as u32)
        }
        _ => None,
    }
}
