//! s390x: what its ABI supplement and Linux (arch/s390/kernel/module.c:apply_rela) say of each relocation.
//!
//! The loader makes a table of addresses (GOT) and one of stubs (PLT) before the text, with an entry of 8 and a stub of
//! 22 bytes for each symbol that has a relocation of such a type, in the order of these. GNU ld makes tables of its own,
//! whose entries lie elsewhere, and goes without stubs. So it is given the number that computes the same without a
//! table, with the place that the entry has in modmem's; that this is the same is shown with ld's own tables. Of
//! entries and stubs the contents are compared with what they must lead to.

use modmem::Profile;
use modmem::arch::Machine;

use crate::second_linker::ours::Linked;
use crate::second_linker::probe::Probe;
use crate::second_linker::range::Range::{self, Any, Between, EvenBetween};
use crate::second_linker::range::{signed, unsigned};
use crate::second_linker::row::Counted::{
    self, Entry, EntryFromPlace, FromGot, FromPlace, FromZero, GotFromPlace, Nothing, StubFromGot,
    StubFromPlace,
};
use crate::second_linker::row::{Row, code, data, row};
use crate::second_linker::target::{Slot, Tables, Target};
use crate::support::Elf;

/// Twice what a signed field takes: of the distance it has the half.
const fn halved(bits: u32) -> Range {
    EvenBetween(-1 << bits, (1 << bits) - 2)
}

const SIGNED_TOO: &str = "to ld these are fields of either sign, with one bit more for negative values";
const WIDER: &str = "Linux has 32 bits for it, ld 64";
const SYMBOL_ONLY: &str = "to ld these have either sign and one bit more, and only the symbol must be even";
const UNCHECKED: &str = "ld cuts off what does not fit";

/// What ld takes where it does not mind whether a field is signed.
const fn either(bits: u32) -> Range {
    Between(-1 << bits, (1 << bits) - 1)
}

/// An unsigned field.
const fn unsigned_row(number: u32, name: &'static str, counted: Counted, bytes: usize) -> Row {
    let bits = bytes as u32 * 8;
    row(number, name, counted, data(bytes), unsigned(bits)).ld_takes(either(bits), SIGNED_TOO).at(2)
}

/// The distances at which Linux goes to the symbol itself. Of 16 bits it lets pass more than fit, and then refuses those.
const NEAR_16: Range = Between(-0xffff, 0x1f_fffe - 0xffff - 1);
const NEAR_32: Range = Between(-0xffff_ffff, 0x1_ffff_fffe - 0xffff_ffff - 1);

/// Displacements of 12 and 20 bits that are not what they will be, beside a base register.
const DISP12: (usize, u64) = (2, 0x1fff);
const DISP20: (usize, u64) = code(0x1fff_ff58);

const ENTRY: u64 = 8;
const STUB: u64 = 22;

pub(crate) fn target() -> Target {
    let half = |number, name, counted| unsigned_row(number, name, counted, 2);
    let word = |number, name, counted| unsigned_row(number, name, counted, 4);
    let double = |number, name, counted| row(number, name, counted, data(8), Any).at(2);
    let disp12 = |number, name, counted| {
        row(number, name, counted, DISP12, unsigned(12)).ld_takes(Any, UNCHECKED).at(2)
    };
    let disp20 =
        |number, name, counted| row(number, name, counted, DISP20, signed(20)).ld_takes(Any, UNCHECKED).at(2);
    let half_dbl = |number, name, counted| {
        row(number, name, counted, data(2), halved(16)).ld_takes(halved(17), SIGNED_TOO).steps(2).at(2)
    };
    let word_dbl = |number, name, counted| {
        row(number, name, counted, data(4), halved(32)).ld_takes(halved(33), SIGNED_TOO).steps(2).at(2)
    };
    // Evenness comes from the addend here.
    let table_dbl =
        |number, name, counted| word_dbl(number, name, counted).ld_takes(either(33), SYMBOL_ONLY).like(19);
    let rows: Vec<Row> = vec![
        row(0, "R_390_NONE", Nothing, (4, 0xc004_ffff), Any),
        unsigned_row(1, "R_390_8", FromZero, 1),
        disp12(2, "R_390_12", FromZero),
        half(3, "R_390_16", FromZero),
        word(4, "R_390_32", FromZero),
        row(5, "R_390_PC32", FromPlace, data(4), signed(32)).ld_takes(either(32), SIGNED_TOO).at(2),
        disp12(6, "R_390_GOT12", Entry).like(2),
        word(7, "R_390_GOT32", Entry).like(4),
        word(8, "R_390_PLT32", StubFromPlace).like(4),
        word(13, "R_390_GOTOFF32", FromGot).like(4),
        row(14, "R_390_GOTPC", GotFromPlace, data(4), signed(32))
            .ld_takes(either(32), SIGNED_TOO)
            .at(2)
            .like(5)
            .unlike_ld(WIDER),
        half(15, "R_390_GOT16", Entry).like(3),
        row(16, "R_390_PC16", FromPlace, data(2), signed(16)).ld_takes(either(16), SIGNED_TOO).at(2),
        half_dbl(17, "R_390_PC16DBL", FromPlace),
        half_dbl(18, "R_390_PLT16DBL", FromPlace).or_stub_unless_near(NEAR_16).like(17),
        word_dbl(19, "R_390_PC32DBL", FromPlace),
        word_dbl(20, "R_390_PLT32DBL", FromPlace).or_stub_unless_near(NEAR_32).like(19),
        table_dbl(21, "R_390_GOTPCDBL", GotFromPlace),
        double(22, "R_390_64", FromZero),
        double(23, "R_390_PC64", FromPlace),
        double(24, "R_390_GOT64", Entry).like(22),
        double(25, "R_390_PLT64", StubFromPlace).like(22),
        table_dbl(26, "R_390_GOTENT", EntryFromPlace),
        half(27, "R_390_GOTOFF16", FromGot).like(3),
        double(28, "R_390_GOTOFF64", FromGot).like(22),
        disp12(29, "R_390_GOTPLT12", Entry).like(2),
        half(30, "R_390_GOTPLT16", Entry).like(3),
        word(31, "R_390_GOTPLT32", Entry).like(4),
        double(32, "R_390_GOTPLT64", Entry).like(22),
        table_dbl(33, "R_390_GOTPLTENT", EntryFromPlace),
        half(34, "R_390_PLTOFF16", StubFromGot).like(3),
        word(35, "R_390_PLTOFF32", StubFromGot).like(4),
        double(36, "R_390_PLTOFF64", StubFromGot).like(22),
        disp20(57, "R_390_20", FromZero),
        disp20(58, "R_390_GOT20", Entry).like(57),
        disp20(59, "R_390_GOTPLT20", Entry).like(57),
    ];
    Target {
        name: "s390x",
        prefix: "s390x-linux-gnu-",
        package: "binutils-s390x-linux-gnu",
        base: 0x3ff_e012_3000,
        profile: Profile::named_for(Machine::S390, "6.12").unwrap(),
        table: Machine::S390.relocations().unwrap(),
        rows,
        file: Elf { is_64: true, big: true, machine: 22, sections: Vec::new() },
        sections: Vec::new(),
        tables,
        stubs,
    }
}

/// The GOT, and behind it the PLT.
fn tables(base: u64, probes: &[Probe<'_>]) -> Tables {
    let entries = probes.iter().filter(|probe| probe.row.has_entry()).count() as u64;
    let (mut entry, mut stub) = (base, base + entries * ENTRY);
    let slots = probes.iter().map(|probe| {
        let slot = Slot { entry, stub };
        entry += if probe.row.has_entry() { ENTRY } else { 0 };
        stub += if probe.row.has_stub() { STUB } else { 0 };
        slot
    });
    Tables { slots: slots.collect(), got: base }
}

/// basr %r1,%r0; lg %r1,12(%r1); br %r1; padding; the address
fn stubs(linked: &Linked) -> Vec<(u64, u64)> {
    const CODE: &[u8] = &[0x0d, 0x10, 0xe3, 0x10, 0x10, 0x0c, 0x00, 0x04, 0x07, 0xf1, 0, 0, 0, 0];
    let mut stubs = Vec::new();
    for (start, bytes) in linked.memories() {
        for (offset, stub) in bytes.windows(STUB as usize).enumerate() {
            if let Some(address) = stub.strip_prefix(CODE) {
                stubs.push((start + offset as u64, u64::from_be_bytes(address.try_into().unwrap())));
            }
        }
    }
    stubs
}
