//! What an arm64 kernel makes of code, on machines of our own making.

use modmem::RunAddr;
use modmem::verify::{Rule, Why};

use crate::arm64::guest::{Guest, blames, clean, explained};
use crate::arm64::module::{Loaded, Module, TEXT, profile};
use crate::support::{ALLOC, WRITE};

const NOP: u32 = 0xd503_201f;
const RET: u32 = 0xd65f_03c0;
const BTI_C: u32 = 0xd503_245f;
/// `mov x9, x30`
const SAVE: u32 = 0xaa1e_03e9;
const BL: u32 = 0x9400_0000;
const B: u32 = 0x1400_0000;
/// R_AARCH64_ABS64 and R_AARCH64_PREL32.
const ABS64: u32 = 257;
const PREL32: u32 = 261;
const PREL64: u32 = 260;

const NEAR: u64 = 0xffff_8000_8000_0000;
const FAR: u64 = 0xffff_8000_9000_0000;
const NOP_OPS: u64 = 0xffff_8000_8100_0000;
const LIST_OPS: u64 = 0xffff_8000_8100_0100;

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn branch(opcode: u32, from: u64, to: u64) -> u32 {
    opcode | (to.wrapping_sub(from) >> 2) as u32 & 0x03ff_ffff
}

/// A module with one function that can be traced; text has these words.
fn traceable(words: &[u32]) -> Module {
    let mut module = Module::new(bytes(words));
    let entries = module.section("__patchable_function_entries", ALLOC | WRITE, 8, vec![0; 8]);
    let text = module.symbol("text", 1, 0);
    module.relocate(entries, &[(0, text, ABS64, 0)]);
    module
}

/// A machine whose tracer is at `tracer`, with its trampolines filled.
fn tracing(module: &Module, tracer: u64, marks: bool) -> (Guest, Loaded) {
    let loaded = module.load(&profile(false), &[]).unwrap();
    let mut guest = Guest::with(&loaded);
    guest.function("ftrace_caller", tracer);
    if marks {
        guest.variable("ftrace_nop_ops", NOP_OPS);
        guest.variable("ftrace_list_ops", LIST_OPS);
    }
    let place = loaded.address(".text.ftrace_trampoline");
    let pages = ((tracer >> 12).wrapping_sub(place >> 12) & 0x1f_ffff) as u32;
    let adrp = 0x9000_0010 | (pages & 3) << 29 | (pages >> 2) << 5;
    guest.words(place, &[adrp, 0x9100_0210 | ((tracer & 0xfff) as u32) << 10, 0xd61f_0200]);
    (guest, loaded)
}

fn two_words(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

#[test]
fn a_function_that_nobody_traces_is_marked_and_saves_its_return_address() {
    let module = traceable(&[NOP, NOP, NOP, NOP, RET]);
    let (mut guest, loaded) = tracing(&module, NEAR, true);
    assert!(blames(&guest.verify(&loaded, &profile(false)), TEXT + 8), "as it was built");
    let [low, high] = two_words(NOP_OPS);
    guest.words(TEXT, &[low, high, SAVE, NOP, RET]);
    let report = guest.verify(&loaded, &profile(false));
    clean(&report);
    assert!(explained(&report, Rule::Ftrace) > 12);
    guest.words(TEXT, &two_words(LIST_OPS));
    assert!(blames(&guest.verify(&loaded, &profile(false)), TEXT));
}

#[test]
fn a_landing_pad_stays_before_what_saves_the_return_address() {
    let module = traceable(&[NOP, NOP, BTI_C, NOP, NOP, RET]);
    let (mut guest, loaded) = tracing(&module, NEAR, true);
    let [low, high] = two_words(NOP_OPS);
    guest.words(TEXT, &[low, high, BTI_C, SAVE, NOP, RET]);
    clean(&guest.verify(&loaded, &profile(false)));
}

#[test]
fn kernels_that_mark_no_functions_have_the_entry_at_once() {
    let module = traceable(&[NOP, NOP, RET]);
    let (mut guest, loaded) = tracing(&module, NEAR, false);
    guest.words(TEXT, &[SAVE, NOP, RET]);
    clean(&guest.verify(&loaded, &profile(false)));
    guest.words(TEXT + 4, &[branch(BL, TEXT + 4, NEAR)]);
    clean(&guest.verify(&loaded, &profile(false)));
}

#[test]
fn a_traced_function_calls_the_tracer_or_the_trampoline_where_that_is_out_of_reach() {
    let module = traceable(&[NOP, NOP, NOP, NOP, RET]);
    for (tracer, through) in [(NEAR, false), (FAR, true)] {
        let (mut guest, loaded) = tracing(&module, tracer, true);
        let trampoline = loaded.address(".text.ftrace_trampoline");
        let [low, high] = two_words(LIST_OPS);
        let mut call = |to: u64| {
            guest.words(TEXT, &[low, high, SAVE, branch(BL, TEXT + 12, to), RET]);
            guest.verify(&loaded, &profile(false))
        };
        clean(&call(if through { trampoline } else { tracer }));
        assert!(blames(&call(if through { trampoline + 12 } else { trampoline }), TEXT + 12));
        assert!(blames(&call(NEAR + 0x40), TEXT + 12));
    }
}

#[test]
fn a_trampoline_of_bpf_may_be_called_and_its_owner_marks_the_function() {
    let module = traceable(&[NOP, NOP, NOP, NOP, RET]);
    let (mut guest, loaded) = tracing(&module, NEAR, true);
    let (direct, ops) = (NEAR + 0x10_0000, 0xffff_0000_1234_0000);
    let [low, high] = two_words(ops);
    guest.words(TEXT, &[low, high, SAVE, branch(BL, TEXT + 12, direct), RET]);
    assert!(blames(&guest.verify(&loaded, &profile(false)), TEXT + 12), "nobody knows that code");
    guest.made("bpf", "bpf_trampoline_1", direct);
    let report = guest.verify(&loaded, &profile(false));
    clean(&report);
    assert_eq!(report.total().unproven_bytes(), 8, "nobody knows who traces");
    // `struct ftrace_ops` begins with the function that is called, which calls the one that its last field names.
    guest.function("call_direct_funcs", NEAR + 0x2000);
    let mut memory = [0; 27];
    memory[0] = NEAR + 0x2000;
    for (last, good) in [(0, false), (direct + 4, false), (NEAR + 0x2000, false), (direct, true)] {
        memory[26] = last;
        guest.put(ops, &memory.map(u64::to_le_bytes).concat());
        let report = guest.verify(&loaded, &profile(false));
        assert_eq!(blames(&report, TEXT), !good, "{last:#x}");
        assert_eq!(report.total().unproven_bytes(), 0);
    }
}

#[test]
fn an_instance_of_tracing_marks_functions_with_what_lies_in_the_heap() {
    let module = traceable(&[NOP, NOP, NOP, NOP, RET]);
    let (mut guest, loaded) = tracing(&module, NEAR, true);
    let heap = 0xffff_0000_082b_8c00;
    let mut verify = |mark: u64, call: u32| {
        let [low, high] = two_words(mark);
        guest.words(TEXT, &[low, high, SAVE, call, RET]);
        guest.verify(&loaded, &profile(false))
    };
    let traced = branch(BL, TEXT + 12, NEAR);
    let report = verify(heap, traced);
    clean(&report);
    assert_eq!(report.total().unproven_bytes(), 8);
    let [hook] = report.hooks[..] else { panic!("{:?}", report.hooks) };
    assert_eq!((hook.site.0, hook.target), (TEXT + 12, Some(RunAddr(NEAR))));
    assert_eq!((hook.mark, hook.explained), (Some(RunAddr(heap)), true));
    // No address of a structure, none of what is allocated, a function that nobody traces, a call of somebody else.
    for (mark, call, at) in [
        (heap + 4, traced, TEXT),
        (0xffff_8000_7a00_0000, traced, TEXT),
        (0xfffe_ffff_ffff_fff8, traced, TEXT),
        (0x1000, traced, TEXT),
        (NOP_OPS, traced, TEXT),
        (heap, NOP, TEXT),
        (heap, branch(BL, TEXT + 12, NEAR + 0x40), TEXT + 12),
    ] {
        let report = verify(mark, call);
        assert!(blames(&report, at), "{mark:#x} {call:#x}");
        let wrong = matches!(report.unexplained[0].why, Why::WrongMark { rule: Rule::Ftrace, .. });
        assert_eq!(wrong, at == TEXT, "{:?}", report.unexplained);
    }
}

#[test]
fn whoever_traces_calls_a_function_that_somebody_has() {
    let module = traceable(&[NOP, NOP, NOP, NOP, RET]);
    let (mut guest, loaded) = tracing(&module, NEAR, true);
    let heap = 0xffff_0000_082b_8c00;
    let [low, high] = two_words(heap);
    guest.words(TEXT, &[low, high, SAVE, branch(BL, TEXT + 12, NEAR), RET]);
    guest.function("function_trace_call", NEAR + 0x3000);
    for (function, good) in [(NEAR + 0x3000, true), (NEAR + 0x3004, false), (LIST_OPS, false)] {
        guest.put(heap, &function.to_le_bytes());
        let report = guest.verify(&loaded, &profile(false));
        assert_eq!(blames(&report, TEXT), !good, "{function:#x}");
        assert_eq!(report.total().unproven_bytes(), 0);
    }
}

/// A module with these alternatives: offsets of code and replacement, capability, lengths.
fn alternatives(words: &[u32], entries: &[(u64, u64, u16, u8, u8)]) -> Module {
    let mut module = Module::new(bytes(words));
    let text = module.symbol("text", 1, 0);
    let callback = module.symbol("alt_cb_patch_nops", 0, 0);
    let mut table = Vec::new();
    let mut relocations = Vec::new();
    for (at, &(site, replacement, capability, length, other)) in (0..).step_by(12).zip(entries) {
        table.extend([0; 8]);
        table.extend(capability.to_le_bytes());
        table.extend([length, other]);
        relocations.push((at, text, PREL32, site as i64));
        let (symbol, addend) = if capability >> 15 == 1 { (callback, 0) } else { (text, replacement as i64) };
        relocations.push((at + 4, symbol, PREL32, addend));
    }
    let section = module.section(".altinstructions", ALLOC, 4, table);
    module.relocate(section, &relocations);
    module
}

/// A machine whose CPUs have these capabilities.
fn capable(module: &Module, capabilities: &[u16]) -> (Guest, Loaded) {
    let loaded = module.load(&profile(false), &[("alt_cb_patch_nops", NEAR)]).unwrap();
    let mut guest = Guest::with(&loaded);
    guest.function("alt_cb_patch_nops", NEAR);
    guest.variable("system_cpucaps", NOP_OPS);
    let mut bitmap = [0_u8; 16];
    capabilities.iter().for_each(|number| bitmap[usize::from(number / 8)] |= 1 << (number % 8));
    guest.put(NOP_OPS, &bitmap);
    (guest, loaded)
}

#[test]
fn branches_and_pages_of_a_replacement_lead_where_they_led() {
    const ADRP: u32 = 0xb000_0001;
    let cbz = |words: u32| 0xb400_0003 | words << 5;
    let tbz = |words: u32| 0x3600_0004 | words << 5;
    // Code at 0, its replacement a page further on.
    let mut words = vec![NOP; 0x1000 / 4];
    words.extend([B | 0x100, BL | 0x100, cbz(0x100), tbz(0x100), ADRP, B | 2, RET, NOP]);
    let module = alternatives(&words, &[(0, 0x1000, 70, 32, 32)]);
    let (mut guest, loaded) = capable(&module, &[70]);
    assert!(blames(&guest.verify(&loaded, &profile(false)), TEXT));
    let moved = 0x100 + 0x400;
    let next_page = 0xd000_0001;
    guest.words(TEXT, &[B | moved, BL | moved, cbz(moved), tbz(moved), next_page, B | 2, RET, NOP]);
    clean(&guest.verify(&loaded, &profile(false)));
    let (mut guest, loaded) = capable(&module, &[71]);
    clean(&guest.verify(&loaded, &profile(false)));
    guest.words(TEXT, &[B | moved]);
    assert!(blames(&guest.verify(&loaded, &profile(false)), TEXT));
}

#[test]
fn of_several_alternatives_for_one_place_the_last_that_applies_stays() {
    // A branch to what is right behind the replacement would count as one inside.
    let words = [NOP, RET, B | 2, BL | 2];
    let entries = [(0, 8, 3, 4, 4), (0, 12, 4, 4, 4)];
    let module = alternatives(&words, &entries);
    for (capabilities, word) in [(&[3_u16][..], B | 4), (&[4], BL | 5), (&[3, 4], BL | 5), (&[], NOP)] {
        let (mut guest, loaded) = capable(&module, capabilities);
        guest.words(TEXT, &[word]);
        clean(&guest.verify(&loaded, &profile(false)));
        guest.words(TEXT, &[word ^ 1 << 20]);
        assert!(blames(&guest.verify(&loaded, &profile(false)), TEXT));
    }
}

#[test]
fn a_callback_makes_nops_and_lengths_that_differ_make_nothing() {
    let module = alternatives(&[B | 7, B | 7, RET, RET], &[(0, 0, 0x8005, 8, 0), (8, 0, 5, 4, 8)]);
    let (mut guest, loaded) = capable(&module, &[5]);
    assert!(blames(&guest.verify(&loaded, &profile(false)), TEXT));
    guest.words(TEXT, &[NOP, NOP]);
    clean(&guest.verify(&loaded, &profile(false)));
}

#[test]
fn one_capability_out_of_step_is_found_without_the_kernels_bitmap() {
    let words = [NOP, NOP, NOP, RET, B | 2];
    let entries = [(0, 16, 9, 4, 4), (4, 16, 9, 4, 4), (8, 16, 9, 4, 4)];
    let module = alternatives(&words, &entries);
    let loaded = module.load(&profile(false), &[("alt_cb_patch_nops", NEAR)]).unwrap();
    let mut guest = Guest::with(&loaded);
    guest.function("alt_cb_patch_nops", NEAR);
    clean(&guest.verify(&loaded, &profile(false)));
    guest.words(TEXT + 4, &[B | 5]);
    let report = guest.verify(&loaded, &profile(false));
    assert!(blames(&report, TEXT + 4) && !blames(&report, TEXT + 8));
}

#[test]
fn shadow_stacks_replace_what_signs_return_addresses() {
    const PACIASP: u32 = 0xd503_233f;
    const AUTIASP: u32 = 0xd503_23bf;
    let mut module = Module::new(bytes(&[PACIASP, NOP, AUTIASP, RET, PACIASP]));
    let text = module.symbol("text", 1, 0);
    // Common entry: version 1, "zR", code in steps of 4. Function: 4 instructions, the state changes behind the first
    // and the third.
    let mut frames = bytes(&[0x10, 0]);
    frames.extend([1, b'z', b'R', 0, 4, 0x78, 30, 1, 0x1b, 0, 0, 0]);
    frames.extend(bytes(&[0x14, 0x18, 0, 16]));
    frames.extend([0, 0x41, 0x2d, 0x42, 0x2d, 0x0e, 0x10, 0]);
    frames.extend(bytes(&[0]));
    let section = module.section(".init.eh_frame", ALLOC, 8, frames);
    module.relocate(section, &[(28, text, PREL32, 0)]);
    let loaded = module.load(&profile(false), &[]).unwrap();
    for in_use in [false, true] {
        let mut guest = Guest::with(&loaded);
        guest.variable("dynamic_scs_enabled", NOP_OPS);
        guest.put(NOP_OPS, &[u8::from(in_use), 0, 0, 0]);
        let other = guest.verify(&loaded, &profile(false));
        assert_eq!(blames(&other, TEXT), in_use);
        if in_use {
            guest.words(TEXT, &[0xf800_865e, NOP, 0xf85f_8e5e, RET, PACIASP]);
            let report = guest.verify(&loaded, &profile(false));
            clean(&report);
            assert_eq!(explained(&report, Rule::ShadowStack), 8);
        }
    }
}

#[test]
fn a_label_is_what_its_key_says() {
    let mut module = Module::new(bytes(&[NOP, RET, NOP, RET]));
    let text = module.symbol("text", 1, 0);
    let key = module.symbol("key", 0, 0);
    let labels = module.section("__jump_table", ALLOC | WRITE, 8, vec![0; 16]);
    module.relocate(labels, &[(0, text, PREL32, 0), (4, text, PREL32, 8), (8, key, PREL64, 0)]);
    let loaded = module.load(&profile(false), &[("key", NOP_OPS)]).unwrap();
    for on in [false, true] {
        let mut guest = Guest::with(&loaded);
        guest.variable("key", NOP_OPS);
        guest.put(NOP_OPS, &[u8::from(on), 0, 0, 0]);
        guest.words(TEXT, &[if on { B | 2 } else { NOP }]);
        clean(&guest.verify(&loaded, &profile(false)));
        guest.words(TEXT, &[if on { NOP } else { B | 2 }]);
        assert!(blames(&guest.verify(&loaded, &profile(false)), TEXT));
    }
}
