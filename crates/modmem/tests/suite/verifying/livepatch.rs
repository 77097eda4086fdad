//! What livepatch does to its modules itself: `.klp.rela.*` sections with `.klp.sym.*` symbols.
//!
//! Text begins at 0xffffffffc0001000.

use modmem::MemoryKind;
use modmem::verify::Rule;

use crate::verifying::guest::{Guest, assert_clean, assert_not_as, the_unexplained};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, Patched};

const FUNCTION: u64 = 0xffff_ffff_8100_0100;
/// A function of a module that may come and go, and that module.
const OTHER: u64 = 0xffff_ffff_c080_0040;
const OBJECT: &str = "object";

/// Where the calls are, and what they are when both functions are there.
const CALL: u64 = 0;
const OTHER_CALL: u64 = 8;
const OF_FUNCTION: &str = "e8 fb f0 ff c0";
const OF_OTHER: &str = "e8 33 f0 7f 00";
const OF_NONE: &str = "e8 00 00 00 00";

/// A livepatch module that calls a function of the kernel and one of a module; and where its symbols' values are.
fn machine(object: bool) -> (Guest, Loaded, [u64; 2]) {
    let mut module = Module::new("6.12");
    module.livepatch = true;
    let section = module.text("e8 00 00 00 00 90 90 90 e8 00 00 00 00 c3");
    module.patched = vec![
        Patched { object: "vmlinux", section, offset: CALL + 1, symbol: ".klp.sym.vmlinux.function,0" },
        Patched { object: OBJECT, section, offset: OTHER_CALL + 1, symbol: ".klp.sym.object.other,1" },
    ];
    let mut guest = Guest::new();
    guest.function("function", FUNCTION);
    guest.function("another", FUNCTION + 0x100);
    if object {
        guest.module_symbol_at(OBJECT, "other", OTHER, true);
        guest.module_symbol_at(OBJECT, "another", OTHER + 0x100, true);
    }
    // The loader knows none of these names.
    let loaded = guest.load(&module);
    let (_, this_module) =
        *loaded.sections.iter().find(|(name, _)| *name == ".gnu.linkonce.this_module").unwrap();
    // Behind `struct module`, the empty symbol and that of the section.
    let values = [2, 3].map(|index| this_module + 0x500 + index * 24 + 8);
    (guest, loaded, values)
}

/// The same when livepatch has done its work.
fn patched(object: bool) -> (Guest, Loaded, [u64; 2]) {
    let (mut guest, loaded, values) = machine(object);
    guest.code(loaded.at(0, CALL), OF_FUNCTION);
    guest.write(values[0], &FUNCTION.to_le_bytes());
    if object {
        guest.code(loaded.at(0, OTHER_CALL), OF_OTHER);
        guest.write(values[1], &OTHER.to_le_bytes());
    }
    (guest, loaded, values)
}

#[test]
fn what_belongs_to_the_kernel_and_to_modules_that_are_there_is_applied() {
    let (guest, loaded, _) = patched(true);
    let report = guest.verify(&loaded);
    assert_clean(&report);
    assert_eq!(report.total().unproven_bytes(), 0);
    assert!(report.total().explained_by(Rule::Livepatch) > 8);
    let (guest, loaded, _) = machine(true);
    assert!(!guest.verify(&loaded).is_clean());
}

#[test]
fn what_belongs_to_a_module_that_is_not_there_waits() {
    let (mut guest, loaded, values) = patched(false);
    assert_clean(&guest.verify(&loaded));
    // It was there once: livepatch has cleared the code and not the symbol.
    guest.write(values[1], &OTHER.to_le_bytes());
    assert_clean(&guest.verify(&loaded));
    guest.code(loaded.at(0, OTHER_CALL), OF_OTHER);
    assert!(!guest.verify(&loaded).is_clean());
}

#[test]
fn another_function_is_found() {
    for (call, code) in [(CALL, "e8 fb f1 ff c0"), (OTHER_CALL, "e8 33 f1 7f 00"), (OTHER_CALL, OF_NONE)] {
        let (mut guest, loaded, _) = patched(true);
        guest.code(loaded.at(0, call), code);
        assert_not_as(&guest.verify(&loaded), Rule::Livepatch);
    }
    // And a symbol that is that of another function: its code follows.
    for (at, value) in [(0, FUNCTION + 0x100), (1, OTHER + 0x100)] {
        let (mut guest, loaded, values) = patched(true);
        guest.write(values[at], &value.to_le_bytes());
        let report = guest.verify(&loaded);
        assert_eq!(the_unexplained(&report).kind, MemoryKind::Data);
    }
}
