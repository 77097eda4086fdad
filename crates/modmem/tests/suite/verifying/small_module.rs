//! One module with a place for most rules, on a machine whose memory says all that decides.
//!
//! Text begins at 0xffffffffc0001000; code was assembled with GNU as.

use modmem::MemoryKind;

use crate::verifying::guest::Guest;
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, hex};

const SMAP: u16 = 9 * 32 + 20;
const RETHUNK: u16 = 11 * 32 + 14;
pub(crate) const FUNCTION: u64 = 0xffff_ffff_8100_0100;

/// Sections of the module, in the order in which they are added.
pub(crate) const TEXT: usize = 0;
pub(crate) const TABLE_OF_FUNCTIONS: usize = 2;
pub(crate) const EX_TABLE: usize = 6;
pub(crate) const INIT_TEXT: usize = 9;
pub(crate) const INIT_RODATA: usize = 10;

/// What is where in text.
pub(crate) const ENTRY: u64 = 0;
pub(crate) const CALL: u64 = 5;
pub(crate) const LABEL: u64 = 0x13;
pub(crate) const STATIC_CALL: u64 = 0x18;
pub(crate) const ALTERNATIVE: u64 = 0x1d;
pub(crate) const LOCK: u64 = 0x0a;

/// In the file: a call of the tracer, a call, three locked instructions, a branch on a static key, a static call, a
/// place for `stac` and a return.
const FILE: &str = "e8 00 00 00 00 e8 00 00 00 00 f0 ff 07 f0 ff 07 f0 ff 07 0f 1f 44 00 00 e8 00 00 00 00 90 90 90 \
    e9 00 00 00 00 c3";
/// In the guest: nobody traces, the branch is not taken, the static call has its function, returns have their thunk.
const PATCHED: &str = "0f 1f 44 00 00 e8 f6 f0 ff c0 f0 ff 07 f0 ff 07 f0 ff 07 0f 1f 44 00 00 e8 e3 f1 ff c0 \
    0f 01 cb e9 db ef ef c1 c3";

pub(crate) fn module(version: &'static str, live: bool) -> Module {
    let mut module = Module::new(version);
    module.live = live;
    let text = module.text(FILE);
    module.branch(text, 1, "__fentry__");
    module.branch(text, 6, "function");
    module.branch(text, 0x19, "__SCT__tested");
    module.branch(text, 0x21, "__x86_return_thunk");
    let replacement = module.add(".altinstr_replacement", MemoryKind::Text, &hex("0f 01 cb"));
    let functions = module.add_aligned(".rodata", MemoryKind::RoData, 32, &[0; 24]);
    module.address(functions, 0, text, ENTRY);
    module.address(functions, 16, text, CALL);
    let entry = if version == "6.1" {
        hex("00 00 00 00 00 00 00 00 34 01 03 03")
    } else {
        hex("00 00 00 00 00 00 00 00 34 01 00 00 03 03")
    };
    assert_eq!(SMAP.to_le_bytes(), [0x34, 0x01]);
    let alternatives = module.add(".altinstructions", MemoryKind::RoData, &entry);
    module.distance(alternatives, 0, text, ALTERNATIVE);
    module.distance(alternatives, 4, replacement, 0);
    module.sites(".smp_locks", text, &[LOCK, LOCK + 3, LOCK + 6]);
    module.sites(".return_sites", text, &[0x20]);
    let exceptions = module.add_aligned("__ex_table", MemoryKind::RoData, 4, &[0; 24]);
    for (at, insn) in [(0, 8), (12, 12)] {
        module.distance(exceptions, at, text, insn);
        module.distance(exceptions, at + 4, text, 0x25);
    }
    let entries = module.add_aligned("__mcount_loc", MemoryKind::RoData, 8, &[0; 8]);
    module.address(entries, 0, text, ENTRY);
    let note = "04 00 00 00 04 00 00 00 03 00 00 00 47 4e 55 00 ab cd ef 01";
    module.add_aligned(".note.gnu.build-id", MemoryKind::RoData, 4, &hex(note));
    let init = module.add_aligned(".init.text", MemoryKind::InitText, 16, &hex("f3 0f 1e fa c3"));
    module.add(".init.rodata", MemoryKind::InitRoData, b"init");
    module.add(".init.data", MemoryKind::InitData, &[7; 4]);
    module.sites(".ibt_endbr_seal", init, &[0]);
    let labels = module.add_aligned("__jump_table", MemoryKind::RoAfterInit, 8, &[0; 16]);
    module.distance(labels, 0, text, LABEL);
    module.distance(labels, 4, text, 0x25);
    module.distance64_to_kernel(labels, 8, "kernel_key", 0);
    let kind = if version == "7.2" { MemoryKind::RoAfterInit } else { MemoryKind::Data };
    let calls = module.add_aligned(".static_call_sites", kind, 4, &[0; 8]);
    module.distance(calls, 0, text, STATIC_CALL);
    module.distance_to_kernel(calls, 4, "__SCK__tested", 0);
    module.symbol("tested_function", 2, text, ENTRY);
    module
}

/// The machine with the module, all of it as it should be.
pub(crate) fn pristine(version: &'static str, live: bool) -> (Guest, Loaded) {
    let mut guest = Guest::new();
    guest.cpu(&[SMAP, RETHUNK]);
    guest.function("function", FUNCTION);
    guest.function("other_function", FUNCTION + 0x100);
    guest.function("__fentry__", 0xffff_ffff_8108_0000);
    guest.function("ftrace_caller", 0xffff_ffff_8108_0100);
    guest.function("__SCT__tested", 0xffff_ffff_8100_0600);
    guest.function("__x86_return_thunk", 0xffff_ffff_81f0_0000);
    guest.variable("x86_return_thunk", 0xffff_ffff_8310_0000, Some(&0xffff_ffff_81f0_0000_u64.to_le_bytes()));
    guest.variable("kernel_key", 0xffff_ffff_8260_0000, Some(&[0; 16]));
    guest.variable("__SCK__tested", 0xffff_ffff_8270_0000, Some(&(FUNCTION + 0x100).to_le_bytes()));
    let loaded = guest.load(&module(version, live));
    guest.code(loaded.at(TEXT, 0), PATCHED);
    if !live {
        guest.code(loaded.at(INIT_TEXT, 0), if version == "7.2" { "0f 1f 40 d6" } else { "66 0f 1f 00" });
    }
    (guest, loaded)
}
