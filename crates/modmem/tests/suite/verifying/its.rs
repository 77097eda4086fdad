//! Indirect branches that Indirect Target Selection makes unsafe: they go to thunks on pages of their own.
//!
//! A page is all breakpoints (cc) but for its thunks, `jmp *%reg` (ff e0 + register, from r8 on 41 ff e0 + register - 8)
//! and a breakpoint, each ending in the upper half of a cache line.

use modmem::MemoryKind;
use modmem::verify::{Rule, Why};

use crate::verifying::guest::{Guest, assert_clean, assert_not_as, the_unexplained};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, branch};
use crate::verifying::retpolines::{STEP, THUNKS};

/// X86_FEATURE_INDIRECT_THUNK_ITS of stable 6.12.
const ITS: u16 = 21 * 32 + 6;
const PAGE: u64 = 0xffff_ffff_c020_0000;

/// Calls of these registers' thunks, at these offsets in text.
fn machine(sites: &[(u64, i64)]) -> (Guest, Loaded) {
    let mut module = Module::new("6.12");
    let mut code = vec![0x90; sites.last().unwrap().0 as usize + 0x20];
    for &(at, _) in sites {
        code[at as usize..][..5].copy_from_slice(&[0xe8, 0, 0, 0, 0]);
    }
    let text = module.add_aligned(".text", MemoryKind::Text, 64, &code);
    for &(at, register) in sites {
        module.branch_behind(text, at + 1, "__x86_indirect_thunk_array", register * STEP);
    }
    let offsets: Vec<u64> = sites.iter().map(|&(at, _)| at).collect();
    module.sites(".retpoline_sites", text, &offsets);
    let mut guest = Guest::new();
    guest.cpu(&[ITS]);
    guest.function("__x86_indirect_thunk_array", THUNKS);
    let loaded = guest.load(&module);
    (guest, loaded)
}

/// Makes the call at `at` one of `target`.
fn call(guest: &mut Guest, loaded: &Loaded, at: u64, target: u64) {
    guest.write(loaded.at(0, at), &branch(0xe8, loaded.at(0, at), target));
}

/// A page with these bytes at these offsets.
fn page(guest: &mut Guest, thunks: &[(u64, &[u8])]) {
    guest.map(PAGE, &[0xcc; 4096]);
    for (at, thunk) in thunks {
        guest.write(PAGE + at, thunk);
    }
}

const JMP_RAX: &[u8] = &[0xff, 0xe0];
const JMP_RBX: &[u8] = &[0xff, 0xe3];
const JMP_R11: &[u8] = &[0x41, 0xff, 0xe3];

/// Two calls in the lower half of a cache line, of rax and r11, and one of rax in the upper half.
fn three() -> (Guest, Loaded) {
    let (mut guest, loaded) = machine(&[(0, 0), (10, 11), (0x20, 0)]);
    page(&mut guest, &[(32, JMP_RAX), (35, JMP_R11)]);
    call(&mut guest, &loaded, 0, PAGE + 32);
    call(&mut guest, &loaded, 10, PAGE + 35);
    guest.code(loaded.at(0, 0x20), "ff d0 0f 1f 00");
    (guest, loaded)
}

#[test]
fn only_branches_that_end_in_the_lower_half_of_a_cache_line_go_to_thunks() {
    let (guest, loaded) = three();
    assert_clean(&guest.verify(&loaded));
    // At 0x1e of a line `call *%rax` ends in the lower half, `call *%r11` in the upper.
    let (mut guest, loaded) = machine(&[(0x1e, 0), (0x5e, 11)]);
    page(&mut guest, &[(32, JMP_RAX)]);
    call(&mut guest, &loaded, 0x1e, PAGE + 32);
    guest.code(loaded.at(0, 0x5e), "41 ff d3 66 90");
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn thunks_follow_each_other_in_the_upper_halves_of_a_page() {
    // Ten thunks of three bytes end at 62: the next would end in the next line, and moves to its upper half.
    let sites = [0, 5, 10, 15, 20, 25, 0x40, 0x45, 0x4a, 0x4f, 0x54, 0x59].map(|at| (at, 3));
    let (mut guest, loaded) = machine(&sites);
    let places = [32, 35, 38, 41, 44, 47, 50, 53, 56, 59, 96, 99];
    page(&mut guest, &places.map(|at| (at, JMP_RBX)));
    for ((at, _), place) in sites.into_iter().zip(places) {
        call(&mut guest, &loaded, at, PAGE + place);
    }
    assert_clean(&guest.verify(&loaded));
    // The same instructions one place further are not what the kernel made.
    call(&mut guest, &loaded, 0x59, PAGE + 96);
    assert_not_as(&guest.verify(&loaded), Rule::Retpoline);
}

#[test]
fn a_full_page_is_followed_by_another_and_both_are_compared() {
    // Sixty-four upper halves with room for ten thunks each; calls of six bytes a line that are all in lower halves.
    let sites: Vec<(u64, i64)> = (0..650).map(|i| (i / 6 * 64 + i % 6 * 5, 3)).collect();
    let (mut guest, loaded) = machine(&sites);
    let second = PAGE + 0x5000;
    page(&mut guest, &[]);
    guest.map(second, &[0xcc; 4096]);
    for (&(at, _), i) in sites.iter().zip(0..) {
        let in_page = i % 640;
        let thunk = if i < 640 { PAGE } else { second } + in_page / 10 * 64 + 32 + in_page % 10 * 3;
        guest.write(thunk, JMP_RBX);
        call(&mut guest, &loaded, at, thunk);
    }
    assert_clean(&guest.verify(&loaded));
    for at in [PAGE + 0x20, PAGE + 0xfff, second + 0x21, second + 0x800] {
        let mut guest = guest.clone();
        guest.write(at, &[0xc3]);
        assert!(!guest.verify(&loaded).is_clean(), "{at:#x}");
    }
}

#[test]
fn a_call_past_its_thunk_or_to_another_page_is_found() {
    for target in [PAGE + 32, PAGE + 38, PAGE + 0x1023, THUNKS + 0x160] {
        let (mut guest, loaded) = three();
        call(&mut guest, &loaded, 10, target);
        assert!(!guest.verify(&loaded).is_clean(), "{target:#x}");
    }
    // Each half is wrong on its own machine only.
    let (mut guest, loaded) = three();
    guest.code(loaded.at(0, 0), "ff d0 0f 1f 00");
    assert!(!guest.verify(&loaded).is_clean());
    let (mut guest, loaded) = three();
    call(&mut guest, &loaded, 0x20, PAGE + 64 + 32);
    assert!(!guest.verify(&loaded).is_clean());
}

#[test]
fn a_byte_of_a_thunk_page_that_is_not_as_the_kernel_made_it_is_found() {
    for at in [0, 31, 33, 34, 36, 38, 39, 64, 4095] {
        let (mut guest, loaded) = three();
        guest.write(PAGE + at, &[0x90]);
        let report = guest.verify(&loaded);
        assert!(!report.is_clean(), "{at}");
    }
    let (mut guest, loaded) = three();
    guest.write(PAGE + 39, &[0x90]);
    let report = guest.verify(&loaded);
    let span = the_unexplained(&report);
    assert_eq!((span.address.0, span.expected[0], span.found[0]), (PAGE + 39, 0xcc, 0x90));
    assert_eq!(span.why, Why::NotAsRule(Rule::Retpoline));
}

/// A live module whose first site was in init code, which is gone, and its one call in text.
fn with_init(target: u64) -> (Guest, Loaded) {
    let mut module = Module::new("6.12");
    let text = module.text("e8 00 00 00 00");
    module.branch_behind(text, 1, "__x86_indirect_thunk_array", 0);
    let init = module.add(".init.text", MemoryKind::InitText, &[0xe8, 0, 0, 0, 0]);
    module.branch_behind(init, 1, "__x86_indirect_thunk_array", 0);
    let table = module.add(".retpoline_sites", MemoryKind::RoData, &[0; 8]);
    module.distance(table, 0, init, 0);
    module.distance(table, 4, text, 0);
    let mut guest = Guest::new();
    guest.cpu(&[ITS]);
    guest.function("__x86_indirect_thunk_array", THUNKS);
    let loaded = guest.load(&module);
    page(&mut guest, &[(32, JMP_RAX), (35, JMP_RAX)]);
    call(&mut guest, &loaded, 0, target);
    (guest, loaded)
}

#[test]
fn thunks_of_freed_init_code_leave_the_others_where_they_are() {
    let (guest, loaded) = with_init(PAGE + 35);
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn where_init_code_had_thunks_a_call_must_still_lead_to_one() {
    // Not to a breakpoint, nor into the middle of one, nor to whatever lies elsewhere.
    for target in [PAGE + 38, PAGE + 36, PAGE + 31, THUNKS + 0x160] {
        let (guest, loaded) = with_init(target);
        assert!(!guest.verify(&loaded).is_clean(), "{target:#x}");
    }
}

#[test]
fn a_thunk_that_cannot_be_read_is_not_proven() {
    let (mut guest, loaded) = three();
    guest.unmap(PAGE);
    let report = guest.verify(&loaded);
    assert_clean(&report);
    assert_eq!(report.total().unproven[Rule::Retpoline as usize], 10);
}

#[test]
fn a_call_that_was_redirected_leaves_the_thunks_of_the_others_where_they_are() {
    let (mut guest, loaded) = three();
    call(&mut guest, &loaded, 10, 0xffff_ffff_a000_0000);
    let report = guest.verify(&loaded);
    let span = the_unexplained(&report);
    assert_eq!(span.expected, branch(0xe8, loaded.at(0, 10), PAGE + 35)[1..]);
}
