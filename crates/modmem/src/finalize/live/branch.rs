//! Branches whose target may change.

use crate::address::RunAddr;
use crate::finalize::Variable;
use crate::guest::Guest;

/// How a branch is coded: the bits that are fixed, and where the distance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    /// x86: an opcode of that many bytes, then 32 bits counted from the branch's end.
    X86 { opcode: [u8; 2], length: u8 },
    /// arm64: 26 bits of words below an opcode.
    Arm64(u32),
    /// s390: `0xc0`, a kind, then 32 bits of halfwords.
    S390(u8),
    /// 32-bit PowerPC: 24 bits of words between the opcode and two flags.
    PowerPc(u32),
    /// An address of 64 bits.
    Address,
}

/// Whom a branch may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    /// Who traces functions; trampolines for those that are out of reach begin at these places.
    Tracers,
    /// Programs that trace functions: what BPF made.
    Programs,
    /// Any function, by the static call of that key; or the code so many bytes before it, which counts calls.
    Functions(RunAddr, u8),
    /// One of the kernel's own descriptions of who traces.
    Ops,
}

impl Branch {
    /// Bytes of the whole instruction.
    pub(crate) const fn length(self) -> usize {
        match self {
            Branch::X86 { length, .. } => length as usize + 4,
            Branch::Arm64(_) | Branch::PowerPc(_) => 4,
            Branch::S390(_) => 6,
            Branch::Address => 8,
        }
    }

    /// Where the branch in `code`, which stands at `site`, leads; `None` if it is none of this kind.
    pub(crate) fn target(self, site: RunAddr, code: &[u8]) -> Option<u64> {
        let near = |distance: i64| site.0.wrapping_add(distance as u64);
        match self {
            Branch::X86 { opcode, length } => {
                let (start, distance) = code.split_at_checked(usize::from(length))?;
                let distance = i32::from_le_bytes(distance.try_into().ok()?);
                let is_it = opcode.starts_with(start);
                is_it.then(|| near(i64::from(distance)).wrapping_add(self.length() as u64))
            }
            Branch::Arm64(opcode) => {
                let word = u32::from_le_bytes(code.try_into().ok()?);
                (word & 0xfc00_0000 == opcode).then(|| near(i64::from((word << 6) as i32 >> 4)))
            }
            Branch::S390(kind) => match code {
                &[0xc0, second, a, b, c, d] if second == kind => {
                    Some(near(i64::from(i32::from_be_bytes([a, b, c, d])) * 2))
                }
                _ => None,
            },
            Branch::PowerPc(opcode) => {
                let word = u32::from_be_bytes(code.try_into().ok()?);
                let distance = i64::from((word << 6) as i32 >> 6 & !3);
                (word & 0xfc00_0003 == opcode).then(|| near(distance) & u64::from(u32::MAX))
            }
            Branch::Address => Some(u64::from_le_bytes(code.try_into().ok()?)),
        }
    }

    /// Whether a part of an instruction, which begins `at` bytes behind its start, can be of such a branch: the opcode has to
    /// be right as far as it is there.
    pub(crate) fn may_have(self, at: usize, part: &[u8]) -> bool {
        match self {
            Branch::X86 { opcode, length } => {
                let opcode = opcode.get(at..usize::from(length)).unwrap_or_default();
                opcode.iter().zip(part).all(|(ours, given)| ours == given)
            }
            // What is written whole is looked at whole.
            Branch::Arm64(_) | Branch::S390(_) | Branch::PowerPc(_) | Branch::Address => false,
        }
    }
}

impl Leads {
    /// Whether a branch may lead to `target`, and what the machine is like then.
    pub(super) fn allows(
        self,
        guest: &dyn Guest,
        tracers: &[RunAddr],
        target: RunAddr,
    ) -> Option<Option<(Variable, u64)>> {
        let symbol = || guest.symbol_at(target).filter(|symbol| symbol.offset == 0);
        match self {
            Leads::Tracers => {
                let made = || symbol().is_some_and(|symbol| symbol.module == Some("__builtin__ftrace"));
                let ours = tracers.contains(&target) && symbol().is_none_or(|symbol| symbol.text);
                (ours || made() || is_program(guest, target)).then_some(None)
            }
            Leads::Programs => is_program(guest, target).then_some(None),
            Leads::Functions(key, before) => {
                let is_function = |at: &RunAddr| {
                    guest.symbol_at(*at).is_some_and(|symbol| symbol.text && symbol.offset == 0)
                };
                let mut functions = [target, target + u64::from(before)].into_iter().filter(is_function);
                functions.next().map(|function| Some((Variable::StaticCall(key), function.0)))
            }
            Leads::Ops => {
                let ours = tracers.contains(&target) && symbol().is_none_or(|symbol| !symbol.text);
                ours.then_some(None)
            }
        }
    }
}

/// Whether a trampoline that BPF made begins at `target`.
fn is_program(guest: &dyn Guest, target: RunAddr) -> bool {
    let symbol = guest.symbol_at(target).filter(|symbol| symbol.offset == 0);
    symbol.is_some_and(|symbol| symbol.module == Some("bpf") && symbol.name.starts_with("bpf_trampoline_"))
}
