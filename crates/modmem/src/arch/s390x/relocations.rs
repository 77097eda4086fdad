//! Relocations of s390x kernel modules.

use crate::link::relocation::Check::{Signed, SignedEven, Unchecked, Unsigned};
use crate::link::relocation::Expression::{
    BranchMinusPlace, GotEntryPlusAddend, GotEntryPlusAddendMinusPlace, GotPlusAddendMinusPlace, Nothing,
    StubPlusAddendMinusGot, StubPlusAddendMinusPlace, SymbolPlusAddend, SymbolPlusAddendMinusGot,
    SymbolPlusAddendMinusPlace,
};
use crate::link::relocation::{Field, Reach, Relocations, relocation};

/// The lower 12 bits of a halfword: an unsigned displacement (z/Architecture Principles of Operation, chapter 5).
const DISP12: Field = Field::bits(2, 12, 0, 0);
/// A signed displacement of 20 bits: the lower 12 (DL), then the upper 8 (DH).
const DISP20: Field = Field::bits(4, 12, 0, 16).and(8, 12, 8);
/// A distance in halfwords.
const HALF_DBL: Field = Field::bits(2, 16, 1, 0);
const WORD_DBL: Field = Field::bits(4, 32, 1, 0);

/// A branch goes directly to what is nearer than 4 GiB. That of 16 bits does so for symbols that it does not reach by
/// far, and is refused then.
const NEAR: Reach = Reach::new(0xffff_ffff, 0x1_ffff_fffe);
const NEAR_16: Reach = Reach::new(0xffff, 0x1f_fffe);

/// Relocations that an s390x kernel module may carry.
///
/// Values: ELF ABI s390x Supplement, "Relocation". Accepted set and checks: Linux, arch/s390/kernel/module.c:apply_rela.
/// Slots of the GOT are one a symbol, so GOTPLT types are the same as GOT types.
pub const RELOCATIONS: &Relocations = &Relocations::new(
    0,
    &[
        //         number  name            value                       field    must be
        relocation(0, "R_390_NONE", Nothing, Field::NONE, Unchecked),
        relocation(1, "R_390_8", SymbolPlusAddend, Field::BYTE, Unsigned(8)),
        relocation(2, "R_390_12", SymbolPlusAddend, DISP12, Unsigned(12)),
        relocation(3, "R_390_16", SymbolPlusAddend, Field::HALF, Unsigned(16)),
        relocation(4, "R_390_32", SymbolPlusAddend, Field::WORD, Unsigned(32)),
        relocation(5, "R_390_PC32", SymbolPlusAddendMinusPlace, Field::WORD, Signed(32)),
        relocation(6, "R_390_GOT12", GotEntryPlusAddend, DISP12, Unsigned(12)),
        relocation(7, "R_390_GOT32", GotEntryPlusAddend, Field::WORD, Unsigned(32)),
        relocation(8, "R_390_PLT32", StubPlusAddendMinusPlace, Field::WORD, Unsigned(32)),
        relocation(13, "R_390_GOTOFF32", SymbolPlusAddendMinusGot, Field::WORD, Unsigned(32)),
        relocation(14, "R_390_GOTPC", GotPlusAddendMinusPlace, Field::WORD, Signed(32)),
        relocation(15, "R_390_GOT16", GotEntryPlusAddend, Field::HALF, Unsigned(16)),
        relocation(16, "R_390_PC16", SymbolPlusAddendMinusPlace, Field::HALF, Signed(16)),
        relocation(17, "R_390_PC16DBL", SymbolPlusAddendMinusPlace, HALF_DBL, SignedEven(17)),
        relocation(18, "R_390_PLT16DBL", BranchMinusPlace, HALF_DBL, SignedEven(17)).within(NEAR_16),
        relocation(19, "R_390_PC32DBL", SymbolPlusAddendMinusPlace, WORD_DBL, SignedEven(33)),
        relocation(20, "R_390_PLT32DBL", BranchMinusPlace, WORD_DBL, SignedEven(33)).within(NEAR),
        relocation(21, "R_390_GOTPCDBL", GotPlusAddendMinusPlace, WORD_DBL, SignedEven(33)),
        relocation(22, "R_390_64", SymbolPlusAddend, Field::DOUBLE, Unchecked),
        relocation(23, "R_390_PC64", SymbolPlusAddendMinusPlace, Field::DOUBLE, Unchecked),
        relocation(24, "R_390_GOT64", GotEntryPlusAddend, Field::DOUBLE, Unchecked),
        relocation(25, "R_390_PLT64", StubPlusAddendMinusPlace, Field::DOUBLE, Unchecked),
        relocation(26, "R_390_GOTENT", GotEntryPlusAddendMinusPlace, WORD_DBL, SignedEven(33)),
        relocation(27, "R_390_GOTOFF16", SymbolPlusAddendMinusGot, Field::HALF, Unsigned(16)),
        relocation(28, "R_390_GOTOFF64", SymbolPlusAddendMinusGot, Field::DOUBLE, Unchecked),
        relocation(29, "R_390_GOTPLT12", GotEntryPlusAddend, DISP12, Unsigned(12)),
        relocation(30, "R_390_GOTPLT16", GotEntryPlusAddend, Field::HALF, Unsigned(16)),
        relocation(31, "R_390_GOTPLT32", GotEntryPlusAddend, Field::WORD, Unsigned(32)),
        relocation(32, "R_390_GOTPLT64", GotEntryPlusAddend, Field::DOUBLE, Unchecked),
        relocation(33, "R_390_GOTPLTENT", GotEntryPlusAddendMinusPlace, WORD_DBL, SignedEven(33)),
        relocation(34, "R_390_PLTOFF16", StubPlusAddendMinusGot, Field::HALF, Unsigned(16)),
        relocation(35, "R_390_PLTOFF32", StubPlusAddendMinusGot, Field::WORD, Unsigned(32)),
        relocation(36, "R_390_PLTOFF64", StubPlusAddendMinusGot, Field::DOUBLE, Unchecked),
        relocation(57, "R_390_20", SymbolPlusAddend, DISP20, Signed(20)),
        relocation(58, "R_390_GOT20", GotEntryPlusAddend, DISP20, Signed(20)),
        relocation(59, "R_390_GOTPLT20", GotEntryPlusAddend, DISP20, Signed(20)),
    ],
);
