//! Function entries and their trampolines.

use modmem::RunAddr;
use modmem::verify::{Rule, Why};

use crate::s390x::guest::{Guest, blamed, clean};
use crate::s390x::module::{Loaded, Module, R_390_64, TEXT, profile};
use crate::support::ALLOC;

const COMPILED: [u8; 6] = [0xc0, 0x04, 0, 0, 0, 0];
const AREA: u64 = TEXT + 0x800_0000;
const TRACER: u64 = 0x3ff_e100_0000;
const SHARED: u64 = TRACER + 0x100;

/// A module with three functions that can be traced, the last of them in init code.
fn module() -> Module {
    let function = [&COMPILED[..], &[0x07, 0xfe, 0x07, 0x00, 0x07, 0x00, 0x07, 0x00, 0x07, 0x00]].concat();
    let mut module = Module::new(function.repeat(2));
    let init = module.section(".init.text", ALLOC | crate::support::EXEC, 8, function);
    let table = module.section("__mcount_loc", ALLOC, 8, vec![0; 32]);
    let (text, init) = (module.symbol("text", 1, 0), module.symbol("init", init, 0));
    // Not in order, and one whose function the linker has thrown away.
    module.relocate(table, &[(0, init, R_390_64, 0), (8, text, R_390_64, 16), (24, text, R_390_64, 0)]);
    module
}

fn branch(kind: u8, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = vec![0xc0, kind];
    bytes.extend(((to.wrapping_sub(from) as i64 >> 1) as i32).to_be_bytes());
    bytes
}

fn trampoline(index: u64, entry: u64, interceptor: u64) -> Vec<u8> {
    let mut bytes = branch(0x15, AREA + index * 24, SHARED);
    bytes.extend([0, 0]);
    bytes.extend((entry + 6).to_be_bytes());
    bytes.extend(interceptor.to_be_bytes());
    bytes
}

/// A machine on which nothing is traced; entries in the order of the sorted list.
fn machine() -> (Guest, Loaded, [u64; 3]) {
    let loaded = module().load(&profile("6.12"), &[]).unwrap();
    let text = loaded.address(".text");
    let entries = [text, text + 16, loaded.address(".init.text")];
    let mut guest = Guest::with(&loaded);
    guest.symbol("ftrace_caller", TRACER);
    guest.symbol("ftrace_shared_hotpatch_trampoline_br", SHARED);
    guest.put(AREA, &[0; 96]);
    for (index, entry) in (0..).zip(entries) {
        guest.put(AREA + index * 24, &trampoline(index, entry, TRACER));
    }
    for (index, entry) in [(0, entries[0]), (1, entries[1])] {
        guest.put(entry, &branch(0x04, entry, AREA + index * 24));
    }
    // The sorted list: nothing, then by address.
    let sorted = [0, entries[0], entries[1], entries[2]].map(u64::to_be_bytes).concat();
    guest.put(loaded.address("__mcount_loc"), &sorted);
    (guest, loaded, entries)
}

#[test]
fn each_entry_has_its_own_trampoline_traced_or_not() {
    let (mut guest, loaded, [first, second, _]) = machine();
    let report = guest.verify(&loaded, &profile("6.12"));
    clean(&report);
    assert_eq!(report.areas, [RunAddr(AREA)..RunAddr(AREA + 0x1000)]);
    assert_eq!(report.hooks, []);
    guest.put(first, &[0xc0, 0xf4]);
    let report = guest.verify(&loaded, &profile("6.12"));
    clean(&report);
    let [hook] = report.hooks[..] else { panic!("{:?}", report.hooks) };
    assert_eq!((hook.site.0, hook.target, hook.explained), (first, Some(RunAddr(TRACER)), true));
    guest.put(second, &branch(0xf4, second, AREA));
    let report = guest.verify(&loaded, &profile("6.12"));
    // Half of them is no majority.
    assert!(!report.is_clean());
}

#[test]
fn trampolines_are_compared_where_memory_has_them() {
    let foreign = 0x3ff_6000_0000_u64;
    for (offset, bytes) in [
        (0, branch(0x15, AREA + 24, foreign)),
        (6, vec![1]),
        (8, (foreign + 6).to_be_bytes().to_vec()),
        (16, foreign.to_be_bytes().to_vec()),
    ] {
        let (mut guest, loaded, _) = machine();
        guest.put(AREA + 24 + offset, &bytes);
        let report = guest.verify(&loaded, &profile("6.12"));
        let why = blamed(&report, AREA + 24 + offset);
        match offset {
            6 => assert_eq!(*why, Why::NotAsRule(Rule::Ftrace)),
            _ => assert!(matches!(why, Why::WrongTarget { rule: Rule::Ftrace, .. }), "{why:?}"),
        }
    }
    // Two bytes of it nobody writes: what they are depends on how the kernel was compiled.
    let (mut guest, loaded, _) = machine();
    guest.put(AREA + 24 + 6, &[1]);
    let mut careless = profile("6.12");
    careless.switches.init_stack_zero = false;
    clean(&guest.verify(&loaded, &careless));
}

#[test]
fn tracing_goes_to_the_kernels_entries_and_to_trampolines_of_bpf() {
    let (mut guest, loaded, [first, ..]) = machine();
    let trampoline = TEXT + 0x900_0000;
    guest.put(first, &[0xc0, 0xf4]);
    guest.put(AREA + 16, &trampoline.to_be_bytes());
    blamed(&guest.verify(&loaded, &profile("6.12")), AREA + 23);
    guest.made("bpf", "bpf_trampoline_6442", trampoline);
    clean(&guest.verify(&loaded, &profile("6.12")));
    guest.made("bpf", "bpf_prog_1234", trampoline);
    blamed(&guest.verify(&loaded, &profile("6.12")), AREA + 23);
}

#[test]
fn cpus_that_fetch_one_instruction_after_the_other_need_no_trampolines() {
    let (mut guest, loaded, [first, second, _]) = machine();
    for entry in [first, second] {
        guest.put(entry, &COMPILED);
    }
    let report = guest.verify(&loaded, &profile("6.12"));
    clean(&report);
    assert_eq!(report.areas, []);
    guest.put(first, &branch(0x05, first, TRACER));
    clean(&guest.verify(&loaded, &profile("6.12")));
    guest.put(first, &branch(0x05, first, TRACER + 8));
    let report = guest.verify(&loaded, &profile("6.12"));
    assert!(matches!(blamed(&report, first + 1), Why::WrongTarget { .. }));
    // The kernel's own word for it: not with a CPU that lacks the facility.
    guest.put(first, &branch(0x05, first, TRACER));
    let mut facilities = [0; 128];
    facilities[0] = 0xe0;
    guest.variable("stfle_fac_list", TRACER + 0x1000, &facilities);
    assert!(!guest.verify(&loaded, &profile("6.12")).is_clean());
    // A module that ftrace has never seen, as it was switched off, is as it was compiled.
    guest.put(first, &COMPILED);
    clean(&guest.verify(&loaded, &profile("6.12")));
}

#[test]
fn before_6_4_trampolines_share_a_copy_in_a_page_of_its_own() {
    let (mut guest, loaded, _) = machine();
    guest.variable("ftrace_plt", TRACER + 0x2000, &(SHARED + 0x1000).to_be_bytes());
    assert!(!guest.verify(&loaded, &profile("6.12")).is_clean());
    guest.put(TRACER + 0x2000, &SHARED.to_be_bytes());
    clean(&guest.verify(&loaded, &profile("6.12")));
}
