//! Writes to text while a kernel runs: which are its own (arch/x86/kernel/alternative.c:smp_text_poke_batch), and which nobody
//! but an intruder makes.

use modmem::finalize::{LiveText, Refusal, Stated, Step, Tracer, Variable};
use modmem::verify::{GuestModule, Rule};
use modmem::{Image, MemoryKind, Name, RunAddr};

use crate::verifying::guest::Guest;
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, branch, hex};

const FENTRY: u64 = 0xffff_ffff_8108_0000;
const CALLER: u64 = 0xffff_ffff_8108_0100;
const FUNCTION: u64 = 0xffff_ffff_8100_0100;
const OTHER: u64 = 0xffff_ffff_8100_0200;
const SCT: u64 = 0xffff_ffff_8100_0600;
const SCK: u64 = 0xffff_ffff_8270_0000;
const KEY: u64 = 0xffff_ffff_8260_0000;
const TRAMPOLINE: u64 = 0xffff_ffff_c040_0000;

/// Offsets of a function's entry, a branch on a key, a static call and a locked instruction.
const ENTRY: u64 = 0;
const LABEL: u64 = 0x10;
const CALL: u64 = 0x20;
const LOCK: u64 = 0x30;
const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
const TRAP: u8 = 0xcc;

/// Nothing is stated: the guest's memory says it.
#[derive(Debug)]
struct Nothing;

impl Stated for Nothing {
    fn value(&self, _: Variable) -> Option<u64> {
        None
    }

    fn tracer(&self, _: RunAddr) -> Option<Tracer> {
        None
    }
}

fn machine() -> (Guest, Loaded, LiveText) {
    let mut module = Module::new("6.12");
    let mut code = vec![0x90; 0x40];
    code[..5].copy_from_slice(&[0xe8, 0, 0, 0, 0]);
    code[0x10..0x15].copy_from_slice(&NOP);
    code[0x20..0x25].copy_from_slice(&[0xe8, 0, 0, 0, 0]);
    code[0x30..0x34].copy_from_slice(&[0xf0, 0xff, 0x07, 0xc3]);
    let text = module.add_aligned(".text", MemoryKind::Text, 64, &code);
    module.branch(text, ENTRY + 1, "__fentry__");
    module.branch(text, CALL + 1, "__SCT__tested");
    let entries = module.add_aligned("__mcount_loc", MemoryKind::RoData, 8, &[0; 8]);
    module.address(entries, 0, text, ENTRY);
    let labels = module.add_aligned("__jump_table", MemoryKind::RoAfterInit, 8, &[0; 16]);
    module.distance(labels, 0, text, LABEL);
    module.distance(labels, 4, text, 0x38);
    module.distance64_to_kernel(labels, 8, "tested_key", 0);
    let calls = module.add_aligned(".static_call_sites", MemoryKind::Data, 4, &[0; 8]);
    module.distance(calls, 0, text, CALL);
    module.distance_to_kernel(calls, 4, "__SCK__tested", 0);
    module.sites(".smp_locks", text, &[LOCK]);
    let mut guest = Guest::new();
    guest.cpu(&[]);
    for (name, address) in [("__fentry__", FENTRY), ("ftrace_caller", CALLER), ("__SCT__tested", SCT)] {
        guest.function(name, address);
    }
    guest.function("function", FUNCTION);
    guest.function("other_function", OTHER);
    guest.made("__builtin__ftrace", "ftrace_trampoline", TRAMPOLINE);
    guest.variable("tested_key", KEY, Some(&[0; 16]));
    guest.variable("__SCK__tested", SCK, Some(&FUNCTION.to_le_bytes()));
    let loaded = guest.load(&module);
    let image = Image::parse(&loaded.file).unwrap();
    let sections: Vec<_> =
        loaded.sections.iter().map(|(name, at)| (Name(name.as_bytes()), RunAddr(*at))).collect();
    let told = GuestModule {
        name: loaded.name,
        sections: &sections,
        live: true,
        forced: false,
        build_id: loaded.build_id.as_deref(),
        size: None,
    };
    let (_, live) = guest.verifier("6.12").check_loaded(&image, &told, &Nothing).unwrap();
    (guest, loaded, live)
}

/// Goes from one text to another as the kernel does, and gives what the last write was towards.
fn poke(
    (guest, live): (&Guest, &LiveText),
    site: u64,
    old: &[u8],
    new: &[u8],
) -> Result<Option<(Variable, u64)>, Refusal> {
    let at = |offset: usize| RunAddr(site + offset as u64);
    let first = live.permits(guest, at(0), &old[..1], &[TRAP])?;
    let rest = live.permits(guest, at(1), &old[1..], &new[1..])?;
    let last = live.permits(guest, at(0), &[TRAP], &new[..1])?;
    assert_eq!(first.towards, None);
    assert_eq!((first.step, last.step), (Step::Breakpoint, Step::Done));
    assert!(matches!(rest.step, Step::Rest | Step::Nothing));
    // Whoever sees the whole instruction each time is told the same.
    let (trapped, between) = ([&[TRAP][..], &old[1..]].concat(), [&[TRAP][..], &new[1..]].concat());
    live.permits(guest, at(0), old, &trapped)?;
    live.permits(guest, at(0), &trapped, &between)?;
    Ok(live.permits(guest, at(0), &between, new)?.towards)
}

#[test]
fn what_the_kernel_writes_is_permitted_step_by_step_and_said_where_it_leads() {
    let (guest, loaded, live) = machine();
    let oracle = (&guest, &live);
    assert_eq!(live.len(), 4);
    let site = |offset| loaded.at(0, offset);
    for tracer in [CALLER, TRAMPOLINE] {
        let call = branch(0xe8, site(ENTRY), tracer);
        assert_eq!(poke(oracle, site(ENTRY), &NOP, &call), Ok(None));
        assert_eq!(poke(oracle, site(ENTRY), &call, &NOP), Ok(None));
    }
    let jump = branch(0xe9, site(LABEL), site(0x38));
    let key = Variable::Key(RunAddr(KEY));
    assert_eq!(poke(oracle, site(LABEL), &NOP, &jump), Ok(Some((key, 1))));
    assert_eq!(poke(oracle, site(LABEL), &jump, &NOP), Ok(Some((key, 0))));
    let call = |function| branch(0xe8, site(CALL), function);
    let calls = Variable::StaticCall(RunAddr(SCK));
    assert_eq!(poke(oracle, site(CALL), &call(FUNCTION), &call(OTHER)), Ok(Some((calls, OTHER))));
    assert_eq!(poke(oracle, site(CALL), &call(OTHER), &NOP), Ok(Some((calls, 0))));
    let locks = live.permits(&guest, RunAddr(site(LOCK)), &[0x3e], &[0xf0]).unwrap();
    assert_eq!((locks.rule, locks.step), (Rule::LockPrefix, Step::Whole));
    assert_eq!(locks.towards, Some((Variable::OneCpu, 0)));
}

#[test]
fn what_is_none_of_the_kernels_writes_is_refused_with_the_place() {
    let (guest, loaded, live) = machine();
    let site = |offset| loaded.at(0, offset);
    let refused = |offset: u64, old: &[u8], new: &[u8]| {
        live.permits(&guest, RunAddr(site(offset)), old, new).expect_err("nobody writes that")
    };
    let here = |offset| RunAddr(site(offset));
    // A breakpoint where the kernel changes nothing, and where it changes something else.
    assert_eq!(refused(8, &[0x90], &[TRAP]), Refusal::Elsewhere(here(8)));
    assert_eq!(refused(ENTRY + 1, &[0x1f], &[TRAP]), Refusal::Part(here(ENTRY)));
    // Calls of what traces nobody, of the middle of a function, jumps elsewhere.
    let call = |offset, to| branch(0xe8, site(offset), to);
    assert_eq!(refused(ENTRY + 1, &NOP[1..], &call(ENTRY, FUNCTION)[1..]), Refusal::New(here(ENTRY)));
    assert_eq!(
        refused(CALL + 1, &call(CALL, FUNCTION)[1..], &call(CALL, OTHER + 4)[1..]),
        Refusal::New(here(CALL))
    );
    let jump = branch(0xe9, site(LABEL), site(0x39));
    assert_eq!(refused(LABEL + 1, &NOP[1..], &jump[1..]), Refusal::New(here(LABEL)));
    // The right thing at once, and in another order.
    assert_eq!(refused(ENTRY, &NOP, &call(ENTRY, CALLER)), Refusal::Order(here(ENTRY)));
    assert_eq!(refused(ENTRY, &[0x0f], &[0xe8]), Refusal::Order(here(ENTRY)));
    // What is said to have been there cannot have been.
    assert_eq!(refused(ENTRY, &[0x55], &[TRAP]), Refusal::Old(here(ENTRY)));
    assert_eq!(refused(LOCK, &[0xf0], &[0x90]), Refusal::New(here(LOCK)));
    // A change of a site and of a byte behind it.
    let behind = [&NOP[..], &[0x90]].concat();
    let both = hex("cc 1f 44 00 00 c3");
    assert_eq!(refused(ENTRY, &behind, &both), Refusal::Elsewhere(here(5)));
    for (old, new) in [(&[][..], &[][..]), (&[0x90], &[]), (&[0; 5000], &[0; 5000])] {
        assert_eq!(refused(0, old, new), Refusal::NoWrite);
    }
}

#[test]
fn places_are_told_and_forgotten_with_their_memory() {
    let (_, loaded, mut live) = machine();
    let entry = RunAddr(loaded.at(0, ENTRY));
    assert_eq!(live.site(entry + 4), Some((entry, 5, Rule::Ftrace)));
    assert_eq!(live.site(entry + 5), None);
    live.forget(&(entry..entry + 0x20));
    assert_eq!(live.sites().map(|(at, ..)| at.0 - entry.0).collect::<Vec<_>>(), [CALL, LOCK]);
}
