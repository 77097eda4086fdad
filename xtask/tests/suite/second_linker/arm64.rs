//! arm64: what AAELF64 and Linux (arch/arm64/kernel/module.c:apply_relocate_add) say of each relocation.
//!
//! A branch that does not reach goes through the module's PLT. GNU ld would make a veneer of its own there, so it is
//! asked for a branch to the PLT entry that leads to the symbol: what the entry's instructions compute is decoded here.
//! ADRP at the end of a page, where erratum 843419 counts, is not among the probes.

use modmem::Profile;
use modmem::arch::Machine;

use crate::second_linker::ours::Linked;
use crate::second_linker::range::Range::{self, Any, Between};
use crate::second_linker::range::{signed, unsigned};
use crate::second_linker::row::Counted::{FromPage, FromPlace, FromZero, Nothing};
use crate::second_linker::row::{Row, code, data, row};
use crate::second_linker::target::{Target, no_tables};
use crate::support::{ALLOC, Elf, PROGBITS, Section};

// Instructions, with immediates that are not what they will be.
const MOVZ: u32 = 0xd29f_ffe0;
const MOVK: u32 = 0xf280_0020;
const LDR_LITERAL: u32 = 0x58ff_ffe1;
const ADR: u32 = 0x1000_0022;
const ADRP: u32 = 0xf0ff_ffe3;
const ADD: u32 = 0x913f_fc84;
const LDRB: u32 = 0x3940_04c5;
const LDRH: u32 = 0x797f_fcc5;
const LDR_W: u32 = 0xb940_04c5;
const LDR_X: u32 = 0xf97f_fcc5;
const LDR_Q: u32 = 0x3dc0_04c5;
const TBZ: u32 = 0x361f_ffe7;
const B_EQ: u32 = 0x5400_0020;
const B: u32 = 0x17ff_ffff;
const BL: u32 = 0x9400_0001;

/// Distances that the ADRP of a PLT entry can make up for, wherever in the module the entry is.
const ADRP_REACH: Range = Between(-0xf000_0000, 0xf000_0000);

/// The half that a MOVZ or MOVK writes.
const fn quarter(instruction: u32, number: u32) -> (usize, u64) {
    code(instruction | number << 21)
}

pub(crate) fn target() -> Target {
    let instruction = |number, name, counted, word, fits| row(number, name, counted, code(word), fits).at(0);
    let movw =
        |number, name, counted, word, half, fits| row(number, name, counted, quarter(word, half), fits).at(0);
    let rows: Vec<Row> = vec![
        row(0, "R_AARCH64_NONE", Nothing, code(B), Any),
        row(256, "R_AARCH64_NONE", Nothing, code(B), Any),
        row(257, "R_AARCH64_ABS64", FromZero, data(8), Any),
        row(258, "R_AARCH64_ABS32", FromZero, data(4), unsigned(32)),
        row(259, "R_AARCH64_ABS16", FromZero, data(2), unsigned(16)),
        row(260, "R_AARCH64_PREL64", FromPlace, data(8), Any),
        row(261, "R_AARCH64_PREL32", FromPlace, data(4), signed(32)),
        row(262, "R_AARCH64_PREL16", FromPlace, data(2), signed(16)),
        movw(263, "R_AARCH64_MOVW_UABS_G0", FromZero, MOVZ, 0, unsigned(16)),
        movw(264, "R_AARCH64_MOVW_UABS_G0_NC", FromZero, MOVK, 0, Any),
        movw(265, "R_AARCH64_MOVW_UABS_G1", FromZero, MOVZ, 1, unsigned(32)),
        movw(266, "R_AARCH64_MOVW_UABS_G1_NC", FromZero, MOVK, 1, Any),
        movw(267, "R_AARCH64_MOVW_UABS_G2", FromZero, MOVZ, 2, unsigned(48)),
        movw(268, "R_AARCH64_MOVW_UABS_G2_NC", FromZero, MOVK, 2, Any),
        movw(269, "R_AARCH64_MOVW_UABS_G3", FromZero, MOVK, 3, Any),
        movw(270, "R_AARCH64_MOVW_SABS_G0", FromZero, MOVZ, 0, signed(17)),
        movw(271, "R_AARCH64_MOVW_SABS_G1", FromZero, MOVZ, 1, signed(33)),
        movw(272, "R_AARCH64_MOVW_SABS_G2", FromZero, MOVZ, 2, signed(49)),
        instruction(273, "R_AARCH64_LD_PREL_LO19", FromPlace, LDR_LITERAL, signed(21)).steps(4),
        instruction(274, "R_AARCH64_ADR_PREL_LO21", FromPlace, ADR, signed(21)),
        instruction(275, "R_AARCH64_ADR_PREL_PG_HI21", FromPage, ADRP, signed(33)).steps(1 << 12),
        instruction(276, "R_AARCH64_ADR_PREL_PG_HI21_NC", FromPage, ADRP, Any).steps(1 << 12),
        instruction(277, "R_AARCH64_ADD_ABS_LO12_NC", FromZero, ADD, Any),
        instruction(278, "R_AARCH64_LDST8_ABS_LO12_NC", FromZero, LDRB, Any),
        instruction(279, "R_AARCH64_TSTBR14", FromPlace, TBZ, signed(16)).steps(4),
        instruction(280, "R_AARCH64_CONDBR19", FromPlace, B_EQ, signed(21)).steps(4),
        instruction(282, "R_AARCH64_JUMP26", FromPlace, B, signed(28)).steps(4).or_stub_leading(ADRP_REACH),
        instruction(283, "R_AARCH64_CALL26", FromPlace, BL, signed(28)).steps(4).or_stub_leading(ADRP_REACH),
        instruction(284, "R_AARCH64_LDST16_ABS_LO12_NC", FromZero, LDRH, Any).steps(2),
        instruction(285, "R_AARCH64_LDST32_ABS_LO12_NC", FromZero, LDR_W, Any).steps(4),
        instruction(286, "R_AARCH64_LDST64_ABS_LO12_NC", FromZero, LDR_X, Any).steps(8),
        movw(287, "R_AARCH64_MOVW_PREL_G0", FromPlace, MOVZ, 0, signed(17)),
        movw(288, "R_AARCH64_MOVW_PREL_G0_NC", FromPlace, MOVK, 0, Any),
        movw(289, "R_AARCH64_MOVW_PREL_G1", FromPlace, MOVZ, 1, signed(33)),
        movw(290, "R_AARCH64_MOVW_PREL_G1_NC", FromPlace, MOVK, 1, Any),
        movw(291, "R_AARCH64_MOVW_PREL_G2", FromPlace, MOVZ, 2, signed(49)),
        movw(292, "R_AARCH64_MOVW_PREL_G2_NC", FromPlace, MOVK, 2, Any),
        movw(293, "R_AARCH64_MOVW_PREL_G3", FromPlace, MOVZ, 3, Any),
        instruction(299, "R_AARCH64_LDST128_ABS_LO12_NC", FromZero, LDR_Q, Any).steps(16),
    ];
    let table = |name: &str| Section::new(name, PROGBITS, ALLOC, 1, vec![0]);
    Target {
        name: "arm64",
        prefix: "aarch64-linux-gnu-",
        package: "binutils-aarch64-linux-gnu",
        base: 0xffff_8000_7a00_0000,
        profile: Profile::named_for(Machine::Arm64, "6.12").unwrap(),
        table: Machine::Arm64.relocations().unwrap(),
        rows,
        file: Elf { machine: 183, ..Elf::x86_64() },
        sections: [".plt", ".init.plt", ".text.ftrace_trampoline", ".init.text.ftrace_trampoline"]
            .map(table)
            .into(),
        tables: no_tables,
        stubs,
    }
}

/// Entries of the PLT: adrp x16, add x16, br x16.
fn stubs(linked: &Linked) -> Vec<(u64, u64)> {
    let mut stubs = Vec::new();
    for (start, bytes) in linked.memories() {
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        for (index, words) in words.windows(3).enumerate() {
            let &[adrp, add, 0xd61f_0200] = words else { continue };
            if adrp & 0x9f00_001f != 0x9000_0010 || add & 0xffc0_03ff != 0x9100_0210 {
                continue;
            }
            let address = start + index as u64 * 4;
            let pages = (adrp >> 5 & 0x7_ffff) << 2 | adrp >> 29 & 3;
            let pages = i64::from(pages as i32) << 43 >> 43 << 12;
            let page = (address & !0xfff).wrapping_add(pages as u64);
            stubs.push((address, page + u64::from(add >> 10 & 0xfff)));
        }
    }
    stubs
}
