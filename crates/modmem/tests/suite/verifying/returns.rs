//! `.return_sites`: returns, which stay jumps to a thunk where a mitigation needs them.
//!
//! `ret` is c3, a breakpoint cc. Jumps from 0xffffffffc0001000 and ...1020 were assembled with GNU as.

use modmem::verify::{Rule, Variable};

use crate::verifying::guest::{
    Guest, assert_clean, assert_explained, assert_not_as, assert_out_of_step, assert_wrong_target, check,
};
use crate::verifying::loader::Loaded;
use crate::verifying::module::Module;

const RETHUNK: u16 = 11 * 32 + 14;
const THUNK: u64 = 0xffff_ffff_81f0_0000;
const RETBLEED: u64 = 0xffff_ffff_81f0_0100;
const ITS: u64 = 0xffff_ffff_81f0_0200;
const OTHER: u64 = 0xffff_ffff_81f0_0300;
/// The variable that says which thunk is in force.
const IN_FORCE: u64 = 0xffff_ffff_8310_0000;

const RETURN: &str = "c3 cc cc cc cc";

/// A machine whose kernel says that `thunk` is in force, and a module with returns at 0 and at 0x20.
fn machine(features: Option<&[u16]>, thunk: Option<u64>) -> (Guest, Loaded) {
    let mut guest = Guest::new();
    if let Some(features) = features {
        guest.cpu(features);
    }
    guest.function("__x86_return_thunk", THUNK);
    guest.function("retbleed_return_thunk", RETBLEED);
    guest.function("its_return_thunk", ITS);
    guest.function("other_function", OTHER);
    let thunk = thunk.map(u64::to_le_bytes);
    guest.variable("x86_return_thunk", IN_FORCE, thunk.as_ref().map(|bytes| &bytes[..]));
    let loaded = guest.load(&module());
    (guest, loaded)
}

fn module() -> Module {
    let mut module = Module::new("6.12");
    let text = module.text(
        &["e9 00 00 00 00".to_owned(), vec!["90"; 27].join(" "), "e9 00 00 00 00".to_owned()].join(" "),
    );
    module.branch(text, 1, "__x86_return_thunk");
    module.branch(text, 0x21, "__x86_return_thunk");
    module.sites(".return_sites", text, &[0, 0x20]);
    module
}

/// The two returns as they are in the guest.
fn returns(guest: &mut Guest, loaded: &Loaded, first: &str, second: &str) {
    guest.code(loaded.at(0, 0), first);
    guest.code(loaded.at(0, 0x20), second);
}

#[test]
fn without_the_mitigation_returns_are_returns() {
    let (mut guest, loaded) = machine(Some(&[]), Some(THUNK));
    returns(&mut guest, &loaded, RETURN, RETURN);
    assert_explained(&guest.verify(&loaded), Rule::Return, 10);
    // The bytes behind a return are breakpoints and nothing else.
    returns(&mut guest, &loaded, "c3 cc cc 90 cc", RETURN);
    assert_not_as(&guest.verify(&loaded), Rule::Return);
}

#[test]
fn with_the_mitigation_returns_jump_to_the_thunk_in_force() {
    let (guest, loaded) = machine(Some(&[RETHUNK]), Some(THUNK));
    assert_explained(&guest.verify(&loaded), Rule::Return, 0);
    let (mut guest, loaded) = machine(Some(&[RETHUNK]), Some(RETBLEED));
    returns(&mut guest, &loaded, "e9 fb f0 ef c1", "e9 db f0 ef c1");
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn a_return_on_a_machine_with_thunks_is_out_of_step_and_so_is_one_to_another_thunk() {
    let (mut guest, loaded) = machine(Some(&[RETHUNK]), Some(RETBLEED));
    returns(&mut guest, &loaded, "e9 fb f0 ef c1", RETURN);
    assert_out_of_step(&guest.verify(&loaded), Rule::Return, "CPU feature 11*32+14 is on");
    returns(&mut guest, &loaded, "e9 fb f0 ef c1", "e9 db ef ef c1");
    assert_out_of_step(&guest.verify(&loaded), Rule::Return, "the return thunk is 0xffffffff81f00100");
    let (mut guest, loaded) = machine(Some(&[]), Some(THUNK));
    returns(&mut guest, &loaded, RETURN, "e9 db ef ef c1");
    assert_out_of_step(&guest.verify(&loaded), Rule::Return, "CPU feature 11*32+14 is off");
}

#[test]
fn a_return_that_jumps_to_a_function_is_a_wrong_target() {
    // With and without the kernel's own words.
    for (features, thunk) in [(Some(&[RETHUNK][..]), Some(RETBLEED)), (None, None)] {
        let (mut guest, loaded) = machine(features, thunk);
        returns(&mut guest, &loaded, "e9 fb f0 ef c1", "e9 db f2 ef c1");
        assert_wrong_target(&guest.verify(&loaded), Rule::Return, OTHER);
    }
}

#[test]
fn with_the_mitigation_a_return_is_wrong_before_any_other_shows_the_thunk() {
    let (mut guest, loaded) = machine(Some(&[RETHUNK]), None);
    guest.forget("its_return_thunk");
    returns(&mut guest, &loaded, RETURN, "e9 db ef ef c1");
    assert_out_of_step(&guest.verify(&loaded), Rule::Return, "CPU feature 11*32+14 is on");
    returns(&mut guest, &loaded, "e9 fb f2 ef c1", "e9 db ef ef c1");
    assert_wrong_target(&guest.verify(&loaded), Rule::Return, OTHER);
}

#[test]
fn the_its_thunk_is_for_returns_in_the_lower_half_of_a_cache_line() {
    for (features, thunk) in [(Some(&[RETHUNK][..]), Some(ITS)), (None, None)] {
        let (mut guest, loaded) = machine(features, thunk);
        returns(&mut guest, &loaded, "e9 fb f1 ef c1", RETURN);
        assert_clean(&guest.verify(&loaded));
    }
    let (mut guest, loaded) = machine(Some(&[RETHUNK]), Some(ITS));
    returns(&mut guest, &loaded, "e9 fb f1 ef c1", "e9 db f1 ef c1");
    assert_not_as(&guest.verify(&loaded), Rule::Return);
    returns(&mut guest, &loaded, RETURN, RETURN);
    assert_out_of_step(&guest.verify(&loaded), Rule::Return, "CPU feature 11*32+14 is on");
}

#[test]
fn without_the_kernels_words_the_thunk_is_the_one_that_most_returns_jump_to() {
    let (mut guest, first) = machine(None, None);
    let module = module();
    let others = [guest.load(&module), guest.load(&module)];
    returns(&mut guest, &first, "e9 fb f0 ef c1", "e9 db f0 ef c1");
    // Two of the three modules, a megabyte further on each: displacements are 0x100000 less.
    returns(&mut guest, &others[0], "e9 fb ef df c1", "e9 db ef df c1");
    returns(&mut guest, &others[1], "e9 fb ef cf c1", "e9 db ef cf c1");
    let mut verifier = guest.verifier("6.12");
    for (index, module) in (0..).zip([&first, &others[0], &others[1]]) {
        assert_clean(&check(&mut verifier, index, module).unwrap());
    }
    assert_eq!(verifier.settle().unwrap(), [0]);
    let mut facts = verifier.machine_state();
    assert!(facts.any(|fact| fact == (Variable::ReturnThunk, THUNK, false, 4)));
    drop(facts);
    let report = check(&mut verifier, 0, &first).unwrap();
    assert_eq!(report.unexplained.len(), 2);
    assert!(
        format!("{:?}", report.unexplained)
            .contains("the return thunk is 0xffffffff81f00000, as 4 sites show")
    );
}

#[test]
fn a_kernel_that_says_that_returns_jump_to_something_else_than_a_thunk_is_not_believed() {
    let (mut guest, loaded) = machine(Some(&[RETHUNK]), Some(OTHER));
    returns(&mut guest, &loaded, "e9 fb f2 ef c1", "e9 db f2 ef c1");
    let report = guest.verify(&loaded);
    assert_eq!(report.unexplained.len(), 2, "{:#?}", report.unexplained);
    // A thunk of a mitigation that nobody here knows has a name like the others.
    guest.function("new_mitigation_return_thunk", OTHER);
    assert_clean(&guest.verify(&loaded));
}
