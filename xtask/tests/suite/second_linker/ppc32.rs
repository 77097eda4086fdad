//! 32-bit PowerPC: what its ABI supplement and Linux (arch/powerpc/kernel/module_32.c:apply_relocate_add) say of each
//! relocation.
//!
//! A branch that does not reach goes through the module's PLT. GNU ld would refuse it, so it is asked for a branch to
//! the PLT entry that leads to the symbol: what the entry's instructions compute is decoded here.

use modmem::Profile;
use modmem::arch::Machine;

use crate::second_linker::ours::Linked;
use crate::second_linker::range::Range::Any;
use crate::second_linker::range::signed;
use crate::second_linker::row::Counted::{FromPlace, FromZero};
use crate::second_linker::row::{code, data, row};
use crate::second_linker::target::{Target, no_tables};
use crate::support::{ALLOC, EXEC, Elf, NOBITS, Section};

/// bl, with a displacement that is not what it will be.
const BL: u32 = 0x4b_ff_ff_fd;

pub(crate) fn target() -> Target {
    let half = |number, name| row(number, name, FromZero, data(2), Any).at(2);
    let table =
        |name: &str| Section { size: Some(0), ..Section::new(name, NOBITS, ALLOC | EXEC, 8, Vec::new()) };
    Target {
        name: "ppc32",
        prefix: "powerpc-linux-gnu-",
        package: "binutils-powerpc-linux-gnu",
        base: 0xb100_0000,
        profile: Profile::named_for(Machine::PowerPc, "6.12").unwrap(),
        table: Machine::PowerPc.relocations().unwrap(),
        rows: vec![
            row(1, "R_PPC_ADDR32", FromZero, data(4), Any),
            half(4, "R_PPC_ADDR16_LO"),
            half(5, "R_PPC_ADDR16_HI"),
            half(6, "R_PPC_ADDR16_HA"),
            row(10, "R_PPC_REL24", FromPlace, code(BL), signed(26)).at(0).steps(4).or_stub(),
            row(26, "R_PPC_REL32", FromPlace, data(4), Any),
        ],
        file: Elf { is_64: false, big: true, machine: 20, sections: Vec::new() },
        sections: [".plt", ".init.plt"].map(table).into(),
        tables: no_tables,
        stubs,
    }
}

/// Entries of the PLT: lis r12, addi r12, mtctr r12, bctr.
fn stubs(linked: &Linked) -> Vec<(u64, u64)> {
    let mut stubs = Vec::new();
    for (start, bytes) in linked.memories() {
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        for (index, words) in words.windows(4).enumerate() {
            let &[lis, addi, 0x7d89_03a6, 0x4e80_0420] = words else { continue };
            if lis >> 16 == 0x3d80 && addi >> 16 == 0x398c {
                let target = (lis << 16).wrapping_add(addi as i16 as u32);
                stubs.push((start + index as u64 * 4, u64::from(target)));
            }
        }
    }
    stubs
}
