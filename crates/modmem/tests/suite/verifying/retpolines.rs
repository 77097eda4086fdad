//! `.retpoline_sites`: calls and jumps through the thunk of a register.
//!
//! Each site stands at the start of text. Indirect branches were assembled with GNU as (`call *%rax` is ff d0,
//! `jmp *%r11` 41 ff e3, `lfence` 0f ae e8); prefixes and padding are written by hand.

use modmem::verify::{Rule, Why};

use crate::verifying::guest::{
    Guest, assert_clean, assert_explained, assert_not_as, assert_out_of_step, the_unexplained,
};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, branch};

pub(crate) const RETPOLINE: u16 = 11 * 32 + 12;
const LFENCE: u16 = 11 * 32 + 13;
const CALL_DEPTH: u16 = 11 * 32 + 19;

pub(crate) const THUNKS: u64 = 0xffff_ffff_81e0_0000;
const COUNTING_CALLS: u64 = 0xffff_ffff_81e1_0000;
const COUNTING_JUMPS: u64 = 0xffff_ffff_81e2_0000;
/// From a register's thunk to the next one's.
pub(crate) const STEP: i64 = 32;
const R11: i64 = 11;

/// The branch instructions that compilers make for retpolines, displacement empty.
const CALL: &str = "e8 00 00 00 00";
const CS_CALL: &str = "2e e8 00 00 00 00";
const JMP: &str = "e9 00 00 00 00";
const CS_JMP: &str = "2e e9 00 00 00 00";
const JNE: &str = "0f 85 00 00 00 00";

/// A machine with these features and the module with one site, where `original` branches to a register's thunk.
fn machine(version: &'static str, features: &[u16], original: &str, register: i64) -> (Guest, Loaded) {
    let mut module = Module::new(version);
    let text = module.text(original);
    let displacement = original.split(' ').count() as u64 - 4;
    module.branch_behind(text, displacement, "__x86_indirect_thunk_array", register * STEP);
    module.sites(".retpoline_sites", text, &[0]);
    let mut guest = Guest::new();
    guest.cpu(features);
    guest.function("__x86_indirect_thunk_array", THUNKS);
    guest.function("__x86_indirect_call_thunk_array", COUNTING_CALLS);
    guest.function("__x86_indirect_jump_thunk_array", COUNTING_JUMPS);
    let loaded = guest.load(&module);
    (guest, loaded)
}

#[track_caller]
fn assert_made(version: &'static str, features: &[u16], original: &str, register: i64, patched: &str) {
    let (mut guest, loaded) = machine(version, features, original, register);
    guest.code(loaded.at(0, 0), patched);
    assert_clean(&guest.verify(&loaded));
    guest.write(loaded.at(0, 1), &[guest.byte(loaded.at(0, 1)) ^ 0x40]);
    assert!(!guest.verify(&loaded).is_clean());
}

#[test]
fn retpolines_stay_where_they_are_needed() {
    for version in ["6.1", "6.12", "7.2"] {
        for (original, register) in [(CALL, 0), (JMP, 0), (CS_CALL, R11), (CS_JMP, R11), (JNE, 0)] {
            let (guest, loaded) = machine(version, &[RETPOLINE], original, register);
            assert_explained(&guest.verify(&loaded), Rule::Retpoline, 0);
        }
    }
}

#[test]
fn without_retpolines_branches_are_indirect_and_padded_with_nops() {
    for version in ["6.1", "6.12", "6.17"] {
        assert_made(version, &[], CALL, 0, "ff d0 0f 1f 00");
        assert_made(version, &[], CALL, R11, "41 ff d3 66 90");
        assert_made(version, &[], CS_CALL, 0, "ff d0 0f 1f 40 00");
        assert_made(version, &[], CS_CALL, R11, "41 ff d3 0f 1f 00");
        // A jump is followed by one breakpoint, against speculation past it.
        assert_made(version, &[], JMP, 0, "ff e0 cc 66 90");
        assert_made(version, &[], CS_JMP, R11, "41 ff e3 cc 66 90");
        // A conditional jump becomes the opposite one, over the indirect jump.
        assert_made(version, &[], JNE, 0, "74 04 ff e0 cc 90");
        assert_made(version, &[], JNE, R11, "74 04 41 ff e3 cc");
    }
}

#[test]
fn from_6_18_on_calls_are_padded_with_prefixes_and_jumps_with_breakpoints() {
    for version in ["6.18", "7.2"] {
        assert_made(version, &[], CALL, 0, "2e 2e 2e ff d0");
        assert_made(version, &[], CALL, R11, "2e 2e 41 ff d3");
        assert_made(version, &[], CS_CALL, R11, "2e 2e 2e 41 ff d3");
        // More than three prefixes are slow to decode.
        assert_made(version, &[], CS_CALL, 0, "ff d0 0f 1f 40 00");
        assert_made(version, &[], JMP, 0, "ff e0 cc cc cc");
        assert_made(version, &[], CS_JMP, R11, "41 ff e3 cc cc cc");
        assert_made(version, &[], JNE, 0, "74 04 ff e0 cc cc");
    }
}

#[test]
fn an_lfence_stands_before_the_branch_where_there_is_room() {
    for version in ["6.1", "6.12", "7.2"] {
        for features in [&[LFENCE][..], &[RETPOLINE, LFENCE]] {
            assert_made(version, features, CALL, 0, "0f ae e8 ff d0");
            assert_made(version, features, CS_CALL, R11, "0f ae e8 41 ff d3");
            assert_made(version, features, JMP, 0, "0f ae e8 ff e0");
        }
    }
    // With six of five bytes, the thunk stays; so it does behind a conditional jump.
    for (original, register) in [(CALL, R11), (JNE, 0)] {
        let (guest, loaded) = machine("6.12", &[RETPOLINE, LFENCE], original, register);
        assert_explained(&guest.verify(&loaded), Rule::Retpoline, 0);
    }
}

#[test]
fn with_call_depth_tracking_branches_go_to_thunks_that_count() {
    for version in ["6.12", "7.2"] {
        for (original, register, opcode) in
            [(CALL, 0, 0xe8), (JMP, 3, 0xe9), (CALL, R11, 0xe8), (JMP, R11, 0xe9)]
        {
            let (mut guest, loaded) = machine(version, &[RETPOLINE, CALL_DEPTH], original, register);
            let thunks = if opcode == 0xe8 { COUNTING_CALLS } else { COUNTING_JUMPS };
            let target = thunks + (register * STEP) as u64;
            guest.write(loaded.at(0, 0), &branch(opcode, loaded.at(0, 0), target));
            assert_clean(&guest.verify(&loaded));
        }
        // call of 0xffffffff81e10160, jmp to and jne to 0xffffffff81e20160 and ...0000
        assert_made(version, &[RETPOLINE, CALL_DEPTH], CS_CALL, R11, "2e e8 5a f1 e0 c1");
        assert_made(version, &[RETPOLINE, CALL_DEPTH], CS_JMP, R11, "2e e9 5a f1 e1 c1");
        assert_made(version, &[RETPOLINE, CALL_DEPTH], JNE, 0, "0f 85 fa ef e1 c1");
    }
}

#[test]
fn a_retpoline_of_another_register_or_to_elsewhere_is_found() {
    let (guest, loaded) = machine("6.12", &[RETPOLINE], CALL, 0);
    for target in [THUNKS + 32, COUNTING_CALLS, 0xffff_ffff_a000_0000] {
        let mut guest = guest.clone();
        guest.write(loaded.at(0, 0), &branch(0xe8, loaded.at(0, 0), target));
        let report = guest.verify(&loaded);
        let why = &the_unexplained(&report).why;
        // The thunk that counts is what another feature would make.
        let counting = matches!(why, Why::OutOfStep { rule: Rule::Retpoline, .. });
        assert_eq!(counting, target == COUNTING_CALLS, "{why:?}");
        assert!(counting || *why == Why::NotAsRule(Rule::Retpoline));
    }
}

#[test]
fn an_indirect_call_on_a_machine_with_retpolines_is_out_of_step() {
    let (mut guest, loaded) = machine("6.12", &[RETPOLINE], CALL, 0);
    guest.code(loaded.at(0, 0), "ff d0 0f 1f 00");
    assert_out_of_step(&guest.verify(&loaded), Rule::Retpoline, "CPU feature 11*32+12 is on");
    // Of another register, it is wrong on any machine.
    guest.code(loaded.at(0, 0), "ff d3 0f 1f 00");
    assert_not_as(&guest.verify(&loaded), Rule::Retpoline);
}
