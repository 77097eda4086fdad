//! x86-64: what psABI 4.4 and Linux (arch/x86/kernel/module.c:__write_relocate_add) say of each relocation.
//!
//! Linux wants fields to be zero.

use modmem::Profile;
use modmem::arch::x86_64::RELOCATIONS;

use crate::second_linker::range::Range::Any;
use crate::second_linker::range::{signed, unsigned};
use crate::second_linker::row::Counted::{FromPlace, FromZero, Nothing};
use crate::second_linker::row::{row, zeros};
use crate::second_linker::target::{Target, no_tables};
use crate::support::Elf;

/// Text and data of modules and the kernel lie in the same 2 GiB, so Linux does not check.
const UNCHECKED: &str = "Linux takes any distance and cuts it off";

pub(crate) fn target() -> Target {
    Target {
        name: "x86-64",
        prefix: "x86_64-linux-gnu-",
        package: "binutils-x86-64-linux-gnu",
        base: 0xffff_ffff_c000_0000,
        profile: Profile::named("6.12").unwrap(),
        table: RELOCATIONS,
        rows: vec![
            row(0, "R_X86_64_NONE", Nothing, (4, 0xcccc_cccc), Any),
            row(1, "R_X86_64_64", FromZero, zeros(8), Any),
            row(2, "R_X86_64_PC32", FromPlace, zeros(4), Any).ld_takes(signed(32), UNCHECKED),
            row(4, "R_X86_64_PLT32", FromPlace, zeros(4), Any).ld_takes(signed(32), UNCHECKED),
            row(10, "R_X86_64_32", FromZero, zeros(4), unsigned(32)),
            row(11, "R_X86_64_32S", FromZero, zeros(4), signed(32)),
            row(24, "R_X86_64_PC64", FromPlace, zeros(8), Any),
        ],
        file: Elf::x86_64(),
        sections: Vec::new(),
        tables: no_tables,
        stubs: |_| Vec::new(),
    }
}
