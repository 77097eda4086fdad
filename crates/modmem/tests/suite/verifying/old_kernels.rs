//! What kernels before 5.13 do otherwise: NOPs by the CPU's kind, paravirt functions as code of their own at each site,
//! and what 5.17 made of exception tables.

use modmem::MemoryKind;
use modmem::verify::{Rule, Why};

use crate::verifying::alternatives::{FUNCTION, SMAP, VARIABLE, one};
use crate::verifying::guest::{Guest, assert_clean, assert_not_as};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, hex};

const NOPL: u16 = 3 * 32 + 20;
const INTEL: &[u8; 12] = b"GenuineIntel";
const AMD: &[u8; 12] = b"AuthenticAMD";

/// NOPs of five bytes: of an opcode of their own, and of prefixes.
const P6: &str = "0f 1f 44 00 00";
const K8: &str = "66 66 66 66 90";

/// A kernel of such a CPU that chooses its NOPs.
fn choosing(vendor: &[u8; 12], model: u8, features: &[u16]) -> Guest {
    let mut guest = Guest::new();
    // 5.10 has 25 words of features and bugs, in a union of pairs.
    guest.cpu_with(26, vendor, model, features);
    guest.variable("ideal_nops", VARIABLE + 0x100, None);
    guest
}

/// A function's entry, a jump label and an alternative of eight bytes that go, at 0, 5 and 10.
fn with_nops(mut guest: Guest, nop: &str, eight: &str) -> (Guest, Loaded) {
    // The whole is one site, whose feature is off: only its NOPs are joined.
    let original = "e8 00 00 00 00 3e 8d 74 26 00 90 90 90 90 90 90 90 90 c3";
    let mut parts = one("5.10", original, "90", SMAP, 0);
    parts.module.branch(parts.text, 1, "__fentry__");
    let entries = parts.module.add_aligned("__mcount_loc", MemoryKind::RoData, 8, &[0; 8]);
    parts.module.address(entries, 0, parts.text, 0);
    let labels = parts.module.add_aligned("__jump_table", MemoryKind::RoAfterInit, 8, &[0; 16]);
    let data = parts.module.add_aligned(".data", MemoryKind::Data, 16, &[0; 16]);
    parts.module.distance(labels, 0, parts.text, 5);
    parts.module.distance(labels, 4, parts.text, 18);
    parts.module.distance64(labels, 8, data, 0);
    guest.function("__fentry__", FUNCTION);
    let loaded = guest.load(&parts.module);
    guest.code(loaded.at(parts.text, 0), nop);
    guest.code(loaded.at(parts.text, 5), nop);
    guest.code(loaded.at(parts.text, 10), eight);
    (guest, loaded)
}

#[test]
fn nops_are_those_that_suit_the_cpu() {
    let long = "0f 1f 84 00 00 00 00 00";
    let short = "66 66 66 90 66 66 66 90";
    for (vendor, model, features, nop, eight) in [
        (INTEL, 0x55, &[NOPL][..], P6, long),
        // From Core 2 to Sandy Bridge, but not Atom.
        (INTEL, 0x1a, &[NOPL], K8, short),
        (INTEL, 0x1c, &[NOPL], P6, long),
        (INTEL, 0x55, &[], K8, short),
        // Family 6: no AMD CPU of today.
        (AMD, 6, &[NOPL], K8, short),
        (b"HygonGenuine", 6, &[], P6, long),
    ] {
        let (guest, loaded) = with_nops(choosing(vendor, model, features), nop, eight);
        assert_clean(&guest.verify(&loaded));
        let (guest, loaded) =
            with_nops(choosing(vendor, model, features), if nop == K8 { P6 } else { K8 }, eight);
        assert!(!guest.verify(&loaded).is_clean());
        let (guest, loaded) =
            with_nops(choosing(vendor, model, features), nop, if nop == K8 { long } else { short });
        assert!(!guest.verify(&loaded).is_clean());
    }
    // A kernel that does not choose has the usual ones.
    let mut guest = Guest::new();
    guest.cpu_with(26, INTEL, 0x1a, &[NOPL]);
    let (guest, loaded) = with_nops(guest, P6, long);
    assert_clean(&guest.verify(&loaded));
}

/// A call through slot 2 of `pv_ops`, in seven bytes, of the function of that name; `patches` is what patches.
fn paravirt(function: &'static str, patches: u64, patched: &str) -> (Guest, Loaded) {
    let mut module = Module::new("5.10");
    let text = module.text("ff 14 25 50 00 00 82");
    let table = module.add(
        ".parainstructions",
        MemoryKind::RoData,
        // The last entry is not padded.
        &hex("00 00 00 00 00 00 00 00 02 07"),
    );
    module.address(table, 0, text, 0);
    let mut guest = choosing(INTEL, 0x55, &[NOPL]);
    guest.function("f", FUNCTION);
    if !function.is_empty() {
        guest.function(function, FUNCTION + 0x100);
    }
    guest.function("native_patch", FUNCTION + 0x200);
    guest.function("paravirt_patch_default", FUNCTION + 0x300);
    let slot = if function.is_empty() { 0 } else { FUNCTION + 0x100 };
    let words = [patches, 0, slot].map(u64::to_le_bytes).concat();
    guest.variable("pv_ops", VARIABLE, Some(&words));
    let loaded = guest.load(&module);
    guest.code(loaded.at(text, 0), patched);
    (guest, loaded)
}

#[test]
fn paravirt_calls_of_the_machines_own_functions_become_their_code() {
    let native = FUNCTION + 0x200;
    for (function, patched) in [
        ("native_save_fl", "9c 58 0f 1f 44 00 00"),
        ("native_restore_fl", "57 9d 0f 1f 44 00 00"),
        ("native_irq_disable", "fa 66 0f 1f 44 00 00"),
        ("native_irq_enable", "fb 66 0f 1f 44 00 00"),
        ("native_write_cr3", "0f 22 df 0f 1f 40 00"),
        ("__raw_callee_save___native_queued_spin_unlock", "c6 07 00 0f 1f 40 00"),
        ("__raw_callee_save___native_vcpu_is_preempted", "31 c0 0f 1f 44 00 00"),
        ("_paravirt_ident_64", "48 89 f8 0f 1f 40 00"),
        ("_paravirt_nop", "0f 1f 80 00 00 00 00"),
        ("", "0f 0b 0f 1f 44 00 00"),
        ("kvm_io_delay", "e8 fb f1 ff c0 66 90"),
    ] {
        let (guest, loaded) = paravirt(function, native, patched);
        assert_clean(&guest.verify(&loaded));
        // Interrupts that stay off, and a lock that is not given back.
        for wrong in ["90 66 0f 1f 44 00 00", "c6 07 01 0f 1f 40 00"] {
            let (guest, loaded) = paravirt(function, native, wrong);
            assert!(!guest.verify(&loaded).is_clean(), "{function}");
        }
    }
    // Another file has a function of that name, at another place.
    let (mut guest, loaded) = paravirt("native_save_fl", native, "9c 58 0f 1f 44 00 00");
    guest.function("native_save_fl", FUNCTION + 0x400);
    assert_clean(&guest.verify(&loaded));
    // On a Xen guest another function patches, which makes calls.
    let (guest, loaded) = paravirt("native_save_fl", FUNCTION + 0x300, "e8 fb f1 ff c0 66 90");
    assert_clean(&guest.verify(&loaded));
    let (guest, loaded) = paravirt("native_save_fl", FUNCTION + 0x300, "9c 58 0f 1f 44 00 00");
    assert_not_as(&guest.verify(&loaded), Rule::Paravirt);
}

#[test]
fn exceptions_name_their_handlers_by_distances_that_move() {
    let mut module = Module::new("5.10");
    let text = module.add_aligned(".text", MemoryKind::Text, 64, &[0xc3; 0x40]);
    let entries = [(0x20, 0x30), (0, 0x31), (0x10, 0x32)];
    let table = module.add_aligned("__ex_table", MemoryKind::RoData, 4, &[0; 36]);
    let mut guest = Guest::new();
    guest.function("ex_handler_default", FUNCTION);
    for (at, (insn, fixup)) in (0..).step_by(12).zip(entries) {
        module.distance(table, at, text, insn);
        module.distance(table, at + 4, text, fixup);
        module.distance_to_kernel(table, at + 8, "ex_handler_default", 0);
    }
    let loaded = guest.load(&module);
    for (at, (insn, fixup)) in (0..).step_by(12).zip([entries[1], entries[2], entries[0]]) {
        guest.distance(loaded.at(table, at), loaded.at(text, insn));
        guest.distance(loaded.at(table, at + 4), loaded.at(text, fixup));
        guest.distance(loaded.at(table, at + 8), FUNCTION);
    }
    assert_clean(&guest.verify(&loaded));
    guest.distance(loaded.at(table, 8), FUNCTION + 8);
    let report = guest.verify(&loaded);
    let [span] = &report.unexplained[..] else { panic!("{:#x?}", report.unexplained) };
    assert_eq!((span.kind, &span.why), (MemoryKind::RoData, &Why::NotAsRule(Rule::SortedTable)));
}

#[test]
fn behind_an_indirect_jump_are_nops_alone() {
    const REGISTERS: u64 = 0xffff_ffff_8140_0000;
    // jmp __x86_indirect_thunk_rax: without retpolines jmp *%rax, and a breakpoint behind it since 6.1.
    for (version, patched) in [("5.10", "ff e0 0f 1f 00"), ("6.1", "ff e0 cc 66 90")] {
        let mut module = Module::new(version);
        let text = module.text("e9 00 00 00 00");
        module.branch(text, 1, "__x86_indirect_thunk_array");
        module.sites(".retpoline_sites", text, &[0]);
        let mut guest = Guest::new();
        guest.cpu(&[]);
        guest.function("__x86_indirect_thunk_array", REGISTERS);
        let loaded = guest.load(&module);
        guest.code(loaded.at(text, 0), patched);
        assert_clean(&guest.verify(&loaded));
        guest.code(loaded.at(text, 0), if version == "5.10" { "ff e0 cc 66 90" } else { "ff e0 0f 1f 00" });
        assert_not_as(&guest.verify(&loaded), Rule::Retpoline);
    }
}
