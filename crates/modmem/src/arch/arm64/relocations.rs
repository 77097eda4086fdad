//! Relocations of arm64 kernel modules.

use crate::link::relocation::Check::{Signed, Unchecked, Unsigned};
use crate::link::relocation::Expression::{
    BranchMinusPlace, Nothing, PageOfSymbolMinusPageOfPlace, SymbolPlusAddend, SymbolPlusAddendMinusPlace,
};
use crate::link::relocation::{Field, Relocations, relocation};

/// Branches, which go through the PLT where they do not reach.
pub(super) const JUMP26: u32 = 282;
pub(super) const CALL26: u32 = 283;
/// ADRP, with and without a check.
pub(super) const ADRP: u32 = 275;
pub(super) const ADRP_UNCHECKED: u32 = 276;
/// Those that make a MOVZ of a MOVN, or the other way round, by the sign of the value.
pub(super) const SIGNED_MOVES: [u32; 7] = [270, 271, 272, 287, 289, 291, 293];

/// Immediates of instructions, by the bits that they take (Arm ARM, C4.1).
pub(super) const IMM26: Field = Field::bits(4, 26, 2, 0);
pub(super) const IMM19: Field = Field::bits(4, 19, 2, 5);
pub(super) const IMM14: Field = Field::bits(4, 14, 2, 5);
pub(super) const ADR: Field = Field::bits(4, 2, 0, 29).and(19, 2, 5);
const PAGE: Field = Field::bits(4, 2, 12, 29).and(19, 14, 5);

/// The 12 bits of an ADD, or of a load or store of 2^`scale` bytes, which leaves the lowest out.
const fn imm12(scale: u8) -> Field {
    Field::bits(4, 12 - scale, scale, 10).clearing(scale, 22 - scale)
}

/// The 16 bits of a MOVZ or MOVK for a quarter of the value.
const fn imm16(quarter: u8) -> Field {
    Field::bits(4, 16, 16 * quarter, 5)
}

/// Relocations that an arm64 kernel module may carry.
///
/// Values: ELF for the Arm 64-bit Architecture (AAELF64) 5.7. Accepted set and checks: Linux,
/// arch/arm64/kernel/module.c:apply_relocate_add. Branches that do not reach go
/// through the PLT; moves of signed values become MOVZ or MOVN by the value's sign.
pub const RELOCATIONS: &Relocations = &Relocations::new(
    256,
    &[
        //         number  name            value                       field    must be
        relocation(256, "R_AARCH64_NONE", Nothing, Field::NONE, Unchecked),
        relocation(257, "R_AARCH64_ABS64", SymbolPlusAddend, Field::DOUBLE, Unchecked),
        relocation(258, "R_AARCH64_ABS32", SymbolPlusAddend, Field::WORD, Unsigned(32)),
        relocation(259, "R_AARCH64_ABS16", SymbolPlusAddend, Field::HALF, Unsigned(16)),
        relocation(260, "R_AARCH64_PREL64", SymbolPlusAddendMinusPlace, Field::DOUBLE, Unchecked),
        relocation(261, "R_AARCH64_PREL32", SymbolPlusAddendMinusPlace, Field::WORD, Signed(32)),
        relocation(262, "R_AARCH64_PREL16", SymbolPlusAddendMinusPlace, Field::HALF, Signed(16)),
        relocation(263, "R_AARCH64_MOVW_UABS_G0", SymbolPlusAddend, imm16(0), Unsigned(16)),
        relocation(264, "R_AARCH64_MOVW_UABS_G0_NC", SymbolPlusAddend, imm16(0), Unchecked),
        relocation(265, "R_AARCH64_MOVW_UABS_G1", SymbolPlusAddend, imm16(1), Unsigned(32)),
        relocation(266, "R_AARCH64_MOVW_UABS_G1_NC", SymbolPlusAddend, imm16(1), Unchecked),
        relocation(267, "R_AARCH64_MOVW_UABS_G2", SymbolPlusAddend, imm16(2), Unsigned(48)),
        relocation(268, "R_AARCH64_MOVW_UABS_G2_NC", SymbolPlusAddend, imm16(2), Unchecked),
        relocation(269, "R_AARCH64_MOVW_UABS_G3", SymbolPlusAddend, imm16(3), Unchecked),
        relocation(270, "R_AARCH64_MOVW_SABS_G0", SymbolPlusAddend, imm16(0), Signed(17)),
        relocation(271, "R_AARCH64_MOVW_SABS_G1", SymbolPlusAddend, imm16(1), Signed(33)),
        relocation(272, "R_AARCH64_MOVW_SABS_G2", SymbolPlusAddend, imm16(2), Signed(49)),
        relocation(273, "R_AARCH64_LD_PREL_LO19", SymbolPlusAddendMinusPlace, IMM19, Signed(21)),
        relocation(274, "R_AARCH64_ADR_PREL_LO21", SymbolPlusAddendMinusPlace, ADR, Signed(21)),
        relocation(275, "R_AARCH64_ADR_PREL_PG_HI21", PageOfSymbolMinusPageOfPlace, PAGE, Signed(33)),
        relocation(276, "R_AARCH64_ADR_PREL_PG_HI21_NC", PageOfSymbolMinusPageOfPlace, PAGE, Unchecked),
        relocation(277, "R_AARCH64_ADD_ABS_LO12_NC", SymbolPlusAddend, imm12(0), Unchecked),
        relocation(278, "R_AARCH64_LDST8_ABS_LO12_NC", SymbolPlusAddend, imm12(0), Unchecked),
        relocation(279, "R_AARCH64_TSTBR14", SymbolPlusAddendMinusPlace, IMM14, Signed(16)),
        relocation(280, "R_AARCH64_CONDBR19", SymbolPlusAddendMinusPlace, IMM19, Signed(21)),
        relocation(282, "R_AARCH64_JUMP26", BranchMinusPlace, IMM26, Signed(28)),
        relocation(283, "R_AARCH64_CALL26", BranchMinusPlace, IMM26, Signed(28)),
        relocation(284, "R_AARCH64_LDST16_ABS_LO12_NC", SymbolPlusAddend, imm12(1), Unchecked),
        relocation(285, "R_AARCH64_LDST32_ABS_LO12_NC", SymbolPlusAddend, imm12(2), Unchecked),
        relocation(286, "R_AARCH64_LDST64_ABS_LO12_NC", SymbolPlusAddend, imm12(3), Unchecked),
        relocation(287, "R_AARCH64_MOVW_PREL_G0", SymbolPlusAddendMinusPlace, imm16(0), Signed(17)),
        relocation(288, "R_AARCH64_MOVW_PREL_G0_NC", SymbolPlusAddendMinusPlace, imm16(0), Unchecked),
        relocation(289, "R_AARCH64_MOVW_PREL_G1", SymbolPlusAddendMinusPlace, imm16(1), Signed(33)),
        relocation(290, "R_AARCH64_MOVW_PREL_G1_NC", SymbolPlusAddendMinusPlace, imm16(1), Unchecked),
        relocation(291, "R_AARCH64_MOVW_PREL_G2", SymbolPlusAddendMinusPlace, imm16(2), Signed(49)),
        relocation(292, "R_AARCH64_MOVW_PREL_G2_NC", SymbolPlusAddendMinusPlace, imm16(2), Unchecked),
        relocation(293, "R_AARCH64_MOVW_PREL_G3", SymbolPlusAddendMinusPlace, imm16(3), Unchecked),
        relocation(299, "R_AARCH64_LDST128_ABS_LO12_NC", SymbolPlusAddend, imm12(4), Unchecked),
    ],
)
.with_zero("R_AARCH64_NONE")
.closer(&SIGNED_MOVES);

/// The same where ADRP must be looked at, as a CPU has erratum 843419.
pub(super) const WITH_ERRATUM: &Relocations = &RELOCATIONS.closer(&[ADRP, ADRP_UNCHECKED]);
