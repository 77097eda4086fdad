//! What the kernel does to code after relocation, and what it does not.

use modmem::RunAddr;

use crate::ppc32::guest::Guest;
use crate::ppc32::module::{ADDR32, CALL, FAR, INIT_TEXT, Module, NEAR, REL24, REL32, TEXT, call, stub};

const NOP: u32 = 0x6000_0000;
const MFLR: u32 = 0x7c08_02a6;
const STORE_LR: u32 = 0x9001_0004;
const RETURN: u32 = 0x4e80_0020;
const SYNC: u32 = 0x7c00_04ac;
const LWSYNC: u32 = 0x7c20_04ac;
const TRAP: u32 = 0x7fe0_0008;

const TRACERS: [(&str, u64); 2] = [("ftrace_caller", NEAR), ("ftrace_regs_caller", NEAR + 0x100)];

/// The kernel makes stubs to its tracers in each module.
fn with_tracer_stubs(guest: &mut Guest, from: usize) {
    for (index, (_, address)) in TRACERS.into_iter().enumerate() {
        guest.patch(".plt", (from + index) * 4, &stub(address));
    }
}

#[test]
fn entries_of_two_nops_keep_the_link_register_and_may_call_the_tracer() {
    let mut module = Module::new(&[NOP, NOP, RETURN, NOP, NOP, RETURN], &[RETURN]);
    let (table, _) = module.data("__patchable_function_entries", true, &[0, 0]);
    // Not in order: the loader sorts them.
    module.relocate(
        ".rela__patchable_function_entries",
        table,
        &[(0, TEXT, ADDR32, 12), (4, TEXT, ADDR32, 0)],
    );
    let mut guest = Guest::new(&module, &TRACERS);
    let (first, second) = (guest.at(".text", 0) as u32, guest.at(".text", 3) as u32);
    guest.patch("__patchable_function_entries", 0, &[first, second]);
    guest.patch(".text", 0, &[MFLR]);
    guest.patch(".text", 3, &[MFLR]);
    with_tracer_stubs(&mut guest, 0);
    guest.is_clean();
    // Traced, directly and through the module's stub.
    let (site, table) = (guest.at(".text", 1), guest.at(".plt", 0));
    for tracer in [TRACERS[0].1, TRACERS[1].1, table, table + 16] {
        guest.patch(".text", 1, &[call(site, tracer)]);
        guest.is_clean();
    }
    guest.patch(".text", 1, &[NOP]);
    for wrong in [call(site, TRACERS[0].1 + 4), call(site, table + 4), call(site, table + 32), RETURN] {
        assert!(guest.finds(".text", 1, wrong).contains("Ftrace"));
    }
    assert!(guest.finds(".text", 0, NOP).contains("Ftrace"));
    assert!(guest.finds(".plt", 1, stub(FAR)[1]).contains("Ftrace"));
    assert!(guest.finds(".plt", 8, TRAP).contains("NoRule"));
}

#[test]
fn entries_with_a_call_lose_it_and_stubs_to_the_tracer_come_behind_others() {
    let mut module = Module::new(&[MFLR, STORE_LR, CALL, CALL, RETURN], &[RETURN]);
    let (table, _) = module.data("__mcount_loc", false, &[0]);
    let mcount = module.symbol("_mcount");
    module.relocate(".rela.text", 1, &[(8, mcount, REL24, 0), (12, mcount, REL24, 8)]);
    module.relocate(".rela__mcount_loc", table, &[(0, TEXT, ADDR32, 8)]);
    let mut guest = Guest::new(&module, &[TRACERS[0], TRACERS[1], ("_mcount", FAR)]);
    guest.patch(".text", 2, &[NOP]);
    // Two stubs from relocation: the larger addend first.
    with_tracer_stubs(&mut guest, 2);
    guest.is_clean();
    let site = guest.at(".text", 2);
    guest.patch(".text", 2, &[call(site, guest.at(".plt", 8))]);
    guest.is_clean();
    assert!(guest.finds(".text", 2, call(site, guest.at(".plt", 0))).contains("WrongTarget"));
}

const CODE: [u32; 3] = [0x1111_1111, 0x2222_2222, 0x3333_3333];
/// `b +4` twice: both inside of the alternative, or to its very end.
const OTHER: [u32; 2] = [0x4800_0004, 0x4800_0004];

/// A module with code that stays where masked features have a value, and what goes there otherwise.
fn with_section(table: &str, mask: u32, value: u32) -> Module {
    let mut module = Module::new(&[RETURN, CODE[0], CODE[1], CODE[2], RETURN], &[RETURN]);
    let (_, other) = module.data("__ftr_alt_97", false, &OTHER);
    let (entries, _) = module.data(table, false, &[mask, value, 0, 0, 0, 0]);
    // Counted from the entry, not from the field.
    let places = [(8, TEXT, 4), (12, TEXT, 16), (16, other, 0), (20, other, 8)];
    let places = places.map(|(offset, symbol, addend)| (offset, symbol, REL32, addend + offset as i64));
    module.relocate(&format!(".rela{table}"), entries, &places);
    module
}

/// The kernel's description of a CPU with these features.
fn cpu(guest: &mut Guest, cpu: u32, mmu: u32) {
    guest.map(0xc080_0000, &[0xc080_1000]);
    guest.map(0xc080_1000, &[0xffff_0000, 0x000c_0000, 0xc070_0000, cpu, 0, 0, mmu, 32, 32]);
}

fn guest_with(module: &Module) -> Guest {
    let mut guest = Guest::new(
        module,
        &[TRACERS[0], TRACERS[1], ("cur_cpu_spec", 0xc080_0000), ("the_cpu_spec", 0xc080_1000)],
    );
    with_tracer_stubs(&mut guest, 0);
    guest
}

fn replace(guest: &mut Guest) {
    guest.patch(".text", 1, &[OTHER[0], OTHER[1], NOP]);
}

#[test]
fn code_is_replaced_where_the_kernels_own_words_say_so() {
    for (table, has) in [("__ftr_fixup", [0x80, 0]), ("__mmu_ftr_fixup", [0, 0x80])] {
        let mut guest = guest_with(&with_section(table, 0x80, 0x80));
        cpu(&mut guest, has[0], has[1]);
        guest.is_clean();
        assert!(guest.finds(".text", 1, NOP).contains("Alternative"));
        // The same code on a CPU without the feature is out of step, and right once it is replaced.
        cpu(&mut guest, !has[0], !has[1]);
        let report = guest.verify();
        assert!(format!("{:?}", report.unexplained[0].why).contains("OutOfStep"), "{:?}", report.unexplained);
        replace(&mut guest);
        guest.is_clean();
        assert!(guest.finds(".text", 3, CODE[2]).contains("Alternative"));
    }
}

#[test]
fn code_that_is_there_unless_a_cpu_has_a_feature_goes_the_other_way() {
    let mut guest = guest_with(&with_section("__ftr_fixup", 0x6, 0x2));
    cpu(&mut guest, 0x2, 0);
    guest.is_clean();
    for features in [0, 0x4, 0x6] {
        cpu(&mut guest, features, 0);
        assert!(!guest.verify().is_clean(), "{features:#x}");
    }
    replace(&mut guest);
    guest.is_clean();
}

#[test]
fn without_the_kernels_words_code_is_what_it_looks_like_or_wrong() {
    let mut guest = guest_with(&with_section("__ftr_fixup", 0x80, 0x80));
    guest.is_clean();
    replace(&mut guest);
    guest.is_clean();
    assert!(guest.finds(".text", 1, TRAP).contains("Alternative"));
}

#[test]
fn an_alternative_that_is_longer_than_its_code_is_left_out() {
    let mut module = Module::new(&[RETURN, CODE[0], RETURN], &[RETURN]);
    let (_, other) = module.data("__ftr_alt_97", false, &OTHER);
    let (entries, _) = module.data("__ftr_fixup", false, &[1, 1, 0, 0, 0, 0]);
    let places = [(8, TEXT, 4), (12, TEXT, 8), (16, other, 0), (20, other, 8)];
    let places = places.map(|(offset, symbol, addend)| (offset, symbol, REL32, addend + offset as i64));
    module.relocate(".rela__ftr_fixup", entries, &places);
    let mut guest = guest_with(&module);
    cpu(&mut guest, 0, 0);
    guest.is_clean();
}

#[test]
fn barriers_are_light_where_the_cpu_has_light_ones() {
    let mut module = Module::new(&[SYNC, RETURN, SYNC], &[RETURN]);
    let (table, _) = module.data("__lwsync_fixup", false, &[0, 0]);
    module.relocate(".rela__lwsync_fixup", table, &[(0, TEXT, REL32, 0), (4, TEXT, REL32, 8)]);
    let mut guest = guest_with(&module);
    guest.is_clean();
    assert!(guest.finds(".text", 0, NOP).contains("Alternative"));
    cpu(&mut guest, 0x80, 0);
    assert!(!guest.verify().is_clean());
    guest.patch(".text", 0, &[LWSYNC]);
    guest.patch(".text", 2, &[LWSYNC]);
    guest.is_clean();
    assert!(guest.finds(".text", 2, SYNC).contains("OutOfStep"));
    cpu(&mut guest, !0x80, 0);
    assert_eq!(guest.verify().unexplained.len(), 1, "two words that are near are one place");
}

#[test]
fn labels_are_branches_or_nops_by_their_keys_and_their_table_is_rewritten() {
    let mut module = Module::new(&[NOP, RETURN, NOP, RETURN], &[RETURN]);
    let (keys, key) = module.data(".data", true, &[0, 0]);
    let (table, _) = module.data("__jump_table", true, &[0; 6]);
    let entry = |at: u64, code: i64, key_at: i64| {
        [(at, TEXT, REL32, code), (at + 4, TEXT, REL32, code + 4), (at + 8, key, REL32, key_at)]
    };
    // The second is on while its key is off; by key it comes first.
    module.relocate(".rela__jump_table", table, &[entry(0, 0, 4), entry(12, 8, 1)].concat());
    let _ = keys;
    let mut guest = guest_with(&module);
    let (place, text, key) = (guest.at("__jump_table", 0), guest.at(".text", 0), guest.at(".data", 0));
    let distance = |to: u64, from: u64| to.wrapping_sub(from) as u32;
    guest.patch(
        "__jump_table",
        0,
        &[
            distance(text + 8, place),
            distance(text + 12, place + 4),
            distance(key | 1, place + 8),
            distance(text, place + 12),
            distance(text + 4, place + 16),
            distance(key + 4, place + 20),
        ],
    );
    guest.patch(".text", 2, &[0x4800_0004]);
    guest.is_clean();
    assert!(guest.finds(".text", 2, NOP).contains("OutOfStep"));
    assert!(guest.finds(".text", 0, 0x4800_0004).contains("OutOfStep"));
    assert!(guest.finds(".text", 0, 0x4800_0008).contains("JumpLabel"));
    guest.patch(".data", 1, &[1]);
    assert!(!guest.verify().is_clean());
    guest.patch(".text", 0, &[0x4800_0004]);
    guest.is_clean();
}

#[test]
fn a_probe_is_right_only_where_it_was_declared() {
    let module = Module::new(&[RETURN, RETURN, RETURN], &[RETURN]);
    let mut guest = guest_with(&module);
    assert!(guest.finds(".text", 1, TRAP).contains("NoRule"));
    guest.kprobes = vec![RunAddr(guest.at(".text", 1))];
    guest.is_clean();
    guest.patch(".text", 1, &[TRAP]);
    guest.is_clean();
    assert!(guest.finds(".text", 2, TRAP).contains("NoRule"));
    assert!(guest.finds(".text", 1, NOP).contains("NoRule"));
}

#[test]
fn init_code_that_is_gone_is_not_asked_for() {
    let mut module = Module::new(&[RETURN], &[NOP, NOP]);
    let (table, _) = module.data("__patchable_function_entries", true, &[0]);
    module.relocate(".rela__patchable_function_entries", table, &[(0, INIT_TEXT, ADDR32, 0)]);
    let guest = guest_with(&module);
    guest.is_clean();
}

#[test]
fn a_description_of_the_cpu_elsewhere_than_where_the_kernel_keeps_it_is_not_believed() {
    let mut guest = guest_with(&with_section("__ftr_fixup", 0x80, 0x80));
    cpu(&mut guest, 0x80, 0);
    // Somebody's own, which says the same.
    guest.map(0xc090_1000, &[0xffff_0000, 0x000c_0000, 0xc070_0000, 0x80, 0, 0, 0, 32, 32]);
    assert!(guest.has_cpu_words());
    guest.map(0xc080_0000, &[0xc090_1000]);
    assert!(!guest.has_cpu_words());
}
