//! Relocations of x86-64 kernel modules.

use crate::link::relocation::Check::{Signed, Unchecked, Unsigned};
use crate::link::relocation::Expression::{Nothing, SymbolPlusAddend, SymbolPlusAddendMinusPlace};
use crate::link::relocation::{Field, Relocations, relocation};

/// Relocations that an x86-64 kernel module may carry.
///
/// Values: x86-64 psABI 4.4. Accepted set and checks: Linux, arch/x86/kernel/module.c:__write_relocate_add. Linux
/// takes PC32 and PLT32 unchecked, because everything they can reach lies in the same 2 GiB, and wants the field to
/// be zero before it is written. There are no GOT types: modules are built without one.
pub const RELOCATIONS: &Relocations = &Relocations::new(
    0,
    &[
        //         number  name            value                       field    must be
        relocation(0, "R_X86_64_NONE", Nothing, Field::NONE, Unchecked),
        relocation(1, "R_X86_64_64", SymbolPlusAddend, Field::DOUBLE, Unchecked),
        relocation(2, "R_X86_64_PC32", SymbolPlusAddendMinusPlace, Field::WORD, Unchecked),
        relocation(4, "R_X86_64_PLT32", SymbolPlusAddendMinusPlace, Field::WORD, Unchecked),
        relocation(10, "R_X86_64_32", SymbolPlusAddend, Field::WORD, Unsigned(32)),
        relocation(11, "R_X86_64_32S", SymbolPlusAddend, Field::WORD, Signed(32)),
        relocation(24, "R_X86_64_PC64", SymbolPlusAddendMinusPlace, Field::DOUBLE, Unchecked),
    ],
);
