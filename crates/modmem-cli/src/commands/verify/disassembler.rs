//! What one instruction of arm64, s390x or 32-bit PowerPC says. Capstone, which is C, reads them; a build without the
//! feature `disassembly` has nothing in its place, and says so where a disassembly would stand.

use modmem::arch::Machine;

/// One instruction.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) text: String,
    /// What kind of branch it is, if it is one.
    pub(super) branch: Option<&'static str>,
    /// Where it leads, if it says so itself.
    pub(super) target: Option<u64>,
}

#[cfg(feature = "disassembly")]
pub(super) use with_capstone::Disassembler;
#[cfg(not(feature = "disassembly"))]
pub(super) use without::Disassembler;

#[cfg(feature = "disassembly")]
mod with_capstone {
    use capstone::arch::{self, BuildsCapstone as _, BuildsCapstoneEndian as _};
    use capstone::{Capstone, Endian, InsnGroupId, InsnGroupType};

    use super::{Decoded, Machine};

    /// Reads the instructions of one machine, if it is one of the three.
    pub(in super::super) struct Disassembler(Option<Capstone>);

    impl Disassembler {
        pub(in super::super) fn of(machine: Machine) -> Disassembler {
            let all = Capstone::new();
            let built = match machine {
                Machine::Arm64 => all.arm64().mode(arch::arm64::ArchMode::Arm).detail(true).build(),
                Machine::S390 => all.sysz().mode(arch::sysz::ArchMode::Default).detail(true).build(),
                Machine::PowerPc => {
                    all.ppc().mode(arch::ppc::ArchMode::Mode32).endian(Endian::Big).detail(true).build()
                }
                _ => return Disassembler(None),
            };
            Disassembler(built.ok())
        }

        /// The instruction that `bytes` are, at `address`; `None` where nothing reads this machine's.
        pub(in super::super) fn decode(&self, bytes: &[u8], address: u64) -> Option<Decoded> {
            let cs = self.0.as_ref()?;
            let decoded = cs.disasm_count(bytes, address, 1).ok()?;
            let Some(decoded) = decoded.first() else {
                return Some(Decoded {
                    text: "(no valid instruction)".to_owned(),
                    branch: None,
                    target: None,
                });
            };
            let operands = decoded.op_str().unwrap_or_default();
            let mnemonic = decoded.mnemonic().unwrap_or_default();
            let text = format!("{mnemonic:<7} {operands}").trim_end().to_owned();
            let in_group = |group: u32| {
                let group = InsnGroupId(group as u8);
                cs.insn_detail(decoded).is_ok_and(|detail| detail.groups().contains(&group))
            };
            // Not every machine's branches that set the link are known as calls.
            let is_call = in_group(InsnGroupType::CS_GRP_CALL) || ["bl", "brasl", "bras"].contains(&mnemonic);
            let is_jump = in_group(InsnGroupType::CS_GRP_JUMP);
            let branch = match (is_call, is_jump) {
                (true, _) => Some("a call of"),
                (false, true) => Some("a jump to"),
                _ => None,
            };
            let named = operands.rsplit([' ', ',', '#']).next().and_then(|last| last.strip_prefix("0x"));
            let named = named.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            Some(Decoded { text, branch, target: named.filter(|_| branch.is_some()) })
        }
    }
}

#[cfg(not(feature = "disassembly"))]
mod without {
    use super::{Decoded, Machine};

    /// Reads nothing.
    pub(in super::super) struct Disassembler {
        is_lacking: bool,
    }

    impl Disassembler {
        pub(in super::super) fn of(machine: Machine) -> Disassembler {
            Disassembler { is_lacking: matches!(machine, Machine::Arm64 | Machine::S390 | Machine::PowerPc) }
        }

        pub(in super::super) fn decode(&self, _: &[u8], _: u64) -> Option<Decoded> {
            let text = "(built without a disassembler)".to_owned();
            self.is_lacking.then_some(Decoded { text, branch: None, target: None })
        }
    }
}
