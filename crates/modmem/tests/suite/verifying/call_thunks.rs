//! `.call_sites`: calls that are counted, by code in the padding before functions.
//!
//! The counting code is `sarq $5,%gs:depth(%rip)` with the percpu variable at 0x2f3a8. It and the calls were assembled
//! with GNU as for text at 0xffffffffc0001000 and the kernel's template at 0xffffffff82400000.

use modmem::MemoryKind;
use modmem::verify::{Rule, Variable};

use crate::verifying::guest::{
    Guest, assert_clean, assert_explained, assert_not_as, assert_out_of_step, check, the_unexplained,
};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, hex};

const RETPOLINE: u16 = 11 * 32 + 12;
const CALL_DEPTH: u16 = 11 * 32 + 19;

const KERNEL_FUNCTION: u64 = 0xffff_ffff_8100_0100;
const TEMPLATE: u64 = 0xffff_ffff_8240_0000;
const TEMPLATE_CODE: &str = "65 48 c1 3d 9f f3 c2 7d 05";

/// The function, behind its padding.
const FUNCTION: u64 = 0x20;
/// A call of it, and one of the kernel's.
const OWN_CALL: u64 = 0x40;
const OTHER_CALL: u64 = 0x45;

const COUNT: &str = "65 48 c1 3d 88 e3 02 40 05";
const OWN_COUNTED: &str = "e8 d2 ff ff ff";
const OTHER_COUNTED: &str = "e8 ad f0 ff c0";

/// What the file has before the function.
enum Padding {
    Nops,
    Code,
}

fn module(padding: &Padding) -> Module {
    let mut code = vec![0x90; 0x50];
    if matches!(padding, Padding::Code) {
        code[0x1f] = 0xc3;
    }
    code[0x20] = 0xc3;
    code[0x40..0x4a].copy_from_slice(&hex("e8 db ff ff ff e8 00 00 00 00"));
    let mut module = Module::new("6.12");
    let text = module.add_aligned(".text", MemoryKind::Text, 64, &code);
    module.branch(text, OTHER_CALL + 1, "kernel_function");
    module.sites(".call_sites", text, &[OWN_CALL, OTHER_CALL]);
    // STT_FUNC
    module.symbol("tested_function", 2, text, FUNCTION);
    module
}

fn machine(features: &[u16], padding: &Padding, template: bool) -> (Guest, Loaded) {
    let mut guest = Guest::new();
    guest.cpu(features);
    guest.function("kernel_function", KERNEL_FUNCTION);
    guest.variable("skl_call_thunk_template", TEMPLATE, template.then(|| hex(TEMPLATE_CODE)).as_deref());
    guest.variable("skl_call_thunk_tail", TEMPLATE + 9, None);
    let loaded = guest.load(&module(padding));
    (guest, loaded)
}

/// A machine that counts calls, with all that it patches.
fn counting(template: bool) -> (Guest, Loaded) {
    let (mut guest, loaded) = machine(&[RETPOLINE, CALL_DEPTH], &Padding::Nops, template);
    guest.code(loaded.at(0, FUNCTION - 9), COUNT);
    guest.code(loaded.at(0, OWN_CALL), OWN_COUNTED);
    guest.code(loaded.at(0, OTHER_CALL), OTHER_COUNTED);
    (guest, loaded)
}

#[test]
fn calls_lead_through_the_padding_that_counts() {
    for template in [true, false] {
        let (guest, loaded) = counting(template);
        // All nine bytes of the counting code, and what differs of two displacements.
        assert_explained(&guest.verify(&loaded), Rule::CallThunk, 9 + 1 + 1);
    }
}

#[test]
fn without_call_depth_tracking_a_counted_call_is_found() {
    let (mut guest, loaded) = machine(&[RETPOLINE], &Padding::Nops, true);
    assert_clean(&guest.verify(&loaded));
    guest.code(loaded.at(0, OTHER_CALL), OTHER_COUNTED);
    assert!(!guest.verify(&loaded).is_clean());
}

#[test]
fn a_call_that_is_not_counted_is_found_where_the_function_counts() {
    let (mut guest, loaded) = counting(true);
    guest.code(loaded.at(0, OWN_CALL), "e8 db ff ff ff");
    assert_not_as(&guest.verify(&loaded), Rule::CallThunk);
}

#[test]
fn a_call_past_the_padding_is_found() {
    for (call, code) in [(OWN_CALL, "e8 d3 ff ff ff"), (OTHER_CALL, "e8 ac f0 ff c0")] {
        let (mut guest, loaded) = counting(true);
        guest.code(loaded.at(0, call), code);
        assert_not_as(&guest.verify(&loaded), Rule::CallThunk);
    }
}

#[test]
fn a_function_without_padding_is_called_directly() {
    let (mut guest, loaded) = machine(&[RETPOLINE, CALL_DEPTH], &Padding::Code, true);
    guest.code(loaded.at(0, OTHER_CALL), OTHER_COUNTED);
    assert_clean(&guest.verify(&loaded));
    guest.code(loaded.at(0, OWN_CALL), OWN_COUNTED);
    assert!(!guest.verify(&loaded).is_clean());
}

#[test]
fn entries_of_the_kernel_that_count_by_themselves_are_called_directly() {
    let (mut guest, loaded) = counting(true);
    guest.function("error_entry", KERNEL_FUNCTION);
    // What the file calls is at the same address, under both names.
    let report = guest.verify(&loaded);
    assert!(!report.is_clean());
}

#[test]
fn padding_that_is_neither_nops_nor_the_code_that_counts_is_found() {
    // A different shift, another variable, something behind it.
    for code in ["65 48 c1 3d 88 e3 02 40 06", "65 48 c1 3d 80 e3 02 40 05", "65 48 c1 3d 88 e3 02 40 cc"] {
        let (mut guest, loaded) = counting(true);
        guest.code(loaded.at(0, FUNCTION - 9), code);
        let report = guest.verify(&loaded);
        assert!(!report.is_clean(), "{code}");
    }
    // Who calls a function with counting cannot be seen, so its padding may be as in the file.
    let (mut guest, loaded) = counting(true);
    guest.code(loaded.at(0, FUNCTION - 9), "90 90 90 90 90 90 90 90 90");
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn without_the_template_all_code_counts_the_same_variable() {
    let (mut guest, first) = counting(false);
    let second = guest.load(&module(&Padding::Nops));
    guest.code(second.at(0, OWN_CALL), OWN_COUNTED);
    // A megabyte further on: both distances are less by that.
    guest.code(second.at(0, OTHER_CALL), "e8 ad f0 ef c0");
    guest.code(second.at(0, FUNCTION - 9), "65 48 c1 3d 88 e3 f2 3f 05");
    let reports = guest.verify_all(&[&first, &second]);
    reports.iter().for_each(assert_clean);
    guest.code(second.at(0, FUNCTION - 9), "65 48 c1 3d 80 e3 f2 3f 05");
    let reports = guest.verify_all(&[&first, &second]);
    assert_clean(&reports[0]);
    assert_out_of_step(&reports[1], Rule::CallThunk, "the place of the call depth is 0x2f3a8");
}

#[test]
fn whether_a_function_of_the_kernel_counts_is_the_same_for_all_who_call_it() {
    let (mut guest, first) = counting(true);
    let others = [guest.load(&module(&Padding::Nops)), guest.load(&module(&Padding::Nops))];
    for loaded in &others {
        guest.code(loaded.at(0, OWN_CALL), OWN_COUNTED);
    }
    // These two call the kernel's function directly, as the file says.
    let mut verifier = guest.verifier("6.12");
    for (index, module) in (0..).zip([&first, &others[0], &others[1]]) {
        assert_clean(&check(&mut verifier, index, module).unwrap());
    }
    assert_eq!(verifier.settle().unwrap(), [0]);
    let variable = Variable::CountedCall(modmem::RunAddr(KERNEL_FUNCTION));
    assert!(verifier.machine_state().any(|fact| fact == (variable, 0, false, 2)));
    let report = check(&mut verifier, 0, &first).unwrap();
    assert_eq!(the_unexplained(&report).address.0, first.at(0, OTHER_CALL + 1));
}

#[test]
fn calls_in_alternatives_are_counted_too_where_these_are_applied_before() {
    const SMAP: u16 = 9 * 32 + 20;
    let mut module = Module::new("6.12");
    let text = module.text("90 90 90 90 90");
    let replacement = module.add(".altinstr_replacement", MemoryKind::Text, &hex("e8 00 00 00 00"));
    module.branch(replacement, 1, "kernel_function");
    let mut entry = vec![0; 8];
    entry.extend(SMAP.to_le_bytes());
    entry.extend([0, 0, 5, 5]);
    let table = module.add(".altinstructions", MemoryKind::RoData, &entry);
    module.distance(table, 0, text, 0);
    module.distance(table, 4, replacement, 0);
    let mut guest = Guest::new();
    guest.cpu(&[SMAP, RETPOLINE, CALL_DEPTH]);
    guest.function("kernel_function", KERNEL_FUNCTION);
    let loaded = guest.load(&module);
    guest.code(loaded.at(text, 0), "e8 f2 f0 ff c0");
    assert_clean(&guest.verify(&loaded));
    guest.code(loaded.at(text, 0), "e8 f3 f0 ff c0");
    assert!(!guest.verify(&loaded).is_clean());
}

#[test]
fn code_that_does_not_count_calls_is_not_copied_because_the_kernel_s_template_has_it() {
    let (mut guest, loaded) = counting(true);
    let other = "48 c7 c0 00 00 00 00 eb fe";
    guest.code(TEMPLATE, other);
    guest.code(loaded.at(0, FUNCTION - 9), other);
    assert!(!guest.verify(&loaded).is_clean());
}
