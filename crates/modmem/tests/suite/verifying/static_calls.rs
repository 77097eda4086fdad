//! `.static_call_sites` and `.static_call.text`: calls of what a key holds.
//!
//! Text begins at 0xffffffffc0001000. Code was assembled with GNU as: 2e 2e 2e 31 c0 is `cs cs cs xor %eax,%eax`,
//! 67 48 0f b9 3a `ud1 (%edx),%rdi`, 0f b9 cc `ud1 %esp,%ecx`.

use modmem::MemoryKind;
use modmem::verify::Rule;

use crate::verifying::guest::{
    Guest, assert_clean, assert_explained, assert_not_as, assert_out_of_step, assert_wrong_target,
};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, hex};

const RETPOLINE: u16 = 11 * 32 + 12;
const RETHUNK: u16 = 11 * 32 + 14;
const CALL_DEPTH: u16 = 11 * 32 + 19;

const FUNCTION: u64 = 0xffff_ffff_8100_0100;
const RETURN_0: u64 = 0xffff_ffff_8100_0300;
const RETURN: u64 = 0xffff_ffff_8100_0400;
const WARN: u64 = 0xffff_ffff_8100_0500;
const TRAMPOLINE: u64 = 0xffff_ffff_8100_0600;
const UNLOCK: u64 = 0xffff_ffff_8100_0700;
const KEY: u64 = 0xffff_ffff_8270_0000;

/// A call, a jump at a function's end and a conditional one: their places, and what they make of each function.
const CALL: u64 = 0;
const JMP: u64 = 8;
const JNE: u64 = 0x10;
const OF_FUNCTION: [&str; 3] = ["e8 fb f0 ff c0", "e9 f3 f0 ff c0", "0f 85 ea f0 ff c0"];
const OF_OTHER: [&str; 3] = ["e8 fb f1 ff c0", "e9 f3 f1 ff c0", "0f 85 ea f1 ff c0"];
const OF_NONE: [&str; 3] = ["0f 1f 44 00 00", "c3 cc cc cc cc", "0f 85 ea f3 ff c0"];

const TAIL: i64 = 1;

fn machine(version: &'static str, features: &[u16], key: Option<u64>) -> (Guest, Loaded) {
    let mut module = Module::new(version);
    let text = module.text("e8 00 00 00 00 90 90 90 e9 00 00 00 00 90 90 90 0f 85 00 00 00 00 c3");
    let kind = if version.starts_with('7') { MemoryKind::RoAfterInit } else { MemoryKind::Data };
    let table = module.add_aligned(".static_call_sites", kind, 4, &[0; 24]);
    for (at, code, displacement, tail) in [(0, CALL, 1, 0), (8, JMP, 9, TAIL), (16, JNE, 0x12, TAIL)] {
        module.branch(text, displacement, "__SCT__tested");
        module.distance(table, at, text, code);
        module.distance_to_kernel(table, at + 4, "__SCK__tested", tail);
    }
    let mut guest = Guest::new();
    guest.cpu(features);
    guest.function("function", FUNCTION);
    guest.function("other_function", FUNCTION + 0x100);
    guest.function("__static_call_return0", RETURN_0);
    guest.function("__static_call_return", RETURN);
    guest.function("__SCT__tested", TRAMPOLINE);
    if version.starts_with('7') {
        guest.function("__WARN_trap", WARN);
    }
    guest.function("__raw_callee_save___native_queued_spin_unlock", UNLOCK);
    guest.function("__x86_return_thunk", 0xffff_ffff_81f0_0000);
    guest.variable("x86_return_thunk", 0xffff_ffff_8310_0000, Some(&0xffff_ffff_81f0_0000_u64.to_le_bytes()));
    guest.variable("__SCK__tested", KEY, key.map(u64::to_le_bytes).as_ref().map(|bytes| &bytes[..]));
    let loaded = guest.load(&module);
    // Where keys are equal, the order is what lib/sort.c makes of it.
    let order =
        if version == "6.1" { [(JMP, 1), (JNE, 1), (CALL, 0)] } else { [(JNE, 1), (JMP, 1), (CALL, 0)] };
    for (at, (code, tail)) in (loaded.at(table, 0)..).step_by(8).zip(order) {
        guest.distance(at, loaded.at(text, code));
        guest.distance(at + 4, KEY + tail);
    }
    (guest, loaded)
}

fn sites(guest: &mut Guest, loaded: &Loaded, code: [&str; 3]) {
    for (at, code) in [CALL, JMP, JNE].into_iter().zip(code) {
        guest.code(loaded.at(0, at), code);
    }
}

#[test]
fn sites_call_the_function_of_their_key() {
    for version in ["6.1", "6.12", "7.2"] {
        let (mut guest, loaded) = machine(version, &[], Some(FUNCTION));
        assert!(!guest.verify(&loaded).is_clean());
        sites(&mut guest, &loaded, OF_FUNCTION);
        assert_clean(&guest.verify(&loaded));
        assert_eq!(guest.verify(&loaded).total().unproven_bytes(), 0);
    }
}

#[test]
fn sites_of_a_key_without_a_function_do_nothing_or_return() {
    for version in ["6.1", "6.12", "7.2"] {
        let (mut guest, loaded) = machine(version, &[], Some(0));
        sites(&mut guest, &loaded, OF_NONE);
        assert_clean(&guest.verify(&loaded));
    }
    // With return thunks, they jump to that in force.
    for version in ["6.12", "7.2"] {
        let (mut guest, loaded) = machine(version, &[RETHUNK], Some(0));
        sites(&mut guest, &loaded, ["0f 1f 44 00 00", "e9 f3 ef ef c1", "0f 85 ea ef ef c1"]);
        assert_clean(&guest.verify(&loaded));
    }
}

#[test]
fn a_call_of_the_function_that_returns_0_is_one_instruction() {
    for version in ["6.1", "6.12", "7.2"] {
        let (mut guest, loaded) = machine(version, &[], Some(RETURN_0));
        sites(&mut guest, &loaded, ["2e 2e 2e 31 c0", "e9 f3 f2 ff c0", "0f 85 ea f2 ff c0"]);
        assert_clean(&guest.verify(&loaded));
    }
}

#[test]
fn a_call_of_the_function_that_warns_is_one_instruction() {
    let (mut guest, loaded) = machine("7.2", &[], Some(WARN));
    sites(&mut guest, &loaded, ["67 48 0f b9 3a", "e9 f3 f4 ff c0", "0f 85 ea f4 ff c0"]);
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn a_call_of_the_function_that_unlocks_is_one_instruction_from_7_3_on() {
    for (version, call) in [("7.2", "e8 fb f6 ff c0"), ("7.3", "3e 3e c6 07 00")] {
        let (mut guest, loaded) = machine(version, &[], Some(UNLOCK));
        sites(&mut guest, &loaded, [call, "e9 f3 f6 ff c0", "0f 85 ea f6 ff c0"]);
        assert_clean(&guest.verify(&loaded));
        guest.code(loaded.at(0, CALL), if version == "7.2" { "3e 3e c6 07 00" } else { "e8 fb f6 ff c0" });
        assert!(!guest.verify(&loaded).is_clean());
    }
}

/// The comparison with functions that have an instruction comes after the address has become that of the code which
/// counts (arch/x86/kernel/static_call.c:__static_call_transform).
#[test]
fn a_call_that_is_counted_stays_a_call_of_the_functions_that_have_an_instruction() {
    let cases = [
        ("6.12", RETURN_0, "e8 f2 f2 ff c0", "2e 2e 2e 31 c0", ["e9 f3 f2 ff c0", "0f 85 ea f2 ff c0"]),
        ("7.2", RETURN_0, "e8 f2 f2 ff c0", "2e 2e 2e 31 c0", ["e9 f3 f2 ff c0", "0f 85 ea f2 ff c0"]),
        ("7.2", WARN, "e8 f2 f4 ff c0", "67 48 0f b9 3a", ["e9 f3 f4 ff c0", "0f 85 ea f4 ff c0"]),
        ("7.3", UNLOCK, "e8 f2 f6 ff c0", "3e 3e c6 07 00", ["e9 f3 f6 ff c0", "0f 85 ea f6 ff c0"]),
    ];
    for (version, function, counted, instruction, [jump, conditional]) in cases {
        let (mut guest, loaded) = machine(version, &[RETPOLINE, CALL_DEPTH], Some(function));
        sites(&mut guest, &loaded, [counted, jump, conditional]);
        assert_clean(&guest.verify(&loaded));
        // The instruction is what other machines have.
        guest.code(loaded.at(0, CALL), instruction);
        assert_not_as(&guest.verify(&loaded), Rule::StaticCall);
        let (mut guest, loaded) = machine(version, &[RETPOLINE], Some(function));
        sites(&mut guest, &loaded, [instruction, jump, conditional]);
        assert_clean(&guest.verify(&loaded));
        guest.code(loaded.at(0, CALL), counted);
        assert_not_as(&guest.verify(&loaded), Rule::StaticCall);
    }
}

#[test]
fn a_site_that_calls_another_function_is_out_of_step_with_its_key() {
    for wrong in 0..3 {
        for other in [OF_OTHER, OF_NONE] {
            let (mut guest, loaded) = machine("6.12", &[], Some(FUNCTION));
            let mut code = OF_FUNCTION;
            code[wrong] = other[wrong];
            sites(&mut guest, &loaded, code);
            let state = "the static call key at 0xffffffff82700000 is 0xffffffff81000100";
            assert_out_of_step(&guest.verify(&loaded), Rule::StaticCall, state);
        }
    }
}

#[test]
fn a_site_that_calls_what_is_no_function_is_a_wrong_target() {
    // The byte behind the function's first, with the key at hand or not.
    for key in [Some(FUNCTION), None] {
        for (wrong, code) in ["e8 fc f0 ff c0", "e9 f4 f0 ff c0", "0f 85 eb f0 ff c0"].into_iter().enumerate()
        {
            let (mut guest, loaded) = machine("6.12", &[], key);
            let mut all = OF_FUNCTION;
            all[wrong] = code;
            sites(&mut guest, &loaded, all);
            assert_wrong_target(&guest.verify(&loaded), Rule::StaticCall, FUNCTION + 1);
        }
    }
}

#[test]
fn a_site_that_is_no_call_at_all_is_found() {
    let (mut guest, loaded) = machine("6.12", &[], Some(FUNCTION));
    sites(&mut guest, &loaded, OF_FUNCTION);
    guest.write(loaded.at(0, CALL), &[0xcc]);
    assert_not_as(&guest.verify(&loaded), Rule::StaticCall);
}

#[test]
fn without_the_keys_memory_a_call_of_any_function_is_right_and_not_proven() {
    for code in [OF_FUNCTION, OF_OTHER, OF_NONE] {
        let (mut guest, loaded) = machine("6.12", &[], None);
        sites(&mut guest, &loaded, code);
        let report = guest.verify(&loaded);
        assert_clean(&report);
        assert_eq!(report.total().unproven[Rule::StaticCall as usize], 16);
    }
    // But all sites must agree.
    for wrong in 0..3 {
        let (mut guest, loaded) = machine("6.12", &[], None);
        let mut code = OF_FUNCTION;
        code[wrong] = OF_OTHER[wrong];
        sites(&mut guest, &loaded, code);
        assert_out_of_step(&guest.verify(&loaded), Rule::StaticCall, "the static call key at");
    }
}

#[test]
fn a_site_that_names_the_trampoline_because_only_that_is_exported_gets_the_key() {
    let mut module = Module::new("6.12");
    let text = module.text("e8 00 00 00 00");
    module.branch(text, 1, "__SCT__tested");
    let table = module.add_aligned(".static_call_sites", MemoryKind::Data, 4, &[0; 8]);
    module.distance(table, 0, text, 0);
    module.distance_to_kernel(table, 4, "__SCT__tested", 0);
    let (mut guest, _) = machine("6.12", &[], Some(FUNCTION));
    let loaded = guest.load(&module);
    // A megabyte further on than the module that `machine` has loaded.
    guest.code(loaded.at(text, 0), "e8 fb f0 ef c0");
    assert!(!guest.verify(&loaded).is_clean());
    guest.distance(loaded.at(table, 4), KEY);
    assert_explained(&guest.verify(&loaded), Rule::RewrittenTable, 3);
}

/// A module that defines a static call: its trampoline, and its key with that function.
fn defined(key: u64, patched: &str) -> (Guest, Loaded) {
    // Behind it an instruction that nobody runs marks it.
    defined_as("6.12", "e9 fb 01 00 00 0f b9 cc", key, patched)
}

fn defined_as(version: &'static str, built: &str, key: u64, patched: &str) -> (Guest, Loaded) {
    let mut module = Module::new(version);
    let text = module.add_aligned(".static_call.text", MemoryKind::Text, 8, &hex(built));
    let data = module.add_aligned(".data", MemoryKind::Data, 8, &key.to_le_bytes());
    module.symbol("__SCT__tested", 0x12, text, 0);
    module.symbol("__SCK__tested", 0x11, data, 0);
    let mut guest = Guest::new();
    guest.cpu(&[]);
    guest.function("function", FUNCTION);
    guest.function("other_function", FUNCTION + 0x100);
    let loaded = guest.load(&module);
    guest.code(loaded.at(text, 0), patched);
    (guest, loaded)
}

#[test]
fn a_trampoline_jumps_to_the_function_of_its_key_or_is_as_built() {
    for (key, patched) in [(FUNCTION, JUMP_FROM_START), (0, "c3 cc cc cc cc"), (FUNCTION, "e9 fb 01 00 00")] {
        let (guest, loaded) = defined(key, patched);
        assert_clean(&guest.verify(&loaded));
    }
    let (guest, loaded) = defined(FUNCTION, "e9 fb f1 ff c0");
    assert_out_of_step(&guest.verify(&loaded), Rule::StaticCall, "the static call key at");
    let (guest, loaded) = defined(FUNCTION, "e9 fb f1 ff c1");
    assert_wrong_target(&guest.verify(&loaded), Rule::StaticCall, 0xffff_ffff_8200_0200);
}

#[test]
fn trampolines_have_no_mark_before_5_18_and_are_updated_all_the_same() {
    let built = "e9 fb 01 00 00 0f 1f 00";
    let (guest, loaded) = defined_as("5.10", built, FUNCTION, JUMP_FROM_START);
    assert_clean(&guest.verify(&loaded));
    let (guest, loaded) = defined_as("5.10", built, FUNCTION, "e9 fb f1 ff c0");
    assert_out_of_step(&guest.verify(&loaded), Rule::StaticCall, "the static call key at");
}

const JUMP_FROM_START: &str = "e9 fb f0 ff c0";

#[test]
fn a_key_that_holds_no_function_is_not_believed() {
    let (mut guest, loaded) = machine("6.12", &[], Some(FUNCTION + 0x40));
    sites(&mut guest, &loaded, ["e8 3b f1 ff c0", "e9 33 f1 ff c0", "0f 85 2a f1 ff c0"]);
    assert!(!guest.verify(&loaded).is_clean());
}
