//! Jump labels and flags of warnings.

use modmem::verify::{Rule, Why};

use crate::s390x::guest::{Guest, blamed, clean};
use crate::s390x::module::{Module, R_390_PC32, profile};
use crate::support::{ALLOC, WRITE};

/// R_390_PC64
const PC64: u32 = 23;

#[test]
fn a_jump_label_is_a_branch_that_is_taken_or_not() {
    let mut module = Module::new([[0xc0, 0x04, 0, 0, 0, 8], [0x07, 0x00, 0x07, 0x00, 0x07, 0x00]].concat());
    let data = module.section(".data", ALLOC | WRITE, 8, vec![0; 16]);
    let table = module.section("__jump_table", ALLOC | WRITE, 8, vec![0; 16]);
    let (text, key) = (module.symbol("text", 1, 0), module.symbol("key", data, 0));
    module.relocate(table, &[(0, text, R_390_PC32, 0), (4, text, R_390_PC32, 16), (8, key, PC64, 0)]);
    let loaded = module.load(&profile("6.12"), &[]).unwrap();
    let mut guest = Guest::with(&loaded);
    clean(&guest.verify(&loaded, &profile("6.12")));
    let (text, key) = (loaded.address(".text"), loaded.address(".data"));
    guest.put(key, &1_u32.to_be_bytes());
    assert!(matches!(
        blamed(&guest.verify(&loaded, &profile("6.12")), text + 1),
        Why::OutOfStep { rule: Rule::JumpLabel, .. }
    ));
    guest.put(text, &[0xc0, 0xf4]);
    clean(&guest.verify(&loaded, &profile("6.12")));
    guest.put(text + 5, &[9]);
    blamed(&guest.verify(&loaded, &profile("6.12")), text + 5);
}

#[test]
fn a_warning_that_was_printed_is_marked_in_the_last_byte() {
    let mut module = Module::new(vec![0; 16]);
    // Flags: a warning that is printed once.
    let table = module.section("__bug_table", ALLOC | WRITE, 4, vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 3]);
    let text = module.symbol("text", 1, 0);
    module.relocate(table, &[(0, text, R_390_PC32, 0)]);
    let loaded = module.load(&profile("6.12"), &[]).unwrap();
    let mut guest = Guest::with(&loaded);
    let flags = loaded.address("__bug_table") + 10;
    guest.put(flags, &[0, 7]);
    clean(&guest.verify(&loaded, &profile("6.12")));
    guest.put(flags, &[4, 3]);
    blamed(&guest.verify(&loaded, &profile("6.12")), flags);
}
