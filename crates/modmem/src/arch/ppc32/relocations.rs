//! Relocations of 32-bit PowerPC kernel modules.

use crate::link::relocation::Check::{Signed, Unchecked};
use crate::link::relocation::Expression::{
    BranchMinusPlace, SymbolPlusAddend, SymbolPlusAddendMinusPlace, SymbolPlusAddendRounded,
};
use crate::link::relocation::{Field, Relocations, relocation};

/// The immediate of an instruction, wherever in it the place is (arch/powerpc/kernel/module_32.c:patch_location_16).
const LOW: Field = Field::bits(4, 16, 0, 0).in_aligned_word();
const HIGH: Field = Field::bits(4, 16, 16, 0).in_aligned_word();
/// LI of a branch: a distance in words.
const LI: Field = Field::bits(4, 24, 2, 2);

/// Relocations that a 32-bit PowerPC kernel module may carry.
///
/// Values: Power Architecture 32-bit ABI Supplement, "Relocation Types". Accepted set and checks: Linux,
/// arch/powerpc/kernel/module_32.c:apply_relocate_add. Branches that do not reach go through the PLT; sums are of 32
/// bits, so nothing else can be too large.
pub const RELOCATIONS: &Relocations = &Relocations::new(
    0,
    &[
        //         number  name            value                       field    must be
        relocation(1, "R_PPC_ADDR32", SymbolPlusAddend, Field::WORD, Unchecked),
        relocation(4, "R_PPC_ADDR16_LO", SymbolPlusAddend, LOW, Unchecked),
        relocation(5, "R_PPC_ADDR16_HI", SymbolPlusAddend, HIGH, Unchecked),
        relocation(6, "R_PPC_ADDR16_HA", SymbolPlusAddendRounded, HIGH, Unchecked),
        relocation(10, "R_PPC_REL24", BranchMinusPlace, LI, Signed(26)),
        relocation(26, "R_PPC_REL32", SymbolPlusAddendMinusPlace, Field::WORD, Unchecked),
    ],
);
