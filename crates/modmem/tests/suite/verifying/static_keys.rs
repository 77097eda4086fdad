//! `__jump_table`: a NOP or a jump, by whether a static key is enabled.
//!
//! From text's start to its byte 0x10 a jump is e9 0b 00 00 00, from byte 5 eb 09; NOPs of five and two bytes are
//! 0f 1f 44 00 00 and 66 90.

use modmem::MemoryKind;
use modmem::verify::Rule;

use crate::verifying::guest::{Guest, assert_clean, assert_explained, assert_not_as, assert_out_of_step};
use crate::verifying::loader::Loaded;
use crate::verifying::module::Module;

const KERNEL_KEY: u64 = 0xffff_ffff_8260_0000;
/// Bit 0 of an entry's key: the branch is taken while the key is off.
const INVERTED: u64 = 1;

const TEXT: &str = "0f 1f 44 00 00 66 90 90 90 90 90 90 90 90 90 90 c3";
const LONG: (&str, &str) = ("0f 1f 44 00 00", "e9 0b 00 00 00");
const SHORT: (&str, &str) = ("66 90", "eb 09");

/// A module with a long and a short site, on a key of its own that was enabled that many times.
fn own_key(version: &'static str, text: &str, flags: u64, enabled: i32) -> (Guest, Loaded) {
    let mut module = Module::new(version);
    let text = module.text(text);
    let table = module.add_aligned("__jump_table", MemoryKind::RoAfterInit, 8, &[0; 32]);
    let mut data = vec![0; 32];
    data[16..20].copy_from_slice(&enabled.to_le_bytes());
    let data = module.add_aligned(".data", MemoryKind::Data, 32, &data);
    for (at, code) in [(0, 0), (16, 5)] {
        module.distance(table, at, text, code);
        module.distance(table, at + 4, text, 0x10);
        module.distance64(table, at + 8, data, 16 | flags);
    }
    let mut guest = Guest::new();
    let loaded = guest.load(&module);
    (guest, loaded)
}

/// The same on a key of the kernel, whose memory is at hand or not.
fn kernel_key(enabled: Option<i32>) -> (Guest, Loaded) {
    let mut module = Module::new("6.12");
    let text = module.text(TEXT);
    let table = module.add_aligned("__jump_table", MemoryKind::RoAfterInit, 8, &[0; 32]);
    for (at, code) in [(0, 0), (16, 5)] {
        module.distance(table, at, text, code);
        module.distance(table, at + 4, text, 0x10);
        module.distance64_to_kernel(table, at + 8, "kernel_key", 0);
    }
    let mut guest = Guest::new();
    let bytes = enabled.map(i32::to_le_bytes);
    guest.variable("kernel_key", KERNEL_KEY, bytes.as_ref().map(|bytes| &bytes[..]));
    let loaded = guest.load(&module);
    (guest, loaded)
}

fn sites(guest: &mut Guest, loaded: &Loaded, long: &str, short: &str) {
    guest.code(loaded.at(0, 0), long);
    guest.code(loaded.at(0, 5), short);
}

#[test]
fn a_branch_is_taken_while_its_key_is_enabled() {
    for version in ["6.1", "6.12", "7.2"] {
        let (mut guest, loaded) = own_key(version, TEXT, 0, 0);
        assert_explained(&guest.verify(&loaded), Rule::JumpLabel, 0);
        sites(&mut guest, &loaded, LONG.1, SHORT.1);
        assert!(!guest.verify(&loaded).is_clean());
        // -1: on its way up.
        for enabled in [1, 2, -1] {
            let (mut guest, loaded) = own_key(version, TEXT, 0, enabled);
            assert!(!guest.verify(&loaded).is_clean());
            sites(&mut guest, &loaded, LONG.1, SHORT.1);
            assert_explained(&guest.verify(&loaded), Rule::JumpLabel, 5);
        }
    }
}

#[test]
fn an_inverted_branch_is_taken_while_its_key_is_off() {
    let (mut guest, loaded) = own_key("6.12", TEXT, INVERTED, 0);
    sites(&mut guest, &loaded, LONG.1, SHORT.1);
    assert_clean(&guest.verify(&loaded));
    let (guest, loaded) = own_key("6.12", TEXT, INVERTED, 1);
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn the_file_may_have_the_jump_too() {
    let jumps = TEXT.replace(LONG.0, LONG.1).replace(SHORT.0, SHORT.1);
    let (mut guest, loaded) = own_key("6.12", &jumps, 0, 0);
    assert!(!guest.verify(&loaded).is_clean());
    sites(&mut guest, &loaded, LONG.0, SHORT.0);
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn a_flipped_branch_is_out_of_step_with_its_key() {
    for (long, short) in [(LONG.1, SHORT.0), (LONG.0, SHORT.1)] {
        let (mut guest, loaded) = own_key("6.12", TEXT, 0, 0);
        sites(&mut guest, &loaded, long, short);
        let report = guest.verify(&loaded);
        let state = "the static key at 0xffffffffc0011010 is off, as the kernel's memory says";
        assert_out_of_step(&report, Rule::JumpLabel, state);
        assert_eq!(report.total().unexplained, if long == LONG.1 { 3 } else { 2 });
    }
}

#[test]
fn a_branch_to_elsewhere_or_of_another_length_is_found() {
    for (long, short) in [
        ("e9 0c 00 00 00", SHORT.1),
        ("eb 0e 0f 1f 00", SHORT.1),
        (LONG.1, "eb 08"),
        ("e9 0b 00 00 01", SHORT.1),
        ("66 66 66 66 90", SHORT.1),
    ] {
        let (mut guest, loaded) = own_key("6.12", TEXT, 0, 1);
        sites(&mut guest, &loaded, long, short);
        assert_not_as(&guest.verify(&loaded), Rule::JumpLabel);
    }
}

#[test]
fn a_key_of_the_kernel_decides_where_its_memory_is_at_hand() {
    for enabled in [0, 1] {
        let (mut guest, loaded) = kernel_key(Some(enabled));
        assert_eq!(guest.verify(&loaded).is_clean(), enabled == 0);
        sites(&mut guest, &loaded, LONG.1, SHORT.1);
        let report = guest.verify(&loaded);
        assert_eq!(report.is_clean(), enabled == 1);
        assert_eq!(report.total().unproven_bytes(), 0);
    }
}

#[test]
fn where_its_memory_is_not_at_hand_either_state_is_right_and_not_proven() {
    for (long, short) in [(LONG.0, SHORT.0), (LONG.1, SHORT.1)] {
        let (mut guest, loaded) = kernel_key(None);
        sites(&mut guest, &loaded, long, short);
        let report = guest.verify(&loaded);
        assert_clean(&report);
        assert_eq!(report.total().unproven[Rule::JumpLabel as usize], 7);
    }
}

#[test]
fn but_all_branches_on_one_key_must_agree() {
    for (long, short) in [(LONG.0, SHORT.1), (LONG.1, SHORT.0)] {
        let (mut guest, loaded) = kernel_key(None);
        sites(&mut guest, &loaded, long, short);
        let report = guest.verify(&loaded);
        assert_out_of_step(&report, Rule::JumpLabel, "the static key at 0xffffffff82600000");
    }
    // And be one of the two.
    let (mut guest, loaded) = kernel_key(None);
    sites(&mut guest, &loaded, "e9 0c 00 00 00", SHORT.1);
    assert_not_as(&guest.verify(&loaded), Rule::JumpLabel);
}
