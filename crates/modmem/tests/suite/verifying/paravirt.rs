//! Calls through `pv_ops`, made direct: by `.altinstructions` with a flag of their own, in 6.1 by `.parainstructions`.

use modmem::MemoryKind;
use modmem::verify::Rule;

use crate::verifying::alternatives::{FUNCTION, VARIABLE, one};
use crate::verifying::guest::{Guest, assert_clean, assert_out_of_step, assert_wrong_target};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, hex};

const ALWAYS: u16 = 3 * 32 + 21;
const DIRECT_CALL: u16 = 2;

/// A call through `pv_ops`, with that word in its slot, and what the site is made into.
fn paravirt(slot: Option<u64>, patched: &str) -> (Guest, Loaded) {
    let mut parts = one("6.12", "ff 15 00 00 00 00", "e8 00 00 00 00", ALWAYS, DIRECT_CALL);
    parts.module.distance_to_kernel(parts.text, 2, "pv_ops", 8 - 4);
    parts.module.branch(parts.replacements, 1, "BUG_func");
    let mut guest = Guest::new();
    guest.cpu(&[]);
    guest.function("f", FUNCTION);
    guest.function("nop_func", FUNCTION + 0x100);
    guest.function("BUG_func", FUNCTION + 0x200);
    guest.variable("pv_ops", VARIABLE, None);
    if let Some(slot) = slot {
        guest.map(VARIABLE + 8, &slot.to_le_bytes());
    }
    let loaded = guest.load(&parts.module);
    guest.code(loaded.at(parts.text, 0), patched);
    (guest, loaded)
}

#[test]
fn a_paravirt_call_becomes_a_direct_call_of_what_its_slot_holds() {
    for (slot, patched) in [
        (FUNCTION, "e8 fb f0 ff c0 90"),
        // The function that does nothing is not called; an empty slot stops the machine.
        (FUNCTION + 0x100, "66 0f 1f 44 00 00"),
        (0, "e8 fb f2 ff c0 90"),
    ] {
        let (guest, loaded) = paravirt(Some(slot), patched);
        assert_clean(&guest.verify(&loaded));
    }
    let (guest, loaded) = paravirt(Some(FUNCTION), "e8 fb f1 ff c0 90");
    assert_out_of_step(&guest.verify(&loaded), Rule::Alternative, "the paravirt call");
}

/// From 6.15 on the replacement is patched first, where it is: the call of the function that stops the machine becomes a
/// counted one, and stays so when it is turned into the call of another. Before, the site is patched afterwards.
#[test]
fn a_paravirt_call_is_counted_by_way_of_its_replacement() {
    const RETPOLINE: u16 = 11 * 32 + 12;
    const CALL_DEPTH: u16 = 11 * 32 + 19;
    for version in ["6.12", "6.17", "7.2"] {
        let mut parts = one(version, "ff 15 00 00 00 00", "e8 00 00 00 00", ALWAYS, DIRECT_CALL);
        parts.module.distance_to_kernel(parts.text, 2, "pv_ops", 8 - 4);
        parts.module.branch(parts.replacements, 1, "BUG_func");
        parts.module.sites(".call_sites", parts.replacements, &[0]);
        let mut guest = Guest::new();
        guest.cpu(&[RETPOLINE, CALL_DEPTH]);
        guest.function("f", FUNCTION);
        guest.function("BUG_func", FUNCTION + 0x200);
        guest.variable("pv_ops", VARIABLE, None);
        guest.map(VARIABLE + 8, &FUNCTION.to_le_bytes());
        let loaded = guest.load(&parts.module);
        guest.code(loaded.at(parts.replacements, 0), "e8 ec f2 ff c0");
        guest.code(loaded.at(parts.text, 0), "e8 f2 f0 ff c0 90");
        assert_clean(&guest.verify(&loaded));
        guest.code(loaded.at(parts.text, 0), "e8 fb f0 ff c0 90");
        assert!(version == "6.12" || !guest.verify(&loaded).is_clean(), "{version}");
        if version == "6.12" {
            continue;
        }
        // Where the function that stops the machine does not count, neither does what is called instead.
        guest.code(loaded.at(parts.replacements, 0), "e8 f5 f2 ff c0");
        assert_clean(&guest.verify(&loaded));
        guest.code(loaded.at(parts.text, 0), "e8 f2 f0 ff c0 90");
        assert!(!guest.verify(&loaded).is_clean(), "{version}");
    }
}

#[test]
fn a_paravirt_call_whose_slot_cannot_be_read_is_not_proven() {
    let (guest, loaded) = paravirt(None, "e8 fb f0 ff c0 90");
    let report = guest.verify(&loaded);
    assert_clean(&report);
    assert_eq!(report.total().unproven[Rule::Alternative as usize], 6);
    // But it must be a function.
    let (guest, loaded) = paravirt(None, "e8 fd f0 ff c0 90");
    assert_wrong_target(&guest.verify(&loaded), Rule::Alternative, FUNCTION + 2);
}

#[test]
fn calls_through_a_table_of_6_1_become_direct_too() {
    for (slot, patched, clean) in [
        (FUNCTION, "e8 fb f0 ff c0 66 90", true),
        (FUNCTION + 0x100, "0f 1f 80 00 00 00 00", true),
        (FUNCTION, "0f 1f 80 00 00 00 00", false),
    ] {
        let mut module = Module::new("6.1");
        // call *pv_ops+16: its address is sign-extended; what it is does not matter once it is replaced.
        let text = module.text("ff 14 25 50 00 00 82");
        let table = module.add(
            ".parainstructions",
            MemoryKind::RoData,
            &hex("00 00 00 00 00 00 00 00 02 07 00 00 00 00 00 00"),
        );
        module.address(table, 0, text, 0);
        let mut guest = Guest::new();
        guest.function("f", FUNCTION);
        guest.function("_paravirt_nop", FUNCTION + 0x100);
        guest.variable("pv_ops", VARIABLE, None);
        guest.map(VARIABLE + 16, &slot.to_le_bytes());
        let loaded = guest.load(&module);
        guest.code(loaded.at(text, 0), patched);
        let report = guest.verify(&loaded);
        assert_eq!(report.is_clean(), clean);
        let bytes = report.total().explained_by(Rule::Paravirt);
        assert!(bytes > 0 || !clean, "{bytes}");
    }
}

#[test]
fn a_slot_that_holds_no_function_of_the_kernel_is_not_believed() {
    let (guest, loaded) = paravirt(Some(FUNCTION + 0x300), "e8 fb f3 ff c0 90");
    assert_wrong_target(&guest.verify(&loaded), Rule::Alternative, FUNCTION + 0x300);
}
