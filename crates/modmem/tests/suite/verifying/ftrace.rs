//! `__mcount_loc`: entries of functions, where a tracer may be called.
//!
//! The NOP of five bytes is 0f 1f 44 00 00; compilers put a call of `__fentry__` there.

use modmem::verify::{Hook, HookKind, Rule};
use modmem::{MemoryKind, RunAddr};

use crate::verifying::guest::{Guest, assert_clean, assert_explained, assert_not_as, assert_wrong_target};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, branch};

const FENTRY: u64 = 0xffff_ffff_8108_0000;
const CALLER: u64 = 0xffff_ffff_8108_0100;
const REGS_CALLER: u64 = 0xffff_ffff_8108_0200;
const FUNCTION: u64 = 0xffff_ffff_8100_0100;
const TRAMPOLINE: u64 = 0xffff_ffff_c040_0000;
const BPF_TRAMPOLINE: u64 = 0xffff_ffff_c050_0000;
const BPF_PROGRAM: u64 = 0xffff_ffff_c051_0000;

const NOP: &str = "0f 1f 44 00 00";

/// Two functions that can be traced, and one that cannot, at 0, 0x10 and 0x20; all are NOPs in the guest but the last.
fn machine(version: &'static str) -> (Guest, Loaded) {
    let mut code = vec![0x90; 0x30];
    for at in [0, 0x10, 0x20] {
        code[at..at + 6].copy_from_slice(&[0xe8, 0, 0, 0, 0, 0xc3]);
    }
    let mut module = Module::new(version);
    let text = module.add_aligned(".text", MemoryKind::Text, 64, &code);
    for at in [0, 0x10, 0x20] {
        module.branch(text, at + 1, "__fentry__");
    }
    let table = module.add_aligned("__mcount_loc", MemoryKind::RoData, 8, &[0; 16]);
    module.address(table, 0, text, 0);
    module.address(table, 8, text, 0x10);
    let mut guest = Guest::new();
    guest.function("__fentry__", FENTRY);
    guest.function("ftrace_caller", CALLER);
    guest.function("ftrace_regs_caller", REGS_CALLER);
    guest.function("kernel_function", FUNCTION);
    guest.made("__builtin__ftrace", "ftrace_trampoline", TRAMPOLINE);
    guest.made("bpf", "bpf_trampoline_6442536467", BPF_TRAMPOLINE);
    guest.made("bpf", "bpf_prog_6deef7357e7b4530_sd_fw_ingress", BPF_PROGRAM);
    let loaded = guest.load(&module);
    guest.code(loaded.at(text, 0), NOP);
    guest.code(loaded.at(text, 0x10), NOP);
    (guest, loaded)
}

#[test]
fn a_function_that_is_not_traced_begins_with_a_nop() {
    for version in ["6.1", "6.12", "7.2"] {
        let (mut guest, loaded) = machine(version);
        assert_explained(&guest.verify(&loaded), Rule::Ftrace, 10);
        // Not with another NOP, nor as in the file.
        guest.code(loaded.at(0, 0), "66 66 66 66 90");
        assert_not_as(&guest.verify(&loaded), Rule::Ftrace);
        guest.write(loaded.at(0, 0), &branch(0xe8, loaded.at(0, 0), FENTRY));
        assert_wrong_target(&guest.verify(&loaded), Rule::Ftrace, FENTRY);
        // What is not in the table is as in the file.
        let (mut guest, loaded) = machine(version);
        guest.code(loaded.at(0, 0x20), NOP);
        assert!(!guest.verify(&loaded).is_clean());
    }
}

#[test]
fn a_function_that_is_traced_calls_an_entry_of_the_kernel_or_a_trampoline() {
    for version in ["6.1", "6.12", "7.2"] {
        for target in [CALLER, REGS_CALLER, TRAMPOLINE, BPF_TRAMPOLINE] {
            let (mut guest, loaded) = machine(version);
            guest.write(loaded.at(0, 0x10), &branch(0xe8, loaded.at(0, 0x10), target));
            let report = guest.verify(&loaded);
            assert_clean(&report);
            assert_eq!(report.hooks, [hook(loaded.at(0, 0x10), target, true)]);
        }
        let (guest, loaded) = machine(version);
        assert_eq!(guest.verify(&loaded).hooks, []);
    }
}

#[test]
fn the_tracer_of_function_graphs_has_an_entry_of_its_own_in_kernels_that_have_the_symbol() {
    const GRAPH_CALLER: u64 = 0xffff_ffff_8108_0300;
    for (has_symbol, is_right) in [(true, true), (false, false)] {
        let (mut guest, loaded) = machine("5.10");
        if has_symbol {
            guest.function("ftrace_graph_caller", GRAPH_CALLER);
        }
        guest.write(loaded.at(0, 0), &branch(0xe8, loaded.at(0, 0), GRAPH_CALLER));
        guest.code(loaded.at(0, 0x10), NOP);
        assert_eq!(guest.verify(&loaded).is_clean(), is_right);
    }
}

/// What the report says of a function that is traced.
fn hook(site: u64, target: u64, explained: bool) -> Hook {
    let (site, target) = (RunAddr(site), Some(RunAddr(target)));
    Hook { kind: HookKind::Ftrace, site, target, mark: None, jumps: false, explained }
}

#[test]
fn a_call_of_anything_else_is_a_wrong_target() {
    // A function, an address in no module, the inside of a trampoline and of an entry, a BPF program.
    let targets = [
        FUNCTION,
        0xffff_ffff_a000_0000,
        TRAMPOLINE + 5,
        BPF_TRAMPOLINE + 4,
        CALLER + 4,
        BPF_PROGRAM,
        0xffff_ffff_c000_1020,
    ];
    for target in targets {
        let (mut guest, loaded) = machine("6.12");
        guest.write(loaded.at(0, 0), &branch(0xe8, loaded.at(0, 0), target));
        let report = guest.verify(&loaded);
        assert_wrong_target(&report, Rule::Ftrace, target);
        assert_eq!(report.hooks, [hook(loaded.at(0, 0), target, false)]);
    }
}

#[test]
fn a_jump_is_a_wrong_target_but_for_trampolines_of_bpf() {
    for target in [CALLER, TRAMPOLINE, FUNCTION, 0xffff_ffff_a000_0000] {
        let (mut guest, loaded) = machine("7.2");
        guest.write(loaded.at(0, 0), &branch(0xe9, loaded.at(0, 0), target));
        assert_wrong_target(&guest.verify(&loaded), Rule::Ftrace, target);
    }
    let (mut guest, loaded) = machine("7.2");
    guest.write(loaded.at(0, 0), &branch(0xe9, loaded.at(0, 0), BPF_TRAMPOLINE));
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn a_breakpoint_at_an_entry_is_found() {
    let (mut guest, loaded) = machine("6.12");
    guest.write(loaded.at(0, 0), &[0xcc]);
    assert_not_as(&guest.verify(&loaded), Rule::Ftrace);
}
