//! Every relocation number of a machine's table against a second linker: GNU ld of that machine.
//!
//! A made-up module has a field for each *probe*: a relocation number and a value that this relocation shall have. The
//! same file goes to modmem and to the second linker, which puts the section and the symbols at the same addresses; what
//! is done about relocations that need a table of the loader's is told in each machine's file and in [`ld_tables`].
//! Values are at both ends of what fits, one step beyond each end, and some between. Where Linux takes a value, the
//! bytes of both linkers must be equal; where it does not, modmem must refuse this very relocation, and the second
//! linker must have complained as well. Where it is known to take other values than Linux does, the row says which and
//! why ([`row::Row::ld_takes`]). Then the same with values of all sizes. Numbers without a row fail, and rows without a
//! number.
//!
//! What fits is stated here once more, row by row and independently of the table under test: from the machine's psABI
//! and Linux's own relocation code, `arch/*/kernel/module*.c`.

mod arm64;
mod compare;
mod ld;
mod ld_branches;
mod ld_tables;
mod module;
mod ours;
mod ppc32;
mod probe;
mod range;
mod row;
mod s390x;
mod target;
mod x86_64;

#[test]
fn relocations_of_x86_64_have_the_bytes_and_limits_that_gnu_ld_gives_them() {
    compare::with_gnu_ld(&x86_64::target());
}

#[test]
fn relocations_of_arm64_have_the_bytes_and_limits_that_gnu_ld_gives_them() {
    compare::with_gnu_ld(&arm64::target());
}

#[test]
fn relocations_of_ppc32_have_the_bytes_and_limits_that_gnu_ld_gives_them() {
    compare::with_gnu_ld(&ppc32::target());
}

#[test]
fn relocations_of_s390x_have_the_bytes_and_limits_that_gnu_ld_gives_them() {
    compare::with_gnu_ld(&s390x::target());
}
