//! Every relocation number of a machine's table against a second linker: GNU ld of that machine.
//!
//! A made-up module has a field for each *probe*: a relocation number and a value that this relocation shall have. The
//! same file goes to modmem and to the second linker, which puts the sections and the symbols at the same addresses.
//! Values are at both ends of what fits, one step beyond each end, and some between. Where Linux takes a value, the
//! bytes of both linkers must be equal; where it does not, modmem must refuse this very relocation, and the second
//! linker must have complained as well. Where a linker is known to take other values than Linux does, the row says
//! which and why ([`row::Row::ld_takes`]).
//!
//! What fits is stated here once more, row by row and independently of the table under test: from the machine's psABI
//! and Linux's own relocation code, `arch/*/kernel/module*.c`.

mod compare;
mod ld;
mod module;
mod ours;
mod probe;
mod range;
mod row;
#[path = "../../../crates/modmem/tests/support/mod.rs"]
mod support;
mod target;
mod x86_64;

#[test]
fn relocations_of_x86_64_have_the_bytes_and_limits_that_gnu_ld_gives_them() {
    compare::with_gnu_ld(&x86_64::target());
}
